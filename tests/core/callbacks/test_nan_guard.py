"""Losses and weights that are not finite stop the training before anything is overwritten."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from hydraudio.core.callbacks.nan_guard import NaNGuard, NonFiniteError


class Items(Dataset):
    def __init__(self, bad=()):
        self.bad = bad

    def __len__(self):
        return 12

    def __getitem__(self, index):
        value = float("nan") if index in self.bad else 1.0
        return {"mixture": torch.full((4,), value), "id": f"mix_{index}.wav"}


class Tiny(LightningModule):
    """Training fails at `bad_gradient_step` by a finite loss with an infinite gradient."""

    def __init__(self, bad_gradient_step=None):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
        self.bad_gradient_step = bad_gradient_step

    def training_step(self, batch):
        loss = self.net(batch["mixture"]).square().mean()
        if self.global_step == self.bad_gradient_step:
            loss = loss + (self.net.weight.sum() * 0).abs().sqrt()  # 0 * infinite slope
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder, module, bad=()):
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[NaNGuard(), ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, DataLoader(Items(bad), batch_size=2))


def assert_good(checkpoint, n_steps):
    state = torch.load(checkpoint, weights_only=True)
    assert state["global_step"] == n_steps
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_nan_loss_names_the_batch_and_leaves_the_weights(tmp_path):
    module = Tiny()
    with pytest.raises(NonFiniteError, match=r"nan at epoch 0, step 3, .*mix_6\.wav, mix_7\.wav"):
        fit(tmp_path, module, bad=(7,))
    assert all(p.isfinite().all() for p in module.parameters())
    assert_good(tmp_path / "last.ckpt", n_steps=3)


def test_infinite_gradient_under_a_finite_loss_writes_no_checkpoint(tmp_path):
    with pytest.raises(NonFiniteError, match=r"2 parameters|1 parameters"):
        fit(tmp_path, Tiny(bad_gradient_step=2))
    assert_good(tmp_path / "last.ckpt", n_steps=2)


def late_guard(losses):
    """A guard that has seen losses which it treats as those of an asynchronous device."""
    guard = NaNGuard(check_every_n_steps=5)
    for step, loss in enumerate(losses):
        trainer = SimpleNamespace(current_epoch=1, global_step=step)
        guard.on_train_batch_start(trainer, None, {"id": [f"{step}.wav"]}, step)
        guard._pending.append((guard._current, torch.tensor(loss)))
    return guard


@pytest.mark.parametrize("hook", ["on_validation_start", "on_train_end"])
def test_losses_kept_on_the_device_are_checked_at_the_end(hook):
    guard = late_guard([1.0, float("inf"), float("nan")])
    with pytest.raises(NonFiniteError, match=r"inf at epoch 1, step 1, in the batch of 1\.wav"):
        getattr(guard, hook)(None, None)


def test_every_checkpoint_after_a_bad_loss_is_refused():
    guard = late_guard([1.0, float("nan")])
    module = torch.nn.Linear(2, 2)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match=r"1\.wav"):
            guard.on_save_checkpoint(None, module, {})


def test_good_losses_are_forgotten():
    guard = late_guard([1.0, 2.0, 3.0])
    guard.on_save_checkpoint(None, torch.nn.Linear(2, 2), {})
    assert guard._pending == []


def test_infinite_buffers_are_allowed():
    module = torch.nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    NaNGuard().on_save_checkpoint(None, module, {})


def test_wrong_interval_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        NaNGuard(check_every_n_steps=0)
