"""Early stopping by a moving average of the score and by the loss; it keeps the model of the best average."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from hydra_preflight.errors import ConfigError
from hydraudio.tasks.emotion.early_stop_rule import HybridRule, Reason, Verdict

log = logging.getLogger(__name__)

DEFAULT_WINDOW = 5
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
        window: validations in the average; None = 5.
        ratio: above 1.
        min_delta: what the average has to grow by.
        strict: stop at the first validation that fails. False: at the `patience`-th in a row.
        patience: with ``strict=False``, validations in a row without a new best or with too high a loss after which
            training stops. With ``strict=True`` it is a deprecated name of `window` and never means epochs to wait.
    """

    def __init__(
        self,
        dirpath: str,
        monitor: str = "val/macro_f1",
        loss: str = "val/loss",
        window: int | None = None,
        ratio: float = 1.05,
        min_delta: float = 0.0,
        strict: bool = True,
        patience: int | None = None,
    ) -> None:
        if strict:
            window, n_failures = _window(window, patience), 1
        elif patience is None:
            raise ValueError(
                "strict=false needs patience: the number of validations in a row without a new best average (or with "
                "too high a loss) after which training stops"
            )
        else:
            n_failures = patience
        self.path = Path(dirpath) / "best.ckpt"
        self.monitor, self.loss = monitor, loss
        self.rule = HybridRule(DEFAULT_WINDOW if window is None else window, ratio, min_delta, n_failures)
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
                "This run was stopped after validation %d (%s) and stays so. To train on regardless, leave the "
                "callback out (callbacks.hybrid_early_stopping=null), or start a run of its own with init_from=FILE",
                self.rule.n_events,
                self.stop_reason,
            )
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
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


def _window(window: int | None, patience: int | None) -> int | None:
    """The window of the strict rule; `patience` is its deprecated name."""
    if patience is None:
        return window
    used = f"window={window} is used" if window is not None else f"it is taken as window={patience}"
    message = (
        f"callbacks.hybrid_early_stopping.patience={patience} is a deprecated name of `window`, the number of "
        f"validations that are averaged; {used}. It never means epochs to wait: training stops at the first validation "
        "that fails. To wait, give strict=false as well"
    )
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    log.warning(message)
    return patience if window is None else window


def _found(here: Path, recorded: Path) -> str:
    """The best checkpoint of a resumed run: in this run's folder, else where it was written."""
    for path in (here, recorded):
        if path.is_file():
            return str(path)
    log.warning("The best checkpoint %s is gone; the next best model will be saved as %s", recorded, here)
    return ""
