"""What a look at the disk tells before anything heavy is imported: files, folders and packages that a run needs."""

from __future__ import annotations

import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_preflight.problems import Problem, raise_problems
from hydra_preflight.project import CHECKPOINT_KEYS, INPUT_FOLDERS, INPUT_KEYS, METRICS_EXTRA, REPORT_METRICS
from hydra_preflight.sources import Sources


def check_disk(cfg: DictConfig, sources: Sources) -> None:
    """Refuse an input that does not exist, a checkpoint that is none, and metrics whose packages are not installed.

    Raises:
        ConfigError: with one line per key.
    """
    problems = []
    for key, remedy in INPUT_KEYS.items():
        for path in _paths(cfg, key):
            if not path.exists():
                found = "no such file or folder"
            elif key in INPUT_FOLDERS and not path.is_dir():
                found = "not a folder"
            else:
                continue
            problems.append(Problem(sources.origin(key), key, f"{path}: {found}{_from_where(cfg, key)}; {remedy}"))
    for key in CHECKPOINT_KEYS:
        for path in _paths(cfg, key):
            try:
                require_archive(path)
            except (FileNotFoundError, ValueError) as error:
                problems.append(Problem(sources.origin(key), key, str(error)))
    if text := _missing_packages(cfg):
        problems.append(Problem(sources.origin(REPORT_METRICS), REPORT_METRICS, text))
    raise_problems(problems)


def _missing_packages(cfg: DictConfig) -> str | None:
    """Sentence about metrics of the report that cannot be computed, before hours of training end in it."""
    dotted, wanted = OmegaConf.select(cfg, "task.spec"), OmegaConf.select(cfg, REPORT_METRICS)
    if dotted is None or wanted is None or not cfg.get("test", True):
        return None
    module, _, name = dotted.rpartition(".")  # the check of the structure has looked at it
    metrics = [metric for metric in getattr(import_module(module), name).metrics if metric.package]
    asked = [metric for metric in metrics if wanted == "full" or (wanted != "fast" and metric.name in wanted)]
    missing = [metric for metric in asked if find_spec(metric.package) is None]
    if not missing:
        return None
    labels, packages = (" and ".join(words) for words in zip(*((m.label, m.package) for m in missing), strict=True))
    remedy = f"pip install '{METRICS_EXTRA}', or leave that out: {REPORT_METRICS}=fast"
    return f"{labels} cannot be computed without {packages}: {remedy}"


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


def _from_where(cfg: DictConfig, key: str) -> str:
    """The key that another one is copied from, in brackets; empty where the value stands there itself."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, group) if group else cfg
    if not OmegaConf.is_interpolation(node, name):
        return ""
    written: Any = OmegaConf.to_container(node, resolve=False)
    return f" ({str(written[name]).strip('${}')}, of .env or configs/paths)"


def _paths(cfg: DictConfig, key: str) -> list[Path]:
    value: Any = OmegaConf.select(cfg, key)
    values = list(value) if isinstance(value, ListConfig) else [value]
    return [Path(each) for each in values if isinstance(each, str) and each != "last"]
