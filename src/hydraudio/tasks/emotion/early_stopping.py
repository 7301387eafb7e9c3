"""Early stopping by a moving average of the score and by the loss; it keeps the model of the best average."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from hydra_preflight.errors import ConfigError
from hydraudio.core.options import check_sizes

log = logging.getLogger(__name__)

_WORDS: dict[Reason, str] = {
    "loss": "the loss is above the threshold",
    "smoothed_f1": "the moving average of the score has not grown",
    "non_finite": "the loss or the score is NaN or infinite",
}


class HybridEarlyStopping(Checkpoint):
    """Write ``best.ckpt`` whenever :class:`HybridRule` says so, and end the training when it says so.

    It is the checkpoint callback of the run: what it saved last is tested after training, never the weights in
    memory. Every validation of the fit counts as one event, several in an epoch too; the sanity check does not. Its
    state lies in every checkpoint, so that a resumed run decides as the uninterrupted one; a run that was stopped stays
    stopped. Processes agree: both numbers are averaged over them, and all decide on what the first one got.

    Logged: ``val/smoothed_f1`` and ``val/best_smoothed_f1`` (of another metric: its name), ``val/min_loss`` and
    ``val/loss_threshold``.

    Args:
        dirpath: folder of ``best.ckpt``.
        monitor: metric whose moving average counts, higher is better.
        loss: metric that must not rise above ``ratio`` times its minimum.
        window: of the rule, :class:`HybridRule`; likewise `ratio`, `min_delta` and `patience`, with 1 as published.
    """

    def __init__(
        self,
        dirpath: str,
        monitor: str = "val/macro_f1",
        loss: str = "val/loss",
        window: int = 5,
        ratio: float = 1.05,
        min_delta: float = 0.0,
        patience: int = 1,
    ) -> None:
        self.path = Path(dirpath) / "best.ckpt"
        self.monitor, self.loss = monitor, loss
        self.rule = HybridRule(window, ratio, min_delta, patience)
        self.best_model_path = ""
        self.best_model_score: Tensor | None = None

    @property
    def stop_reason(self) -> Reason | None:
        """``loss``, ``smoothed_f1`` or ``non_finite``; None while nothing has stopped the training."""
        return self.rule.stop

    @property
    def state_key(self) -> str:
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        score = None if self.best_model_score is None else float(self.best_model_score)
        return {**self.rule.state_dict(), "best_model_path": self.best_model_path, "best_model_score": score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rule.load_state_dict(state_dict)
        score = state_dict["best_model_score"]
        self.best_model_score = None if score is None else torch.tensor(score, dtype=torch.float64)
        if state_dict["best_model_path"]:
            self.best_model_path = _found(self.path, Path(state_dict["best_model_path"]))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stop_reason is not None:
            log.warning(
                "This run was stopped after validation %d (%s) and stays so. To train on regardless, give it more "
                "patience, leave the callback out (callbacks.hybrid_early_stopping=null), or start "
                "a run of its own with init_from=FILE",
                self.rule.n_events,
                self.stop_reason,
            )
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not fitting or trainer.sanity_checking or getattr(trainer, "fast_dev_run", False):
            return
        if self.stop_reason is None:  # otherwise min_epochs or min_steps keep the training going
            loss, score = self._values(trainer)
            verdict = self.rule.update(loss, score)
            self._log(trainer, verdict)
            if verdict.save:
                self._save(trainer, score)
            if verdict.stop is not None:
                self._announce(verdict.stop, loss, score)
        trainer.should_stop = trainer.should_stop or self.stop_reason is not None

    def _values(self, trainer: Trainer) -> tuple[float, float]:
        """Loss and score of this validation, the same in all processes."""
        missing = [name for name in (self.loss, self.monitor) if name not in trainer.callback_metrics]
        if missing:
            names = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"callbacks.hybrid_early_stopping: there is no metric {missing[0]!r}; there are {names}")
        values = [trainer.callback_metrics[name].detach() for name in (self.loss, self.monitor)]
        if trainer.world_size > 1:
            values = [trainer.strategy.reduce(value.clone(), reduce_op="mean") for value in values]
        loss, score = trainer.strategy.broadcast([float(value) for value in values])
        return loss, score

    def _log(self, trainer: Trainer, verdict: Verdict) -> None:
        score = self.monitor.rpartition("/")[2].removeprefix("macro_")
        metrics = {
            f"val/smoothed_{score}": verdict.smoothed,
            f"val/best_smoothed_{score}": self.rule.best,
            "val/min_loss": self.rule.min_loss,
            "val/loss_threshold": self.rule.loss_threshold,
        }
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    def _save(self, trainer: Trainer, score: float) -> None:
        self.best_model_path = str(self.path)  # before writing: the file holds the state of this callback, too
        self.best_model_score = torch.tensor(score, dtype=torch.float64)
        trainer.save_checkpoint(self.path)

    def _announce(self, reason: Reason, loss: float, score: float) -> None:
        rule = self.rule
        log.info(
            "Stopped at validation %d (%s): %s. %s=%.4g (threshold %.4g), %s=%.4g; the best average is %.4g, of "
            "validation %d.",
            rule.n_events + (reason == "non_finite"),
            reason,
            _WORDS[reason],
            self.loss,
            loss,
            rule.loss_threshold,
            self.monitor,
            score,
            rule.best,
            rule.best_event,
        )


def _found(here: Path, recorded: Path) -> str:
    """The best checkpoint of a resumed run: in this run's folder, else where it was written."""
    for path in (here, recorded):
        if path.is_file():
            return str(path)
    log.warning("The best checkpoint %s is gone; the next best model will be saved as %s", recorded, here)
    return ""


