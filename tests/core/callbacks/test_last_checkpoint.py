"""A run that is stopped at any batch and resumed ends with bit-identical weights."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import Dataset

from hydraudio.core.callbacks.checkpoint_contents import CheckpointContents
from hydraudio.core.callbacks.ema import EMA
from hydraudio.core.callbacks.last_checkpoint import LastCheckpoint, StoppedError
from hydraudio.core.checkpoints import AtomicCheckpointIO, read_checkpoint
from hydraudio.core.sampling import build_loader

N_EPOCHS = 3


class Draws(Dataset):
    def __len__(self) -> int:
        return 14

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.randn(3, generator=torch.Generator().manual_seed(1000 * key[0] + key[1]))


class Tiny(LightningModule):
    """Dropout (global random state), momentum (optimizer state) and a plateau scheduler that reacts at every epoch."""

    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.num_workers = num_workers

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.net(batch).square().mean()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("val/loss", float(self.current_epoch))  # gets worse: the learning rate halves in every epoch

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}

    def loader(self, shuffle: bool):
        return build_loader(
            Draws(),
            batch_size=3,
            shuffle=shuffle,
            seed=0,
            num_workers=self.num_workers if shuffle else 0,
            trainer=self.trainer,
        )

    def train_dataloader(self):
        return self.loader(True)

    def val_dataloader(self):
        return self.loader(False)


class Crash(Callback):
    """Raises inside the given step, after the backward pass."""

    def __init__(self, at_step: int, error: type[BaseException] = RuntimeError) -> None:
        self.at_step, self.error = at_step, error

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.at_step:
            raise self.error("crash")


@pytest.fixture(autouse=True)
def interrupts_arrive():
    """As in a terminal; a shell starts background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Record(Callback):
    """Writes down every batch's sum and learning rate."""

    def __init__(self) -> None:
        self.sums, self.rates, self.logged = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.sums.append(float(batch.sum()))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.logged.append(trainer.fit_loop.epoch_loop._batches_that_stepped)


class Terminate(Callback):
    """Sends a signal during the given batch."""

    def __init__(self, at_step: int, signum: signal.Signals = signal.SIGTERM, times: int = 1) -> None:
        self.at_step, self.signum, self.times = at_step, signum, times

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.signum)


def run(folder: Path, *extra: Callback, resume: bool = False, num_workers: int = 0, ema: bool = False, **last) -> Tiny:
    (folder / "config.yaml").write_text("name: tiny\n")
    torch.manual_seed(1)
    if resume:
        torch.manual_seed(99)  # what the process did before must not matter
    callbacks = [
        LastCheckpoint(str(folder), **last),
        CheckpointContents(str(folder / "config.yaml")),
        ModelCheckpoint(folder, "best", monitor="val/loss", enable_version_counter=False),
        *([EMA(decay=0.9)] if ema else []),
        *extra,
    ]
    trainer = Trainer(
        max_epochs=N_EPOCHS,
        log_every_n_steps=1,
        accelerator="cpu",
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    module = Tiny(num_workers)
    trainer.fit(module, ckpt_path=str(folder / "last.ckpt") if resume else None)
    return module


def same(left: Tiny, right: Tiny) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("every_n_steps", [1, 2, None])
@pytest.mark.parametrize("at_step", [0, 1, 4, 5, 6, 14])
def test_resume_after_a_crash_is_exact(tmp_path, every_n_steps, at_step):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    reference = run(whole)
    with pytest.raises(RuntimeError, match="crash"):
        run(cut, Crash(at_step), every_n_steps=every_n_steps)
    assert (cut / "on_exception.ckpt").is_file()
    assert same(run(cut, resume=True), reference)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at_step", [2, 4, 9])
def test_a_signal_writes_the_running_batch_too(tmp_path, at_step, signum):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    reference = run(whole)
    with pytest.raises(StoppedError) as stopped:
        run(cut, Terminate(at_step, signum))
    assert stopped.value.signum == signum
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert read_checkpoint(cut / "last.ckpt")["global_step"] == at_step + 1
    assert same(run(cut, resume=True), reference)


def test_a_second_interrupt_stops_at_once(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, Terminate(7, signal.SIGINT, times=2))
    assert isinstance(stopped.value.__context__, KeyboardInterrupt)
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 5
    assert same(run(tmp_path, resume=True), run(tmp_path))


@pytest.mark.parametrize("at_step", [3, 7])
def test_resume_with_weight_averaging_and_workers(tmp_path, at_step):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    reference = run(whole, ema=True)
    with pytest.raises(RuntimeError, match="crash"):
        run(cut, Crash(at_step), ema=True, every_n_steps=1)
    assert same(run(cut, resume=True, ema=True, num_workers=2), reference)


def test_every_epoch_draws_anew_and_the_plateau_scheduler_reacts(tmp_path):
    seen = Record()
    run(tmp_path, seen)
    assert len(set(seen.sums)) == len(seen.sums) == 15
    assert seen.rates[::5] == [0.05, 0.05, 0.025]


def test_finished_run_has_nothing_left_to_do(tmp_path):
    reference = run(tmp_path)
    assert same(run(tmp_path, resume=True), reference)


@pytest.mark.parametrize("at_step", [5, 7])
def test_logged_steps_continue_where_they_were(tmp_path, at_step):
    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path, Crash(at_step), every_n_steps=1)
    seen = Record()
    run(tmp_path, seen, resume=True)
    assert seen.logged == list(range(at_step, 15))


def test_minutes_count(tmp_path):
    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path, Crash(3), every_n_minutes=1e-9)
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 3


def test_checkpoint_is_self_contained(tmp_path):
    run(tmp_path)
    checkpoint = read_checkpoint(tmp_path / "best.ckpt")
    assert checkpoint["hydraudio_config"] == "name: tiny\n"
    assert set(checkpoint["hydraudio"]) == {"version", "git_revision", "fingerprint", "products"}
