"""What is trained: the parts of the task, their parameters, and what they compute per second of audio."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities import rank_zero_only
from rich import get_console
from rich.table import Table

from hydraudio.core.task import Task, as_task
from hydraudio.nn.complexity import count_macs


class RunModelSummary(ModelSummary):
    """Print a table before a training: each part of the task with its trainable and frozen parameters, and the MACs.

    Multiply-accumulate operations are counted for a forward pass over one second of audio
    (:func:`hydraudio.nn.complexity.count_macs`), where one waveform is what the task reads. It takes the place of
    Lightning's summary, which needs an example of the input for this.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print it now: later the networks may be compiled, or divided among devices."""
        if stage == "fit":
            _print(as_task(pl_module))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out Lightning's own."""


@rank_zero_only
def _print(task: Task) -> None:
    table = Table()
    for title in ("part", "network"):
        table.add_column(title)
    for title in ("trainable", "frozen"):
        table.add_column(title, justify="right")
    for name, network in task.networks().items():
        trainable, frozen = (
            sum(p.numel() for p in network.parameters() if p.requires_grad is wanted) for wanted in (True, False)
        )
        table.add_row(name, type(network).__name__, f"{trainable:,}", f"{frozen:,}")
    get_console().print(table)
    if task.spec.signal:
        macs = count_macs(task.export_module().module, task.sample_rate)
        get_console().print(f"{macs / 1e9:.3f} G MACs per second of audio at {task.sample_rate} Hz")
