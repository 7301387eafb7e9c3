"""Stages, learning rates and schedulers of the curriculum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import Dataset

from hydraudio.core.callbacks.last_checkpoint import LastCheckpoint
from hydraudio.core.sampling import build_loader
from hydraudio.nn.schedules import warmup_cosine
from hydraudio.tasks.separation.curriculum import STATE_KEY, Curriculum, Stage, parse_stages


class Items(Dataset):
    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def __len__(self) -> int:
        return self.n_items

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.tensor([key[0], key[1], self.n_items], dtype=torch.float32)


class Data(LightningDataModule):
    """A variant is a number of items."""

    n_items = 12

    def set_training_variants(self, variants: tuple[str, ...] | None) -> None:
        self.n_items = 12 if variants is None else int(variants[0])

    def train_dataloader(self):
        return self._loader(self.n_items, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self):
        return self._loader(1, shuffle=False)

    num_workers = 0

    def _loader(self, n_items: int, *, shuffle: bool, num_workers: int = 0):
        return build_loader(
            Items(n_items),
            batch_size=2,
            shuffle=shuffle,
            seed=0,
            num_workers=num_workers,
            trainer=self.trainer,
        )


class Net(LightningModule):
    """Records (epoch, its own rates, indices and number of items) of every batch."""

    def __init__(self, schedule: str = "plateau", values: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)
        self.schedule, self.values = schedule, values
        self.batches: list[tuple[int, float, list[list[float]]]] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.batches.append((self.current_epoch, self.optimizers().param_groups[0]["lr"], batch.tolist()))
        return self.net(batch).square().mean() * 1e-3

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("val/score", self.values[self.current_epoch] if self.values else 0.0)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        if self.schedule == "cosine":
            return [optimizer], [{"scheduler": warmup_cosine(optimizer, 12, 0.0), "interval": "step"}]
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/score"}}

    def rates(self) -> list[float]:
        """Of the first batch of every epoch."""
        return [next(rate for when, rate, _ in self.batches if when == epoch) for epoch in range(self.current_epoch)]


def fit(
    folder: Path,
    stages: list[dict[str, Any]],
    n_epochs: int,
    net: Net | None = None,
    callbacks: tuple[Callback, ...] = (),
    data: LightningDataModule | None = None,
    limit_val_batches: int | None = None,
    **options: Any,
) -> tuple[Net, Trainer]:
    net = net or Net()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=n_epochs,
        callbacks=[Curriculum(stages), LastCheckpoint(str(folder)), *callbacks],
        logger=False,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
        limit_val_batches=limit_val_batches,
    )
    trainer.fit(net, datamodule=data or Data(), **options)
    return net, trainer


@pytest.mark.parametrize("num_workers", [0, 1])
def test_epochs_take_the_items_of_their_stage(tmp_path, num_workers):
    data = Data()
    data.num_workers = num_workers
    stages = [
        {"first_epoch": 0, "variants": ["4"]},
        {"first_epoch": 1, "variants": ["7"]},
        {"first_epoch": 2, "variants": ["7"]},
        {"first_epoch": 3},
        {"first_epoch": 4, "variants": ["3"]},
    ]
    net, _ = fit(tmp_path, stages, 6, data=data)
    for epoch, n_items in enumerate([4, 7, 7, 12, 3, 3]):
        batches = [rows for when, _, rows in net.batches if when == epoch]
        assert len(batches) == -(-n_items // 2)
        found = [row for batch in batches for row in batch]
        assert sorted(found) == [[epoch, index, n_items] for index in range(n_items)]


def test_scheduler_is_frozen_until_it_is_on(tmp_path):
    stages = [{"first_epoch": 0, "scheduler": "off"}, {"first_epoch": 3, "scheduler": "on"}, {"first_epoch": 5}]
    net, trainer = fit(tmp_path, stages, 7)
    # the scheduler's first step, after epoch 3, only notes the value; each further one halves
    assert net.rates() == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.025])
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 4


def test_scheduler_can_be_frozen_in_the_midst(tmp_path):
    stages = [{"first_epoch": 0}, {"first_epoch": 2, "scheduler": False}, {"first_epoch": 4, "scheduler": True}]
    net, _ = fit(tmp_path, stages, 6)
    assert net.rates() == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05, 0.025])


def test_scheduler_goes_on_from_the_given_rate(tmp_path):
    stages = [{"first_epoch": 0}, {"first_epoch": 3, "lr": 0.4}]
    net, _ = fit(tmp_path, stages, 5)
    assert net.rates() == pytest.approx([0.1, 0.1, 0.05, 0.4, 0.2])
    stages = [{"first_epoch": 0, "variants": ["4"]}, {"first_epoch": 2, "variants": ["4"], "lr": 0.4}]
    net, _ = fit(tmp_path, stages, 6, Net("cosine"))
    factors = 0.5 * (1 + torch.cos(torch.pi * torch.arange(12) / 12))
    expected = torch.cat([0.1 * factors[:4], 0.4 * factors[4:] / factors[4]])
    torch.testing.assert_close(torch.tensor([rate for _, rate, _ in net.batches]), expected)


def test_frozen_schedule_by_steps_continues_where_it_stood(tmp_path):
    four = {"variants": ["4"]}
    stages = [{"first_epoch": 0, "scheduler": "off", "lr": 0.2, **four}, {"first_epoch": 3, "scheduler": "on", **four}]
    net, _ = fit(tmp_path, stages, 6, Net("cosine"))
    factors = 0.5 * (1 + torch.cos(torch.pi * torch.arange(6) / 12))
    expected = torch.cat([torch.full((6,), 0.2), 0.2 * factors])
    torch.testing.assert_close(torch.tensor([rate for _, rate, _ in net.batches]), expected)


def stage_per_epoch(net: Net, n_items: dict[int, int]) -> list[int]:
    """Which stage every epoch had, by its number of items."""
    return [
        n_items[int(next(rows for when, _, rows in net.batches if when == epoch)[0][2])]
        for epoch in range(net.current_epoch)
    ]


PLATEAU = [
    {"first_epoch": 0, "variants": ["4"]},
    {"after_plateau_of": "val/score", "patience": 2, "variants": ["6"]},
    {"after_plateau_of": "val/score", "patience": 1, "min_delta": 0.5, "variants": ["8"]},
    {"first_epoch": 9, "variants": ["10"]},
]
SCORES = (1.0, 2.0, 2.0, 3.0, float("nan"), 3.0, 0.0, 0.4, 9.0, 0.0, 0.0)
#         better, better, bad, better, bad, bad -> 1, the first of this stage is the best, + 0.4 is not enough -> 2


def test_plateaus_begin_stages(tmp_path):
    net, _ = fit(tmp_path, PLATEAU, 11, Net(values=SCORES))
    assert stage_per_epoch(net, {4: 0, 6: 1, 8: 2, 10: 3}) == [0] * 6 + [1] * 2 + [2] + [3] * 2


def test_epoch_that_has_come_passes_over_plateaus(tmp_path):
    net, _ = fit(tmp_path, PLATEAU, 11, Net(values=tuple(float(epoch) for epoch in range(11))))
    assert stage_per_epoch(net, {4: 0, 6: 1, 8: 2, 10: 3}) == [0] * 9 + [3] * 2


def test_metric_to_minimise(tmp_path):
    stages = [PLATEAU[0], {"after_plateau_of": "val/score", "patience": 1, "mode": "min", "variants": ["6"]}]
    net, _ = fit(tmp_path, stages, 5, Net(values=(3.0, 2.0, 2.5, 0.0, 0.0)))
    assert stage_per_epoch(net, {4: 0, 6: 1}) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("n_first", range(1, 11))
def test_longer_training_continues_the_plan(tmp_path, n_first):
    stages = [{"lr": 0.1 * number + 0.1, **stage} for number, stage in enumerate(PLATEAU)]
    net, _ = fit(tmp_path / "whole", stages, 11, Net(values=SCORES))
    fit(tmp_path / "cut", stages, n_first, Net(values=SCORES))
    rest, _ = fit(tmp_path / "cut", stages, 11, Net(values=SCORES), ckpt_path=tmp_path / "cut" / "last.ckpt")
    assert rest.batches == net.batches[-len(rest.batches) :]
    assert rest.batches[0][0] == n_first
    ends = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "cut")]
    assert ends[0][STATE_KEY] == ends[1][STATE_KEY]
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]


@pytest.mark.parametrize("on_train_epoch_end", [False, True])
@pytest.mark.parametrize("patience", [1, 2])
def test_early_stopping_counts_in_the_last_stage_only(tmp_path, on_train_epoch_end, patience):
    stages = [{"first_epoch": 0}, {"first_epoch": 2}, {"first_epoch": 5}]
    stopping = EarlyStopping("val/score", mode="max", patience=patience, check_on_train_epoch_end=on_train_epoch_end)
    net, _ = fit(tmp_path, stages, 20, Net(values=(1.0,) + (0.0,) * 19), (stopping,))
    assert net.current_epoch == 5 + patience


def test_all_groups_get_the_rate(tmp_path):
    class Groups(Net):
        def configure_optimizers(self):
            groups = [{"params": [self.net.weight]}, {"params": [self.net.bias], "lr": 0.01}]
            optimizer = torch.optim.SGD(groups, lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    _, trainer = fit(tmp_path, [{"first_epoch": 0}, {"first_epoch": 1, "lr": 0.3}], 2, Groups())
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.15, 0.15]
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr() == [0.15, 0.15]


def test_data_must_know_variants(tmp_path):
    class Plain(LightningDataModule):
        pass

    with pytest.raises(ValueError, match="set_training_variants, such as data=separation/polsess"):
        fit(tmp_path, [{"first_epoch": 0}], 1, data=Plain())


def test_bad_variants_name_the_stage(tmp_path):
    with pytest.raises(ValueError, match=r"curriculum\.stages\[1\]: .*'many'"):
        fit(tmp_path, [{"first_epoch": 0}, {"first_epoch": 1, "variants": ["many"]}], 2)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "at least one stage"),
        ({"first_epoch": 0}, "must be a list"),
        ([3], r"stages\[0\].*must be a mapping"),
        ([{"first_epoch": 1}], r"stages\[0\]: first_epoch=1, but the first stage must have first_epoch=0"),
        ([{"after_plateau_of": "val/loss"}], "first stage must have first_epoch=0"),
        ([{"first_epoch": 0}, {"first_epoch": 3}, {"first_epoch": 2}], r"stages\[2\]: first_epoch=2 must be later"),
        ([{"first_epoch": 0}, {"first_epoch": 0}], r"stages\[1\].*must be later than the 0"),
        ([{"first_epoch": 0, "variant": ["C"]}], r"stages\[0\].*did you mean 'variants'"),
        ([{"first_epoch": 0}, {"variants": ["C"]}], r"stages\[1\]: give either first_epoch or after_plateau_of"),
        ([{"first_epoch": 0}, {"first_epoch": 1, "after_plateau_of": "val/loss"}], "not both"),
        ([{"first_epoch": 0, "patience": 2}], "patience has no effect with first_epoch"),
        ([{"first_epoch": 0, "scheduler": "start"}], "scheduler='start' must be on, off"),
        ([{"first_epoch": 0, "lr": 0.0}], "lr=0.0 must be a positive"),
        ([{"first_epoch": -1}], "first_epoch=-1 must be an epoch"),
        ([{"first_epoch": 0}, {"after_plateau_of": "val/loss", "patience": 0}], "patience=0"),
        ([{"first_epoch": 0}, {"after_plateau_of": "val/loss", "min_delta": -1.0}], "min_delta=-1.0"),
        ([{"first_epoch": 0}, {"after_plateau_of": "val/loss", "mode": "low"}], "mode='low' must be max or min"),
    ],
)
def test_bad_stages(stages, words):
    with pytest.raises(ValueError, match=words):
        Curriculum(stages)


def test_stages_are_read_as_written():
    first, second = parse_stages(
        [
            {"first_epoch": 0, "variants": "C", "scheduler": "off"},
            {"after_plateau_of": "val/loss", "mode": "min", "patience": 1, "lr": 1e-3, "variants": None},
        ]
    )
    assert first == Stage(first_epoch=0, variants=("C",), scheduler=False)
    assert second == Stage(after_plateau_of="val/loss", mode="min", patience=1, lr=1e-3)


def test_unknown_metric_lists_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"stages\[1\]: after_plateau_of=val/sdr.*choose one of.*val/score"):
        fit(tmp_path, [{"first_epoch": 0}, {"after_plateau_of": "val/sdr"}], 2)


def test_resuming_with_other_stages_is_refused(tmp_path):
    stages = [{"first_epoch": 0, "lr": 0.1}, {"first_epoch": 2}, {"first_epoch": 5}]
    fit(tmp_path, stages, 3)
    resume = {"ckpt_path": tmp_path / "last.ckpt"}
    with pytest.raises(ValueError, match=r"is in stage 1, but stages\[0\] differs from what it was trained with"):
        fit(tmp_path, [{"first_epoch": 0, "lr": 0.2}, *stages[1:]], 4, **resume)
    with pytest.raises(ValueError, match=r"is in stage 1, but stages\[1\] differs"):
        fit(tmp_path, stages[:1], 4, **resume)
    fit(tmp_path, [*stages[:2], {"first_epoch": 3, "variants": ["4"]}], 4, **resume)


def test_resuming_a_run_without_stages_is_refused(tmp_path):
    fit(tmp_path, [{"first_epoch": 0}], 1)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del checkpoint[STATE_KEY]
    torch.save(checkpoint, tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match=r"trained without callbacks\.curriculum.*init_from=FILE"):
        fit(tmp_path, [{"first_epoch": 0}], 2, ckpt_path=tmp_path / "plain.ckpt")


def test_testing_after_training_needs_no_stages(tmp_path):
    net, trainer = fit(tmp_path, [{"first_epoch": 0}], 1)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del checkpoint[STATE_KEY]
    torch.save(checkpoint, tmp_path / "plain.ckpt")
    trainer.validate(net, datamodule=Data(), ckpt_path=tmp_path / "plain.ckpt", verbose=False)


def test_plateaus_need_validation(tmp_path):
    with pytest.raises(ValueError, match=r"stages\[1\]: after_plateau_of=val/score, but there is no validation"):
        fit(tmp_path, PLATEAU, 2, limit_val_batches=0)
    stages = [{"first_epoch": 0}, {"first_epoch": 1, "variants": ["4"]}]
    net, _ = fit(tmp_path, stages, 2, Net("cosine"), limit_val_batches=0)
    assert len(net.batches) == 6 + 2
