"""Reports to a hyper-parameter search while a trial runs, and stops the trials that its pruner gives up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from hydra_preflight.errors import ConfigError
from hydraudio.core.trial import TrialPruned, running_trial

if TYPE_CHECKING:
    from optuna.trial import Trial


class TrialPruning(Callback):
    """Report a metric after every validation; raise `TrialPruned` when the pruner gives the trial up.

    The step of a report, which is the resource of Hyperband and of successive halving and the step of a median
    pruner, is the number of validations so far, from 1: with one validation per epoch, the number of epochs. A metric
    that is NaN or infinite ends the trial.

    It needs the sweeper ``hydra/sweeper=optuna_pruning``, which sets the trial, and one process per trial.

    Args:
        monitor: name of the metric, higher or lower is better as ``hydra.sweeper.direction`` says.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._trial: Trial | None = None
        self._n_validations = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._trial = running_trial()
        if self._trial is None:
            raise ConfigError(
                "callbacks.pruning: this process runs no trial. Start a search (-m) with hydra/sweeper=optuna_pruning "
                "and one process per trial, or leave the callback out: ~callbacks.pruning"
            )
        self._n_validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        assert self._trial is not None
        self._n_validations += 1
        value = self._value(trainer)
        if not math.isfinite(value):
            raise TrialPruned(f"{self.monitor} is {value} after validation {self._n_validations}")
        self._trial.report(value, step=self._n_validations)
        if self._trial.should_prune():
            raise TrialPruned(f"pruned after validation {self._n_validations} with {self.monitor} = {value:.4g}")

    def _value(self, trainer: Trainer) -> float:
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"callbacks.pruning.monitor: there is no metric {self.monitor!r}; there are {names}")
        return float(trainer.callback_metrics[self.monitor])
