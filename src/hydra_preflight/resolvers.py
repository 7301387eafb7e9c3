"""Interpolations beside OmegaConf's: of the data (``data_attribute``), of run folders (``run_dir``, ``sweep_subdir``,
``existing_dir``, ``run_id``), of folders in the environment (``env_folder``), of loaders
(``off_mps``) and those of the project."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_preflight.errors import ConfigError, DataAttributeUnbound
from hydra_preflight.project import RESOLVERS

LATEST = "latest"
_claimed: dict[tuple[str, str, str], str] = {}


def register_resolvers(claim_run_dir: bool = False, read_sources: bool = True, show_deferred: bool = False) -> None:
    """Make the interpolations known to OmegaConf.

    Args:
        claim_run_dir: create the folder that ``run_dir`` names when it is first read, so that two runs which start
            in the same second get two folders. False only names it.
        read_sources: let the interpolations of the project do their work, which may read files. False makes them
            null, where configurations are checked that no one is about to run.
        show_deferred: let ``data_attribute`` stand for itself, in a configuration that is only shown.
    """
    data_attribute = _as_written if show_deferred else _unbound
    OmegaConf.register_new_resolver("data_attribute", data_attribute, replace=True)
    OmegaConf.register_new_resolver(
        "existing_dir", lambda folder: existing_dir(folder, claim=claim_run_dir), replace=True
    )
    OmegaConf.register_new_resolver(
        "run_dir",
        lambda log_dir, name, ckpt_path=None: run_dir(log_dir, name, ckpt_path, claim=claim_run_dir),
        replace=True,
    )
    OmegaConf.register_new_resolver(
        "sweep_subdir", lambda sweep_dir, stem: sweep_subdir(sweep_dir, stem, claim=claim_run_dir), replace=True
    )
    OmegaConf.register_new_resolver("run_id", run_id, replace=True)
    OmegaConf.register_new_resolver("env_folder", env_folder, replace=True)
    OmegaConf.register_new_resolver("off_mps", off_mps, replace=True)
    for name, dotted in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, _imported_when_read(dotted) if read_sources else _null, replace=True)


def bind_data_attributes(datamodule: Any) -> None:
    """Let ``${data_attribute:NAME}`` read the attributes of ``datamodule`` from now on."""
    OmegaConf.register_new_resolver("data_attribute", lambda name: _plain_attribute(datamodule, name), replace=True)


def run_dir(log_dir: str, name: str, ckpt_path: str | None = None, *, claim: bool = False) -> str:
    """Folder of this run: that of the newest run for ``ckpt_path=last``, else ``<log_dir>/<name>/<date>_<time>``.

    Args:
        log_dir: folder of all runs.
        name: name of the experiment.
        ckpt_path: ``last``, a file or None.
        claim: create the folder; the answer stays the same for the rest of the process.
    """
    parent = Path(log_dir) / str(name)
    if ckpt_path == "last":
        return str(_run_to_continue(parent))
    stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if not claim:
        return str(_free_folder(parent, stem, claim=False))
    key = (str(log_dir), str(name), str(ckpt_path))
    if key not in _claimed:
        _claimed[key] = str(_free_folder(parent, stem, claim=True))
    return _claimed[key]


def sweep_subdir(sweep_dir: str, stem: str, *, claim: bool = False) -> str:
    """Name the folder of one job of a sweep: `stem`, with a number where another sweep has it already.

    Args:
        sweep_dir: folder of all jobs.
        stem: date, time and number of the job.
        claim: create the folder; the answer stays the same for the rest of the process.
    """
    key = (sweep_dir, stem, "")
    if claim and key not in _claimed:
        _claimed[key] = str(_free_folder(Path(sweep_dir), stem, claim=True))
    return Path(_claimed.get(key, stem)).name


def run_id(folder: str) -> str:
    """Name a run for an online logger: ``<name>_<date>_<time>-<hash of the folder>``, at most 128 characters.

    A run that goes on in its folder has the same name again. Characters that services refuse become ``-``.

    Args:
        folder: of the run, with an absolute path.
    """
    path = Path(folder)
    readable = re.sub(r"[^A-Za-z0-9_-]", "-", f"{path.parent.name}_{path.name}")
    return f"{readable[-119:]}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def env_folder(name: str) -> str | None:
    """Read the folder that an environment variable names, with ``~`` expanded; None where it is unset or empty."""
    return os.path.expanduser(os.environ.get(name, "")) or None


def off_mps(n_workers: int, *, _root_: DictConfig) -> int:
    """Give the number of loader processes: none beside Apple's GPU, where a fork of the process can end it."""
    return 0 if OmegaConf.select(_root_, "trainer.accelerator") == "mps" else n_workers


