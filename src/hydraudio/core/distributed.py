"""What a trainer knows: its settings, and objects of all its processes."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer


def setting(trainer: Trainer, name: str) -> Any:
    """Return an argument of the trainer that Lightning keeps as an attribute without declaring it."""
    return getattr(trainer, name)


def gather(value: Any, trainer: Trainer) -> list[Any]:
    """Gather the value of every process on the first one; the others get an empty list."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    torch.distributed.gather_object(value, gathered)
    return gathered or []


def all_gather(value: Any, trainer: Trainer) -> list[Any]:
    """Gather the value of every process on all of them."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
