"""What a continued run carries over, and how settings that were changed take effect."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.utils.data import Dataset

from hydra_preflight.errors import ConfigError
from hydraudio.core.callbacks.checkpoint_contents import CheckpointContents
from hydraudio.core.callbacks.early_stopping import EarlyStopping
from hydraudio.core.callbacks.last_checkpoint import LastCheckpoint
from hydraudio.core.callbacks.model_checkpoint import ModelCheckpoint
from hydraudio.core.checkpoints import AtomicCheckpointIO, read_checkpoint
from hydraudio.core.sampling import build_loader
from hydraudio.core.task import Task
from hydraudio.nn.schedules import warmup_cosine

N_BATCHES = 5
PLATEAU = functools.partial(ReduceLROnPlateau, patience=0, factor=0.5)


class Draws(Dataset):
    def __len__(self) -> int:
        return 2 * N_BATCHES

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.randn(3, generator=torch.Generator().manual_seed(1000 * key[0] + key[1]))


class Tiny(Task):
    """A task whose validation gives the scores of a list, one after the other; lower is better."""

    def __init__(self, scores=(), optimizer=None, **options) -> None:
        torch.manual_seed(0)
        optimizer = optimizer or functools.partial(torch.optim.SGD, lr=0.04, momentum=0.9, weight_decay=0.1)
        super().__init__(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)), optimizer, **options)
        self.scores = list(scores)
        self.register_buffer("n_validations", torch.tensor(0))

    def metric_names(self, stage):
        return [f"{stage}/loss"]

    def training_step(self, batch):
        loss = self.net(batch).square().mean()
        self.log("train/loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch):
        self.log("val/loss", self.scores[self.n_validations] if self.scores else float(self.n_validations))

    def on_validation_epoch_end(self):
        self.n_validations += 1

    def loader(self, shuffle):
        trainer = self.trainer
        return build_loader(Draws(), batch_size=2, shuffle=shuffle, seed=0, num_workers=0, trainer=trainer)

    def train_dataloader(self):
        return self.loader(True)

    def val_dataloader(self):
        return self.loader(False)


class Rates(Callback):
    """The learning rate of every batch; keeps a copy of every last.ckpt, and crashes at a step if asked to."""

    def __init__(self, folder: Path, crash_at: int | None = None) -> None:
        self.folder, self.crash_at = folder, crash_at
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        if trainer.global_step == self.crash_at:
            raise RuntimeError("crash")


def fit(
    folder: Path, task: Task, *callbacks: Callback, resume: bool = False, max_epochs: int = 3, **options
) -> Trainer:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("name: tiny\n")
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        callbacks=[
            LastCheckpoint(str(folder), every_n_steps=1),
            CheckpointContents(str(folder / "config.yaml")),
            ModelCheckpoint(folder, "best", monitor="val/loss", enable_version_counter=False),
            *callbacks,
        ],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(task, ckpt_path=str(folder / "last.ckpt") if resume else None)
    return trainer


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)["state_dict"]


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("options", [{"val_check_interval": 2}, {"check_val_every_n_epoch": 2}])
def test_every_checkpoint_of_a_plateau_continues_exactly(tmp_path, options, interval):
    def task():
        return Tiny(scheduler=PLATEAU, scheduler_interval=interval, scheduler_monitor="val/loss")

    whole = Rates(tmp_path)
    fit(tmp_path / "whole", task(), whole, **options)
    reference = weights(tmp_path / "whole" / "last.ckpt")
    for step in range(1, 3 * N_BATCHES):
        with pytest.raises(RuntimeError, match="crash"):
            fit(tmp_path / "cut", task(), Rates(tmp_path, crash_at=step), **options)
        rest = Rates(tmp_path)
        fit(tmp_path / "cut", task(), rest, resume=True, **options)
        assert rest.rates == whole.rates[step:], step
        assert same(weights(tmp_path / "cut" / "last.ckpt"), reference), step


@pytest.mark.parametrize(
    ("interval", "options", "expected"),
    [
        ("epoch", {"check_val_every_n_epoch": 2}, [0.04] * 20 + [0.02] * 10 + [0.02] * 0),
        ("step", {"val_check_interval": 2}, [0.04] * 4 + [0.02] * 3 + [0.01] * 2 + [0.005] * 1),
    ],
)
def test_a_plateau_counts_validations_and_nothing_else(tmp_path, interval, options, expected):
    rates = Rates(tmp_path)
    task = Tiny(scheduler=PLATEAU, scheduler_interval=interval, scheduler_monitor="val/loss")
    fit(tmp_path / "run", task, rates, max_epochs=len(expected) // N_BATCHES, **options)
    assert rates.rates == expected


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {}])
def test_a_plateau_without_its_metric_is_refused_at_the_start(tmp_path, options):
    task = Tiny(scheduler=PLATEAU, scheduler_monitor="val/loss" if options else "val/los")
    with pytest.raises(ConfigError, match="no validation" if options else "choose one of val/loss"):
        fit(tmp_path, task, **options)


def test_metrics_of_the_last_validation_outlive_a_finished_run(tmp_path):
    fit(tmp_path, Tiny(scores=[3.0, 2.0, 4.0]))
    assert fit(tmp_path, Tiny(scores=[]), resume=True).callback_metrics["val/loss"] == 4.0


def test_new_settings_of_the_optimizer_take_effect(tmp_path):
    adam = functools.partial(torch.optim.Adam, lr=0.04, weight_decay=0.1)
    fit(tmp_path, Tiny(optimizer=adam, scheduler=PLATEAU, scheduler_monitor="val/loss"))  # two bad epochs: a quarter
    rates = Rates(tmp_path)
    new = functools.partial(torch.optim.Adam, lr=0.08, weight_decay=0.3)
    task = Tiny(optimizer=new, scheduler=PLATEAU, scheduler_monitor="val/loss")
    trainer = fit(tmp_path, task, rates, resume=True, max_epochs=4)
    assert rates.rates == [0.02] * N_BATCHES
    assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.3]
    again = Rates(tmp_path)
    fit(tmp_path, copy.deepcopy(task), again, resume=True, max_epochs=5)
    assert again.rates == [0.01] * N_BATCHES  # the change counts once


def test_new_settings_of_a_plateau_take_effect(tmp_path):
    fit(tmp_path, Tiny(scheduler=PLATEAU, scheduler_monitor="val/loss"))
    patient = functools.partial(ReduceLROnPlateau, patience=9, factor=0.5)
    rates = Rates(tmp_path)
    fit(tmp_path, Tiny(scheduler=patient, scheduler_monitor="val/loss"), rates, resume=True, max_epochs=5)
    assert rates.rates == [0.01] * 2 * N_BATCHES


@pytest.mark.parametrize("schedule", ["warmup_cosine", "torch"])
def test_a_longer_cosine_goes_on_as_the_longer_one(tmp_path, schedule):
    def task(n_epochs):
        torch_cosine = functools.partial(CosineAnnealingLR, T_max=n_epochs * N_BATCHES)
        return Tiny(scheduler=warmup_cosine if schedule == "warmup_cosine" else torch_cosine, scheduler_interval="step")

    def rates(folder, n_epochs, **options):
        seen = Rates(tmp_path)
        fit(tmp_path / folder, task(n_epochs), seen, max_epochs=n_epochs, **options)
        return seen.rates

    longer = rates("long", 4)
    rates("cut", 2)
    continued = rates("cut", 4, resume=True)
    assert continued == pytest.approx(longer[2 * N_BATCHES :])


def stopped(folder: Path, **options) -> Rates:
    rates = Rates(folder)
    stopping = EarlyStopping("val/loss", patience=options.pop("patience", 2))
    scores = [3.0, 2.0, 4.0, 4.0, *[1.0] * 9]
    fit(folder, Tiny(scores=scores), stopping, rates, max_epochs=8, **options)
    return rates


def test_a_stopped_run_stays_stopped(tmp_path):
    assert len(stopped(tmp_path).rates) == 4 * N_BATCHES
    files = {name: read_checkpoint(tmp_path / f"{name}.ckpt") for name in ("last", "best")}
    for _ in range(2):
        assert stopped(tmp_path, resume=True).rates == []
        assert read_checkpoint(tmp_path / "best.ckpt")["global_step"] == files["best"]["global_step"] == 2 * N_BATCHES
        last = read_checkpoint(tmp_path / "last.ckpt")
        assert last["global_step"] == 4 * N_BATCHES
        assert same(last["state_dict"], files["last"]["state_dict"])


def test_a_stopped_run_trains_on_with_more_patience(tmp_path):
    stopped(tmp_path)
    assert len(stopped(tmp_path, resume=True, patience=3).rates) == 4 * N_BATCHES
    assert read_checkpoint(tmp_path / "best.ckpt")["global_step"] == 5 * N_BATCHES


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_moved_run_keeps_its_best_checkpoint(tmp_path, is_whole, caplog):
    fit(tmp_path / "here", Tiny(scores=[3.0, 2.0, 4.0]))
    (tmp_path / "here").rename(tmp_path / "there")
    if not is_whole:
        (tmp_path / "there" / "best.ckpt").unlink()
    trainer = fit(tmp_path / "there", Tiny(scores=[0.0] * 3 + [2.5]), resume=True, max_epochs=4)
    assert trainer.checkpoint_callback.best_model_path == str(tmp_path / "there" / "best.ckpt")
    assert read_checkpoint(tmp_path / "there" / "best.ckpt")["global_step"] == (2 if is_whole else 4) * N_BATCHES
    assert ("is gone" in caplog.text) is not is_whole
