"""Curriculum: which variants are trained on, how fast, and from which epoch.

Bengio, Louradour, Collobert and Weston, "Curriculum Learning", ICML 2009.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from hydraudio.core.options import check_keys

log = logging.getLogger(__name__)

STATE_KEY = "hydraudio_curriculum"
"""Entry of a checkpoint."""

_NEVER = sys.maxsize
"""Epochs or steps between two steps of a scheduler that is off."""
_HELD = -2
"""Count of an early-stopping callback that one more bad epoch cannot bring to its patience."""

_PLATEAU_KEYS = ("patience", "min_delta", "mode")


@dataclass(frozen=True)
class Stage:
    """When a stage begins and what it sets; exactly one of `first_epoch` and `after_plateau_of` is given.

    Attributes:
        first_epoch: epoch at whose start it begins, counted from 0 like ``trainer.current_epoch``.
        after_plateau_of: metric of the validation; the stage begins with the epoch after the metric has failed, in
            `patience` validations in a row since the stage before began, to exceed its best of that stage.
        patience: see above.
        min_delta: by how much a value must be better than the best to count as better.
        mode: "max" where higher is better, "min" where lower is.
        variants: of the training items; None for all that the data allows.
        lr: learning rate of all parameter groups, set when the stage begins; None leaves it.
        scheduler: whether the learning-rate scheduler is stepped; None leaves that as it is (at first, it is).
    """

    first_epoch: int | None = None
    after_plateau_of: str | None = None
    patience: int = 3
    min_delta: float = 0.0
    mode: str = "max"
    variants: tuple[str, ...] | None = None
    lr: float | None = None
    scheduler: bool | None = None

    @property
    def beginning(self) -> str:
        """When it begins, in words."""
        if self.first_epoch is not None:
            return f"first_epoch={self.first_epoch}"
        return f"after_plateau_of={self.after_plateau_of}"

    def is_better(self, value: float, best: float | None) -> bool:
        """Say whether a value of the metric improves on the best so far; NaN never does."""
        if best is None or math.isnan(value):
            return not math.isnan(value)
        return value > best + self.min_delta if self.mode == "max" else value < best - self.min_delta

    def contents(self) -> dict[str, Any]:
        """Return the attributes in types that any checkpoint can hold."""
        return {**asdict(self), "variants": None if self.variants is None else list(self.variants)}


@runtime_checkable
class HasVariants(Protocol):
    """A datamodule whose training can be restricted to some variants of its items."""

    def set_training_variants(self, variants: Sequence[str] | None) -> None:
        """Take effect for loaders that are made afterwards; None for all that the data allows."""


class Curriculum(Callback):
    """Walks through stages of training.

    A stage begins at a given epoch (counted from 0) or after a metric has stopped improving. Stages are entered in
    their order; an epoch that has come passes over plateaus that have not. A stage applies from the first batch of an
    epoch: the training loader and its workers are made anew when the variants change, so that every process sees
    the change, and rows that no variant fits are left out, which changes the length of the epoch. Validation stays
    as it is, so its metrics can be compared over all stages.

    - ``lr`` sets the rate of all parameter groups. A scheduler goes on from there: one that multiplies the rate
      (plateau) multiplies the given one, one that computes it from a base rate (cosine) has its base scaled alike.
    - ``scheduler: off`` freezes it: no steps, no patience counted. ``on`` lets it continue where it stood.
    - Early stopping does not count before the last stage.
    - A schedule over the whole training (``warmup_cosine``) is as long as if all epochs were like those of the first
      stage; with epochs of different length give it ``n_steps``.

    Each change is one line of the log; ``curriculum/stage`` (from 0) is logged per epoch. A checkpoint holds the stage
    and the plateau's count, and continues exactly; the stages up to the one that it is in must be the same.

    Args:
        stages: mappings with the attributes of :class:`Stage`.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]]) -> None:
        self.stages = parse_stages(stages)
        self._frequencies: list[int] = []
        self._n_batches: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._stage = 0  # of the epoch; at the end of one, of the next
        self._entered = -1  # the last one whose learning rate and scheduler were set
        self._scheduler_on = True
        self._best: float | None = None  # of the metric whose plateau is waited for
        self._n_bad = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        _datamodule(trainer)
        for number, planned in enumerate(self.stages):
            if planned.after_plateau_of is not None and not trainer.enable_validation:
                raise ValueError(
                    f"stages[{number}]: {planned.beginning}, but there is no validation; "
                    "set trainer.limit_val_batches=null, or give the stage a first_epoch"
                )
        self._reset()
        for number in reversed(range(len(self.stages))):  # the last one tried is the first one used
            self._set_variants(trainer, number)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint.get(STATE_KEY)
        if state is None:
            raise ValueError(
                f"{trainer.ckpt_path} was trained without callbacks.curriculum, so there is no stage to continue; "
                "start from its weights instead (init_from=FILE)"
            )
        ours = [stage.contents() for stage in self.stages]
        for number in range(state["stage"] + 1):
            if ours[number : number + 1] != state["stages"][number : number + 1]:
                raise ValueError(
                    f"{trainer.ckpt_path} is in stage {state['stage']}, but stages[{number}] differs from what it was "
                    f"trained with, {state['stages'][number]}; only later stages can be changed"
                )
        self._stage, self._entered, self._scheduler_on = state["stage"], state["entered"], state["scheduler_on"]
        self._best, self._n_bad = state["best"], state["n_bad"]
        self._set_variants(trainer, self._stage)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE_KEY] = {
            "stages": [stage.contents() for stage in self.stages],
            "stage": self._stage,
            "entered": self._entered,
            "scheduler_on": self._scheduler_on,
            "best": self._best,
            "n_bad": self._n_bad,
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._frequencies = [config.frequency for config in trainer.lr_scheduler_configs]
        self._switch_scheduler(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._entered != self._stage:
            self._enter(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._hold_early_stopping(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        for number, stage in enumerate(self.stages):
            if stage.after_plateau_of is not None and stage.after_plateau_of not in trainer.callback_metrics:
                raise ValueError(
                    f"stages[{number}]: after_plateau_of={stage.after_plateau_of}: validation gives no such metric; "
                    f"choose one of {', '.join(sorted(trainer.callback_metrics))}"
                )
        awaited = self._awaited_plateau()
        if awaited is not None and awaited.after_plateau_of is not None:
            value = float(trainer.callback_metrics[awaited.after_plateau_of])
            self._count(awaited, trainer.strategy.broadcast(value))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("curriculum/stage", float(self._stage), on_step=False, on_epoch=True, batch_size=1)
        self._hold_early_stopping(trainer)
        following = self._following_stage(trainer.current_epoch + 1)
        if following == self._stage:
            return
        same_variants = self.stages[following].variants == self.stages[self._stage].variants
        self._stage, self._best, self._n_bad = following, None, 0
        if not same_variants:
            self._set_variants(trainer, following)
            _forget_train_loader(trainer)

    def _awaited_plateau(self) -> Stage | None:
        """The next stage, if it is a plateau that it waits for."""
        following = self.stages[self._stage + 1 : self._stage + 2]
        return following[0] if following and following[0].after_plateau_of is not None else None

    def _count(self, awaited: Stage, value: float) -> None:
        if awaited.is_better(value, self._best):
            self._best, self._n_bad = value, 0
        else:
            self._n_bad += 1

    def _following_stage(self, epoch: int) -> int:
        """The stage of an epoch that is about to begin."""
        begun = [
            n for n, stage in enumerate(self.stages) if stage.first_epoch is not None and stage.first_epoch <= epoch
        ]
        awaited = self._awaited_plateau()
        after_plateau = self._stage + (awaited is not None and self._n_bad >= awaited.patience)
        return max(begun[-1], after_plateau)

    def _set_variants(self, trainer: Trainer, number: int) -> None:
        try:
            _datamodule(trainer).set_training_variants(self.stages[number].variants)
        except ValueError as error:
            raise ValueError(f"callbacks.curriculum.stages[{number}]: {error}") from error

    def _enter(self, trainer: Trainer) -> None:
        stage = self.stages[self._stage]
        self._entered = self._stage
        if stage.scheduler is not None:
            self._scheduler_on = stage.scheduler
        if stage.lr is not None:
            set_learning_rate(trainer, stage.lr)
        self._switch_scheduler(trainer)
        if self._stage == len(self.stages) - 1:
            for callback in trainer.early_stopping_callbacks:
                callback.wait_count = 0
        if trainer.is_global_zero:
            self._announce(trainer)

    def _announce(self, trainer: Trainer) -> None:
        stage, n_batches = self.stages[self._stage], trainer.num_training_batches
        log.info(
            "Curriculum: stage %d (of 0 to %d) begins with epoch %d: variants %s, learning rate %s, scheduler %s, "
            "%s batches per epoch.",
            self._stage,
            len(self.stages) - 1,
            trainer.current_epoch,
            "all" if stage.variants is None else " ".join(stage.variants),
            ", ".join(f"{rate:g}" for rate in _learning_rates(trainer)),
            "on" if self._scheduler_on else "off",
            n_batches,
        )
        by_step = any(config.interval == "step" for config in trainer.lr_scheduler_configs)
        if by_step and self._n_batches not in (None, n_batches):
            log.warning(
                "Curriculum: epochs have %s batches now and had %s: a schedule over the whole training ends at another "
                "epoch than the last unless model.scheduler.n_steps is given.",
                n_batches,
                self._n_batches,
            )
        self._n_batches = n_batches

    def _switch_scheduler(self, trainer: Trainer) -> None:
        for config, frequency in zip(trainer.lr_scheduler_configs, self._frequencies, strict=True):
            config.frequency = frequency if self._scheduler_on else _NEVER

    def _hold_early_stopping(self, trainer: Trainer) -> None:
        """Called before every check: what is awaited is not the end of training, but the next stage."""
        if self._stage < len(self.stages) - 1:
            for callback in trainer.early_stopping_callbacks:
                callback.wait_count = _HELD


def _datamodule(trainer: Trainer) -> HasVariants:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, HasVariants):
        raise ValueError(
            "callbacks.curriculum needs a datamodule with set_training_variants, such as data=separation/polsess; "
            "remove the callback or choose other data"
        )
    return data


def set_learning_rate(trainer: Trainer, lr: float) -> None:
    """Set the rate of all parameter groups, and scales the base rates that schedulers compute theirs from."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            current = float(group["lr"])
            if "initial_lr" in group:
                group["initial_lr"] = group["initial_lr"] * lr / current if current > 0 else lr
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = float(lr)
    for config in trainer.lr_scheduler_configs:
        scheduler: Any = config.scheduler
        groups = scheduler.optimizer.param_groups
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [group["initial_lr"] for group in groups]
        scheduler._last_lr = [group["lr"] for group in groups]


def _learning_rates(trainer: Trainer) -> list[float]:
    return sorted({float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups})


def _forget_train_loader(trainer: Trainer) -> None:
    """Stop the workers, and let the loop ask the datamodule for another loader before the next epoch."""
    loop = trainer.fit_loop
    if loop._data_fetcher is not None:
        loop._data_fetcher.teardown()
    loop._data_fetcher = loop._combined_loader = None


def parse_stages(stages: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """Return the stages from a list of mappings with the attributes of `Stage`.

    Raises:
        ValueError: with the number of the stage (from 0), what is wrong and what to write instead.
    """
    if isinstance(stages, str | Mapping) or not isinstance(stages, Sequence) or not stages:
        raise ValueError(f"stages={stages!r} must be a list with at least one stage, e.g. [{{first_epoch: 0}}]")
    parsed = [_parse_stage(number, options) for number, options in enumerate(stages)]
    if parsed[0].first_epoch != 0:
        raise ValueError(f"stages[0]: {parsed[0].beginning}, but the first stage must have first_epoch=0")
    epochs = [(number, stage.first_epoch) for number, stage in enumerate(parsed) if stage.first_epoch is not None]
    for (_, earlier), (number, later) in itertools.pairwise(epochs):
        if later <= earlier:
            raise ValueError(
                f"stages[{number}]: first_epoch={later} must be later than the {earlier} of the stage before; "
                "list the stages in the order of their epochs"
            )
    return parsed


def _parse_stage(number: int, options: Mapping[str, Any]) -> Stage:
    where = f"stages[{number}]"
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}: {options!r} must be a mapping, e.g. {{first_epoch: 0, variants: [C, R]}}")
    check_keys(f"{where}: ", options, [field.name for field in fields(Stage)])
    given = {name: value for name, value in options.items() if value is not None}
    if ("first_epoch" in given) == ("after_plateau_of" in given):
        raise ValueError(f"{where}: give either first_epoch or after_plateau_of (and not both)")
    useless = [name for name in _PLATEAU_KEYS if name in given and "first_epoch" in given]
    if useless:
        raise ValueError(f"{where}: {', '.join(useless)} has no effect with first_epoch; remove it")
    if "variants" in given:
        given["variants"] = _variants(given["variants"])
    if "scheduler" in given:
        given["scheduler"] = _switch(where, given["scheduler"])
    _check_numbers(where, given)
    return Stage(**given)


def _variants(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)


def _switch(where: str, value: object) -> bool:
    """YAML reads on and off as booleans, a command line as words."""
    switches = {"on": True, "off": False, True: True, False: False}
    if not isinstance(value, bool | str) or value not in switches:
        raise ValueError(f"{where}: scheduler={value!r} must be on, off or null (unchanged)")
    return switches[value]


def _check_numbers(where: str, given: Mapping[str, Any]) -> None:
    checks = {
        "first_epoch": (lambda value: isinstance(value, int) and value >= 0, "an epoch, counted from 0"),
        "patience": (lambda value: isinstance(value, int) and value >= 1, "a number of validations, at least 1"),
        "min_delta": (lambda value: value >= 0, "not negative"),
        "mode": (lambda value: value in ("max", "min"), "max or min"),
        "lr": (lambda value: 0 < value < math.inf, "a positive learning rate, or null to leave it"),
    }
    for name, (is_right, what) in checks.items():
        if name in given and not is_right(given[name]):
            raise ValueError(f"{where}: {name}={given[name]!r} must be {what}")
