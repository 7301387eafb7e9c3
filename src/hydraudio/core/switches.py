"""Switches of Lightning's Trainer that leave out callbacks which the configuration lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar

from hydraudio.core.callbacks.checkpoint_contents import CheckpointContents
from hydraudio.core.callbacks.last_checkpoint import LastCheckpoint

_SWITCHES: dict[str, tuple[type[Callback], ...]] = {
    "enable_progress_bar": (ProgressBar,),
    "enable_checkpointing": (Checkpoint, LastCheckpoint, CheckpointContents),
    "enable_model_summary": (ModelSummary,),
}
BAREBONES: dict[str, Any] = {
    **dict.fromkeys(_SWITCHES, False),
    "callbacks": [],
    "logger": False,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": 0,
    "detect_anomaly": False,
    "profiler": None,
}
"""Arguments that ``Trainer(barebones=True)``, which measures the loop alone, takes in place of the configured ones."""


def switched_on(callbacks: Iterable[Callback], settings: Mapping[str, Any]) -> list[Callback]:
    """Return the callbacks that the settings of the Trainer do not switch off; Lightning would refuse the others."""
    off = tuple(kind for name, kinds in _SWITCHES.items() if settings.get(name) is False for kind in kinds)
    return [callback for callback in callbacks if not isinstance(callback, off)]
