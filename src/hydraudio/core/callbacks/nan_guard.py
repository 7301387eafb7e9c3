"""Stops training at the first loss that is not a number, and says which batch gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class NonFiniteError(RuntimeError):
    """Say that the loss or the weights became NaN or infinite."""


@dataclass(frozen=True)
class _Step:
    epoch: int
    step: int
    ids: tuple[str, ...]


class NaNGuard(Callback):
    """Raise `NonFiniteError` when the loss is NaN or infinite.

    On the CPU every loss is checked before its backward pass, so the weights are still those from before. On
    other devices the losses stay there and are checked together every `check_every_n_steps` batches, before
    validation and before every checkpoint; nothing else waits for the device.

    No checkpoint of spoilt weights is written: each is refused, before anything is replaced, when an
    unchecked loss or a trainable parameter is not finite. That also catches gradients that overflow under a
    finite loss.

    Args:
        check_every_n_steps: batches between checks on devices other than the CPU.
    """

    def __init__(self, check_every_n_steps: int = 50) -> None:
        if check_every_n_steps < 1:
            raise ValueError(f"check_every_n_steps must be at least 1, got {check_every_n_steps}")
        self.check_every_n_steps = check_every_n_steps
        self._current: _Step | None = None
        self._pending: list[tuple[_Step, Tensor]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._current = _Step(trainer.current_epoch, trainer.global_step, _ids(batch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        assert self._current is not None
        self._pending.append((self._current, loss.detach()))
        if loss.device.type == "cpu" or len(self._pending) >= self.check_every_n_steps:
            self._check_losses()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_losses()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_losses()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check_losses()
        self._check_weights(pl_module)

    def _check_losses(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        losses = torch.stack([loss.float() for _, loss in pending])
        if bool(losses.isfinite().all()):
            return
        first = int((~losses.isfinite()).nonzero()[0])
        self._pending = pending  # a checkpoint after this error is refused for the same reason
        raise NonFiniteError(
            f"the loss is {losses[first].item()} {_describe(pending[first][0])}. Look at these files "
            "(scripts/data/check.py), lower the learning rate or clip gradients (trainer.gradient_clip_val); "
            "with fp16 try trainer.precision=bf16-mixed"
        )

    def _check_weights(self, pl_module: LightningModule) -> None:
        finite = [p.detach().isfinite().all() for p in pl_module.parameters() if p.requires_grad]
        if not finite or bool(torch.stack(finite).all()):
            return
        names = [name for name, p in pl_module.named_parameters() if not bool(p.detach().isfinite().all())]
        where = _describe(self._current) if self._current is not None else "before the first batch"
        raise NonFiniteError(
            f"{len(names)} parameters hold NaN or infinity, first {names[0]}; noticed {where}. All losses "
            "were finite, so a gradient was not: clip gradients (trainer.gradient_clip_val) or lower the "
            "learning rate. No checkpoint was written"
        )


def _describe(step: _Step) -> str:
    return f"at epoch {step.epoch}, step {step.step}, in the batch of {', '.join(step.ids) or '(no ids)'}"


def _ids(batch: Any) -> tuple[str, ...]:
    ids = batch.get("id", ()) if isinstance(batch, dict) else ()
    return tuple(str(name) for name in ids) if isinstance(ids, Sequence) else ()
