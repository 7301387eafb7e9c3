"""Progress bar of training, validation and testing."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class RunProgressBar(RichProgressBar):
    """Show Lightning's Rich progress bar with the headline of the run.

    Left out is the logger's version, which is the same word in every run folder.

    Args:
        monitor: name of the metric that is shown after each validation; None shows none.
        refresh_rate: batches between two drawings.
    """

    def __init__(self, monitor: str | None = None, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.monitor = monitor

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self.monitor in trainer.callback_metrics:
            metrics[self.monitor] = float(trainer.callback_metrics[self.monitor])
        return metrics
