"""What a look at the disk tells before anything heavy is imported: files and folders that a configuration names."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_preflight.problems import Problem, raise_problems
from hydra_preflight.project import CHECKPOINT_KEYS, INPUT_KEYS
from hydra_preflight.sources import Sources


def check_disk(cfg: DictConfig, sources: Sources) -> None:
    """Refuse a configuration that names an input which does not exist, or a checkpoint that is none.

    Raises:
        ConfigError: with one line per key.
    """
    problems = []
    for key, remedy in INPUT_KEYS.items():
        for path in _paths(cfg, key):
            if not path.exists():
                problems.append(Problem(sources.origin(key), key, f"{path}: no such file or folder; {remedy}"))
    for key in CHECKPOINT_KEYS:
        for path in _paths(cfg, key):
            try:
                require_archive(path)
            except (FileNotFoundError, ValueError) as error:
                problems.append(Problem(sources.origin(key), key, str(error)))
    raise_problems(problems)


def require_archive(file: Path) -> None:
    """Require a file that ``torch.save`` can have written, as far as its frame tells.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, cut off or something else.
    """
    if file.is_dir():
        raise FileNotFoundError(f"{file}: a folder; give a file, such as {file}/checkpoints/best.ckpt")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such checkpoint; runs keep theirs in logs/<name>/<run>/checkpoints/")
    if file.stat().st_size == 0:
        raise ValueError(f"{file}: an empty file and not a checkpoint; give another one of that run, or train again")
    if not zipfile.is_zipfile(file):  # torch would take it for a pickle of its early days and fail in many ways
        raise ValueError(
            f"{file}: damaged or not a checkpoint (it is not the whole of an archive that torch.save wrote); give "
            "another one of that run, or train again"
        )


def _paths(cfg: DictConfig, key: str) -> list[Path]:
    value: Any = OmegaConf.select(cfg, key)
    values = list(value) if isinstance(value, ListConfig) else [value]
    return [Path(each) for each in values if isinstance(each, str) and each != "last"]
