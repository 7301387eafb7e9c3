"""Progress of training, validation and testing: a bar in a terminal, elsewhere a line per epoch in the log."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_only
from rich import get_console

log = logging.getLogger(__name__)


class RunProgressBar(RichProgressBar):
    """Show Lightning's Rich progress bar with the headline of the run.

    Left out is the logger's version, which is the same word in every run folder. Where the output is no terminal, such
    as under nohup or in a batch system, there is no bar, and every epoch is a line of the log: loss, headline, time
    left.

    Args:
        monitor: name of the metric that is shown after each validation; None shows none.
        refresh_rate: drawings per second, whatever the batches take; the bar shows a rate from the second batch on.
    """

    def __init__(self, monitor: str | None = None, refresh_rate: int = 2) -> None:
        self.in_terminal = get_console().is_terminal
        super().__init__(refresh_rate=refresh_rate if self.in_terminal else 0)
        self.monitor = monitor
        self._began_s = 0.0
        self._n_epochs = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began_s, self._n_epochs = time.monotonic(), 0
        super().on_train_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._n_epochs += 1
        if not self.in_terminal:
            self._log_epoch(trainer)

    @rank_zero_only
    def _log_epoch(self, trainer: Trainer) -> None:
        n_epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        number = f"{trainer.current_epoch + 1}/{n_epochs}" if n_epochs else str(trainer.current_epoch + 1)
        values = trainer.callback_metrics
        names = [name for name in ("train/loss", "val/loss", self.monitor) if name in values]
        shown = ", ".join(f"{name} {float(values[name]):.4g}" for name in dict.fromkeys(names))
        left = ""
        if n_epochs:
            per_epoch_s = (time.monotonic() - self._began_s) / self._n_epochs
            left = f", {timedelta(seconds=round(per_epoch_s * (n_epochs - trainer.current_epoch - 1)))} left"
        log.info("Epoch %s: %s%s", number, shown, left)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self.monitor in trainer.callback_metrics:
            metrics[self.monitor] = float(trainer.callback_metrics[self.monitor])
        return metrics
