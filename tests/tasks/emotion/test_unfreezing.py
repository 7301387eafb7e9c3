"""Gradual unfreezing by epoch, its optimizer, its refusals, and a continued run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hydraudio.tasks.emotion.unfreezing import GradualUnfreezing


class Blocks(nn.Module):
    """As much of an upstream as the callback needs."""

    n_blocks = 3

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.head = nn.Linear(2, 2)
        self.set_trainable(1)

    def set_trainable(self, n_blocks: int | str, extras: Any = ()) -> None:
        self.trained = 3 if n_blocks == "all" else n_blocks
        self.extras = list(extras)
        for i, block in enumerate(self.blocks):
            block.requires_grad_(i >= 3 - self.trained)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).tanh()
        return self.head(x)


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Module()
        self.net.upstream = Blocks()
        self.history: list[tuple[int, int, list[float]]] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        sums = [float(block.weight.detach().sum()) for block in self.net.upstream.blocks]
        self.history.append((self.current_epoch, self.net.upstream.trained, sums))
        return self.net.upstream(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)


def fit(max_epochs: int, ckpt_path: str | None = None, stages: Any = None) -> tuple[Module, pl.Trainer]:
    module = Module()
    callback = GradualUnfreezing(stages or {0: 0, 2: 1, 3: "all"})
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.linspace(-1, 1, 16).view(8, 2), batch_size=4)
    trainer.fit(module, loader, ckpt_path=ckpt_path, weights_only=False)
    return module, trainer


def test_blocks_follow_the_epoch_and_a_continued_run_is_exact(tmp_path):
    whole, _ = fit(5)
    assert [(epoch, trained) for epoch, trained, _ in whole.history[::2]] == [(0, 0), (1, 0), (2, 1), (3, 3), (4, 3)]
    sums = torch.tensor([sums for _, _, sums in whole.history])
    moved = sums.diff(dim=0) != 0
    assert not moved[:4].any()  # until the first step of epoch 2 no block has changed, by weight decay neither
    assert moved[4].tolist() == [False, False, True]
    assert moved[6].all()
    part, trainer = fit(3)
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    continued, _ = fit(5, str(tmp_path / "part.ckpt"))
    assert part.history + continued.history == whole.history


@pytest.mark.parametrize("stages", [{1: 2}, {-1: 0, 0: 1}, {}])
def test_a_stage_for_the_first_epoch_is_needed(stages):
    with pytest.raises(ValueError, match="epochs count from 0"):
        GradualUnfreezing(stages)


def trainer_of(world_size: int, **options: Any) -> Any:
    return SimpleNamespace(world_size=world_size, strategy=SimpleNamespace(_ddp_kwargs=options))


def test_refusals():
    callback = GradualUnfreezing({0: 1})
    with pytest.raises(ValueError, match="upstream"):
        callback.setup(trainer_of(1), SimpleNamespace(net=nn.Linear(1, 1)), "fit")
    module = Module()
    with pytest.raises(ValueError, match="find_unused_parameters"):
        callback.setup(trainer_of(2), module, "fit")
    callback.setup(trainer_of(2, find_unused_parameters=True), module, "fit")
    module.cached = "statistics"
    with pytest.raises(ValueError, match="cache_features"):
        callback.setup(trainer_of(1), module, "fit")
    callback.setup(trainer_of(1), module, "test")  # nothing is trained