TOLERANCE = 1e-12
"""Two means that differ by less are equal: three times 0.1 averages to 0.10000000000000002."""

Reason = Literal["loss", "smoothed_f1", "non_finite"]


class Verdict(NamedTuple):
    """What follows from one validation.

    Attributes:
        smoothed: mean of the last scores; NaN where a value was not finite.
        save: this model is the best so far.
        stop: why training ends; None where it goes on.
    """

    smoothed: float
    save: bool
    stop: Reason | None


_STATE = ("scores", "min_loss", "best", "best_event", "failures_in_a_row", "stop")
"""Attributes of a rule that later decisions depend on."""


class HybridRule:
    """Save while the moving average of the score grows; stop when it does not, or when the loss has risen.

    At validation t = 1, 2, ... with the loss L_t and the score f_t, in this order:

    1. s_t = mean of the last min(t, window) scores;
    2. m = min(m, L_t): the current loss is included;
    3. L_t > m + (ratio - 1) |m|: stop with the reason ``loss``, and save nothing. For positive losses this is
       L_t > ratio m; a negative m would move the other way. Equality does not stop;
    4. s_t > b + min_delta: b = s_t, save;
    5. else (a tie, too): stop with the reason ``smoothed_f1``.

    b is -inf at the beginning, so that the first model is saved whatever its score. A loss or a score that is NaN or
    infinite stops with the reason ``non_finite`` and changes nothing else.

    Args:
        window: scores in the mean, at least 1.
        ratio: above 1.
        min_delta: what the mean has to grow by, at least 0.
        patience: validations in a row with outcome 3 or 5 after which training stops; 1 = at the first. A
            validation with outcome 4 sets the count back.

    >>> rule = HybridRule(window=2)
    >>> [rule.update(loss, score).save for loss, score in [(1.0, 0.2), (0.9, 0.4)]]
    [True, True]
    >>> rule.update(loss=1.2, score=0.5).stop  # the loss is more than 5 % above its minimum
    'loss'
    """

    def __init__(self, window: int = 5, ratio: float = 1.05, min_delta: float = 0.0, patience: int = 1) -> None:
        check_sizes(window=window, patience=patience)
        if not ratio > 1 or math.isinf(ratio):
            raise ValueError(f"ratio={ratio} must be a number above 1: the loss may rise by the factor `ratio`")
        if not min_delta >= 0 or math.isinf(min_delta):
            raise ValueError(f"min_delta={min_delta} must be a number that is not negative")
        self.window, self.ratio, self.min_delta, self.patience = window, ratio, min_delta, patience
        self.scores: list[float] = []
        self.min_loss = math.inf
        self.best = -math.inf
        self.best_event = 0
        self.failures_in_a_row = 0
        self.stop: Reason | None = None

    @property
    def n_events(self) -> int:
        """Validations so far, t."""
        return len(self.scores)

    @property
    def loss_threshold(self) -> float:
        """Largest loss that does not stop; infinite before the first validation."""
        if math.isinf(self.min_loss):
            return math.inf
        return self.min_loss + (self.ratio - 1) * abs(self.min_loss)

    def update(self, loss: float, score: float) -> Verdict:
        """Take the loss and the score of one validation.

        Raises:
            RuntimeError: the rule has stopped already.
        """
        if self.stop is not None:
            raise RuntimeError(f"the rule stopped at validation {self.n_events} with the reason {self.stop}")
        if not (math.isfinite(loss) and math.isfinite(score)):
            self.stop = "non_finite"
            return Verdict(math.nan, save=False, stop=self.stop)
        self.scores.append(score)
        recent = self.scores[-self.window :]
        smoothed = math.fsum(recent) / len(recent)
        self.min_loss = min(self.min_loss, loss)
        failure = self._failure(loss, smoothed)
        if failure is None:
            self.best, self.best_event, self.failures_in_a_row = smoothed, self.n_events, 0
            return Verdict(smoothed, save=True, stop=None)
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= self.patience:
            self.stop = failure
        return Verdict(smoothed, save=False, stop=self.stop)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later decisions depend on, in plain types."""
        return {name: getattr(self, name) for name in _STATE} | {"scores": list(self.scores)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned; with more patience than then, a stop is no more."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.scores = list(state["scores"])
        if self.failures_in_a_row < self.patience and state["stop"] != "non_finite":
            self.stop = None

    def _failure(self, loss: float, smoothed: float) -> Reason | None:
        if loss > self.loss_threshold + TOLERANCE * max(1.0, abs(self.min_loss)):
            return "loss"
        if smoothed > self.best + self.min_delta + TOLERANCE:
            return None
        return "smoothed_f1"
