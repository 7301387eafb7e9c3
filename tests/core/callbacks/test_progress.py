"""Without a terminal every epoch is a line of the log; with one it is a bar."""

from __future__ import annotations

import logging
import re

import lightning.pytorch as pl
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from hydraudio.core.callbacks import progress
from hydraudio.core.callbacks.progress import RunProgressBar


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/score", 0.25)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(monkeypatch, in_terminal: bool, max_epochs: int = 3) -> RunProgressBar:
    monkeypatch.setattr(progress, "get_console", lambda: Console(force_terminal=in_terminal))
    bar = RunProgressBar("val/score")
    loader = DataLoader(torch.ones(4, 2), batch_size=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    pl.Trainer(max_epochs=max_epochs, callbacks=[bar], num_sanity_val_steps=0, **quiet).fit(Net(), loader, loader)
    return bar


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == progress.__name__]


def test_a_line_per_epoch_without_a_terminal(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger=progress.__name__):
        bar = fit(monkeypatch, in_terminal=False)
    assert bar.is_disabled
    assert len(lines(caplog)) == 3
    for number, line in enumerate(lines(caplog), 1):
        assert re.fullmatch(rf"Epoch {number}/3: train/loss [\d.e-]+, val/score 0.25, 0:00:\d\d left", line)
    assert lines(caplog)[-1].endswith("0:00:00 left")


def test_a_bar_in_a_terminal(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger=progress.__name__):
        bar = fit(monkeypatch, in_terminal=True, max_epochs=1)
    assert bar.is_enabled
    assert lines(caplog) == []
