"""What makes a checkpoint self-contained, beside Lightning's own weights, optimizer and loop states."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule

from hydraudio import __version__
from hydraudio.core.corpus import corpus_of
from hydraudio.core.environment import git_revision
from hydraudio.core.products import route_in_use
from hydraudio.core.trainer import Trainer


class CheckpointContents(Callback):
    """Put configuration, version, git revision, corpus fingerprint, products and random states into every checkpoint.

    The random states come back right before the first batch after a resume, which is where they were taken. The route
    of float32 products is kept, see :class:`hydraudio.core.trainer.Trainer`.

    Args:
        config_file: the run's resolved configuration.
    """

    def __init__(self, config_file: str) -> None:
        self.config_file = Path(config_file)
        self._random_states: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["hydraudio_config"] = self.config_file.read_text(encoding="utf-8")
        checkpoint["hydraudio"] = {
            "version": __version__,
            "git_revision": git_revision(),
            "fingerprint": getattr(corpus_of(trainer), "fingerprint", None),
            "products": route_in_use(),
        }
        checkpoint["hydraudio_random"] = random_states()

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random_states = checkpoint.get("hydraudio_random")
        if isinstance(trainer, Trainer) and (route := checkpoint.get("hydraudio", {}).get("products")):
            trainer.keep_products(route)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._random_states is not None:
            restore_random_states(self._random_states)
            self._random_states = None


def random_states() -> dict[str, Any]:
    """Return the states of all global generators, in types that load with ``weights_only=True``.

    Numbers are tensors: a list costs a checkpoint 3 us per number.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "python": [version, torch.tensor(internal), gauss_next],
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the global generators to what :func:`random_states` returned."""
    torch.set_rng_state(states["torch"].cpu())
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(torch.as_tensor(internal).tolist()), gauss_next))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
