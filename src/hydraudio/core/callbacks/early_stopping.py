"""Early stopping that stays what it decided."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

log = logging.getLogger(__name__)

_SETTINGS = ("patience", "min_delta", "stopping_threshold", "divergence_threshold", "check_finite")


class EarlyStopping(LightningEarlyStopping):
    """Lightning's early stopping; a run that it has stopped stays so when it is continued, with the same settings.

    With other settings the new ones count: a run that has waited less than the new patience trains on.
    """

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **{name: getattr(self, name) for name in _SETTINGS}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        patience = self.patience
        super().load_state_dict(state_dict)
        self.patience = patience
        if any(getattr(self, name) != state_dict.get(name) for name in _SETTINGS) and self.wait_count < patience:
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        """Say why a run ends, which Lightning does only when it also reports every improvement."""
        should_stop, reason = super()._evaluate_stopping_criteria(current)
        if should_stop:
            log.info("%s", reason)
        return should_stop, reason

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopping_reason == EarlyStoppingReason.NOT_STOPPED and self.wait_count < self.patience:
            return
        log.warning(
            "This run was stopped in epoch %d (%s: %d validations without improvement) and stays so. To train on, give "
            "callbacks.early_stopping.patience=N above that, or leave the callback out: callbacks.early_stopping=null",
            self.stopped_epoch,
            self.stopping_reason.name.lower(),
            self.wait_count,
        )
        trainer.should_stop = True
