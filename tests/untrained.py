"""A run folder as a training leaves it, of networks as they begin, for tests that load one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hydra_preflight.compose import compose_run
from hydraudio.core.run_folder import portable_config
from hydraudio.prepare import build_untrained


def write_run(folder: Path, *overrides: str, **contents: Any) -> Path:
    """Write ``checkpoints/best.ckpt`` below the folder, with further contents by name; returns it."""
    cfg = compose_run(overrides, folder)
    task = build_untrained(cfg)
    path = folder / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": task.state_dict(), "hydraudio_config": portable_config(cfg), **contents}, path)
    return path
