"""Hydraudio: a Lightning + Hydra experiment template for audio research."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydraudio.core.task import Task

__version__ = "0.1.0"


def load(path: str | Path, trusted_targets: Sequence[str] = ()) -> Task:
    """Restore a trained task, ready to predict.

    Args:
        path: a checkpoint file; a run folder such as ``logs/NAME/latest``, whose ``checkpoints/best.ckpt`` is taken; or
            the folder of a shared model.
        trusted_targets: packages beside ours whose classes the file may name, as ``extras.trusted_targets``.

    Returns:
        The task in evaluation mode, on the CPU. ``predict`` takes a dict of tensors as ``task.spec`` names them;
        ``predict_waveform`` takes the waveform (batch, time) alone, at ``task.sample_rate``.

    Raises:
        FileNotFoundError: there is no such file or folder, or none of the two kinds.
        ValueError: the file is damaged, is not one of ours, or names a class that may not be instantiated.
    """
    from hydraudio.core.pretrained import CONFIG
    from hydraudio.core.run_folder import best_checkpoint
    from hydraudio.share.model_folder import load_model_folder
    from hydraudio.trained import read_trained, restore_task

    path = Path(path)
    if (path / CONFIG).is_file():
        return load_model_folder(path, trusted_targets)
    path = best_checkpoint(path) if path.is_dir() else path
    return restore_task(*read_trained(path, trusted_targets), path)


def build(*overrides: str) -> Task:
    """Compose what ``python src/train.py OVERRIDES`` would train, check it as that does, and return its task.

    The project is the one that the working directory lies in, or else the one that ``PROJECT_ROOT`` names. The
    datamodule is built too, because networks take sizes from it, but no item is read and no file is written. The
    weights are those that the training begins with; the random generators of the process stay as they are.

    Args:
        *overrides: as on the command line, e.g. ``experiment=TASK/NAME``, ``model=TASK/NAME``, ``data.root=FOLDER``.

    Returns:
        The task in training mode, on the CPU: call ``eval()`` before you predict with it.

    Raises:
        ConfigError: something is wrong with the configuration; the message says what was probably meant.
    """
    from hydra_preflight.compose import compose_run
    from hydra_preflight.project import enter_project, find_project
    from hydraudio.prepare import build_untrained

    project = find_project()
    enter_project(project)
    return build_untrained(compose_run(overrides, project / "logs"))
