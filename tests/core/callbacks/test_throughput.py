"""Throughput counts with a clock that the test turns."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from hydraudio.core.callbacks import throughput
from hydraudio.core.callbacks.throughput import Throughput
from hydraudio.core.spec import Axes, Card, TaskSpec
from hydraudio.core.task import Task

ITEM_S, STEP_S, VALIDATION_S, SAVE_S = 0.5, 3.0, 1000.0, 5000.0

SPEC = TaskSpec(
    name="hearing",
    batch={"sound": Axes("batch time", unit="[-1, 1]")},
    outputs={},
    metrics=(),
    agree=(),
    resampled="item",
    blocks=(),
    card=Card("other", (), "", ""),
    inputs=("sound",),
)


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


class Items(torch.utils.data.Dataset):
    """Loading one item takes ITEM_S seconds."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 24

    def __getitem__(self, index):
        self.clock.now_s += ITEM_S
        return {"sound": torch.zeros(8), "lengths": 6, "id": str(index)}


class Tiny(Task):
    spec = SPEC

    def __init__(self, clock):
        super().__init__(torch.nn.Linear(1, 1), torch.optim.SGD, sample_rate=2)
        self.clock = clock
        self.seen = []

    def training_step(self, batch):
        self.clock.now_s += STEP_S
        return self.net.weight.square().sum()

    def validation_step(self, batch):
        self.clock.now_s += VALIDATION_S

    def on_save_checkpoint(self, checkpoint):
        self.clock.now_s += SAVE_S

    def on_train_batch_end(self, *args):
        if self.global_step == 4:
            self.trainer.save_checkpoint(self.trainer.default_root_dir + "/x.ckpt")
        self.seen.append({key: float(v) for key, v in self.trainer.callback_metrics.items()})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_rates_exclude_validation_and_checkpoints(clock, tmp_path):
    module = Tiny(clock)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        log_every_n_steps=3,
        val_check_interval=2,
        callbacks=[Throughput()],
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(Items(clock), batch_size=4), DataLoader(Items(clock), batch_size=12))
    last = module.seen[-1]
    assert sorted(last) == [f"throughput/{name}" for name in ("audio_s_per_s", "items_per_s", "loader_wait")]
    loading_s = 4 * ITEM_S
    for metrics in module.seen[3:]:
        assert metrics["throughput/items_per_s"] == pytest.approx(4 / (loading_s + STEP_S))
        assert metrics["throughput/audio_s_per_s"] == pytest.approx(4 * 3 / (loading_s + STEP_S))
        assert metrics["throughput/loader_wait"] == pytest.approx(loading_s / (loading_s + STEP_S))
    assert module.seen[1] == {}  # not before the log interval


def test_padding_is_counted_where_batches_say_so(clock, tmp_path):
    def collate(items):
        batch = torch.utils.data.default_collate(items)
        return {**batch, "padded": True}

    module = Tiny(clock)
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "default_root_dir": tmp_path}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=6, log_every_n_steps=3, callbacks=[Throughput()], **options, **quiet)
    trainer.fit(module, DataLoader(Items(clock), batch_size=4, collate_fn=collate))
    assert module.seen[-1]["throughput/padding"] == pytest.approx(1 - 6 / 8)