def is_claimed(folder: Path) -> bool:
    """Tell whether this process made the folder for a run."""
    return folder.absolute() in [Path(each).absolute() for each in _claimed.values()]


def latest_run(parent: Path) -> Path | None:
    """Find the folder that ``latest`` names: a link, or a text file where links are impossible. None without one."""
    latest = parent / LATEST
    if latest.is_file():
        name = latest.read_text(encoding="utf-8", errors="replace").strip()
        return parent / name if name and Path(name).name == name and (parent / name).is_dir() else None
    return latest.resolve() if latest.is_dir() else None


def existing_dir(folder: str, *, claim: bool = False) -> str:
    """The folder itself, created if ``claim``: for a database that is opened before any run folder exists."""
    if claim:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def _imported_when_read(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.rpartition(".")
    return lambda *arguments: getattr(import_module(module), name)(*arguments)


def _null(*arguments: Any) -> None:
    return None


def _as_written(name: str) -> str:
    return f"${{data_attribute:{name}}}"


def _unbound(name: str) -> Any:
    raise DataAttributeUnbound(
        f"${{data_attribute:{name}}} is known only after the datamodule exists; it cannot be read here"
    )


def _plain_attribute(datamodule: Any, name: str) -> Any:
    names = _attribute_names(datamodule)
    value = getattr(datamodule, name) if name in names else None
    if isinstance(value, tuple):
        value = list(value)
    if not _is_plain(value):
        raise ConfigError(
            f"${{data_attribute:{name}}}: {type(datamodule).__name__} has no plain attribute {name!r}; "
            f"it has {', '.join(names)}."
        )
    return value


def _attribute_names(datamodule: Any) -> list[str]:
    """Attributes that hold, or properties that may compute, a plain value; no property is evaluated."""
    own = [name for name, value in vars(datamodule).items() if _is_plain(value)]
    offered = [name for name in dir(type(datamodule)) if _is_data(type(datamodule), name)]
    return sorted(name for name in {*own, *offered} if not name.startswith("_"))


def _is_data(cls: type, name: str) -> bool:
    """Whether a class other than Lightning's offers ``name`` as a value: a property or a constant."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), object)
    value = vars(owner).get(name)
    return not owner.__module__.startswith(("lightning", "builtins")) and (
        isinstance(value, property) or _is_plain(value)
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return "_target_" not in value and all(_is_plain(item) for item in value.values())
    return isinstance(value, (bool, int, float, str))


def _run_to_continue(parent: Path) -> Path:
    latest = latest_run(parent)
    if latest is None:
        raise ConfigError(
            f"command line: ckpt_path=last: there is no run to continue, {parent / LATEST} names none (a run is named "
            "there when its first checkpoint is written). Start one without ckpt_path, name the earlier run with "
            "name=NAME, or give the file: ckpt_path=FILE"
        )
    return latest


def _free_folder(parent: Path, stem: str, claim: bool) -> Path:
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}_{number}")
        if not folder.exists() and (not claim or _created(folder)):
            return folder
        number += 1


def _created(folder: Path) -> bool:
    """Create ``folder``; False if another process was faster."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True
