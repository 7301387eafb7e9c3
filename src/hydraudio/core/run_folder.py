"""The files of a run folder that are not written by callbacks, its lock, and the link to the newest run."""

from __future__ import annotations

import copy
import fcntl
import logging
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_preflight.errors import ConfigError
from hydra_preflight.foreign import read_text
from hydra_preflight.resolvers import LATEST, is_claimed, latest_run
from hydraudio.core.environment import environment_report
from hydraudio.core.files import NO_LOCKS, is_running, partial_path, write_text

log = logging.getLogger(__name__)

_held: set[int] = set()


def _let_go_in_child() -> None:
    """Close the locks in a new worker, which must not hold the folder when it outlives a killed run."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)


def portable_config(cfg: DictConfig) -> str:
    """Resolve a configuration to YAML whose folders can be moved to another machine.

    Everything is resolved but interpolations to ``paths.*``; ``paths`` itself holds this machine's folders, which
    :func:`hydra_preflight.foreign.admit` replaces. Its ``corpora`` stay here; the corpus of the run is resolved.
    """
    paths = {str(key): value for key, value in cfg.paths.items() if key != "corpora"}
    portable = copy.deepcopy(cfg)
    OmegaConf.set_struct(portable, False)
    for key in paths:  # an escaped interpolation resolves to the interpolation itself
        portable.paths[key] = f"\\${{paths.{key}}}"
    container = OmegaConf.to_container(portable, resolve=True)
    assert isinstance(container, dict), "a mapping gives a mapping"
    container["paths"] = paths
    return OmegaConf.to_yaml(OmegaConf.create(container))


def best_checkpoint(folder: Path) -> Path:
    """Return the file of the best weights in a run folder.

    Raises:
        FileNotFoundError: there is none; the message names what is there instead.
    """
    best = folder / "checkpoints" / "best.ckpt"
    if best.is_file():
        return best
    others = sorted(str(path) for path in (folder / "checkpoints").glob("*.ckpt"))
    runs = sorted(str(path.parents[1]) for path in folder.glob("*/checkpoints/best.ckpt"))
    if others:
        raise FileNotFoundError(f"{folder}: the run has no best checkpoint; give one of {', '.join(others)}")
    if runs:
        raise FileNotFoundError(f"{folder}: holds several runs; give one of them, such as {runs[-1]}")
    raise FileNotFoundError(
        f"{folder}: neither the folder of a run (checkpoints/best.ckpt) nor that of a shared model (config.json)"
    )


_NOT_COMPARED = (
    *("paths", "extras", "ckpt_path", "init_from", "init_only"),
    *("train", "test", "effort", "optimized_metric", "tags"),
)


def changed_settings(before: str, now: str) -> list[str]:
    """List the keys in which two texts of :func:`portable_config` differ, as ``key=value (was value)``."""
    old, new = (_flat(read_text(text, "configuration")) for text in (before, now))
    keys = [key for key in sorted({*old, *new}) if key.split(".")[0] not in _NOT_COMPARED]
    return [f"{key}={new.get(key)} (was {old.get(key)})" for key in keys if old.get(key) != new.get(key)]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        dotted: value
        for key, inner in tree.items()
        for dotted, value in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Let no other process write into a run folder, as long as the block takes; the kernel lets go when we are killed.

    Where the file system has no locks, ``run.lock`` says who holds it, and a process that is gone counts no more.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held_by_another(folder, path.read_text()) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if _may_run(holder := path.read_text()):
                raise _held_by_another(folder, holder) from error
        _held.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        for partial in folder.rglob(".*.partial"):  # of a run that was killed: nobody else writes here
            partial.unlink()
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def holding(folder: Path) -> AbstractContextManager[None]:
    """Give the lock of the run folder to the process that speaks for all."""
    from lightning.pytorch.utilities import rank_zero_only

    held: AbstractContextManager[None] | None = rank_zero_only(hold)(folder)
    return held or nullcontext()


def _may_run(holder: str) -> bool:
    found = re.fullmatch(r"process (\d+) on (.+)\n", holder)
    return found is not None and (found[2] != platform.node() or is_running(int(found[1])))


def _held_by_another(folder: Path, holder: str) -> ConfigError:
    return ConfigError(
        f"{folder}: {holder.strip() or 'another process'} is working in this run folder; two would spoil it. Wait for "
        "that one or stop it (if it is gone, delete run.lock there), or start a run of its own without ckpt_path"
    )


def open_run_folder(folder: Path, config_text: str, composed: DictConfig, overrides: Sequence[str], note: str) -> None:
    """Write ``config.yaml``, ``environment.txt`` and what Hydra composed.

    Args:
        folder: the run folder.
        config_text: the resolved configuration.
        composed: the configuration as it was composed, with its interpolations.
        overrides: the command line.
        note: what else is to be remembered of this start; goes to the end of its paragraph in ``environment.txt``.
    """
    write_text(folder / "config.yaml", config_text)
    write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(composed))
    write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(list(overrides)))
    with (folder / "environment.txt").open("a", encoding="utf-8") as file:  # a resumed run adds a paragraph
        file.write(f"{environment_report()}{note}\n")


def how_to_continue(folder: Path, is_sweep: bool) -> str:
    """Say what to do after a run was stopped, in a sentence."""
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        return "Stopped before the first checkpoint: there is nothing to continue."
    latest = latest_run(folder.parent)
    if is_sweep:
        file = folder / ".hydra" / "overrides.yaml"
        return f"Stopped; continue this job with what {file} lists, ckpt_path=last and hydra.run.dir={folder}."
    elsewhere = "" if latest is not None and latest.samefile(folder) else f" hydra.run.dir={folder}"
    return f"Stopped; continue with the same command and ckpt_path=last{elsewhere}."


@contextmanager
def removing_failed_start(folder: Path) -> Iterator[None]:
    """Remove a run folder that this process made, when the block raises and nothing has come about in it."""
    try:
        yield
    except BaseException:
        if is_claimed(folder) and folder.is_dir() and all(_is_of_a_start(path) for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        raise


def _is_of_a_start(path: Path) -> bool:
    """Whether every start writes it, before anything is computed; folders without a file count as that, too."""
    names = ("config.yaml", "environment.txt", "run.lock", ".hydra", "tensorboard")
    is_empty = path.is_dir() and not any(inner.is_file() for inner in path.rglob("*"))
    return path.name in names or path.suffix == ".log" or is_empty


def link_if_none(folder: Path) -> None:
    """Point ``latest`` at a folder without checkpoints, unless it names one that has some."""
    latest = latest_run(folder.parent)
    if latest is None or not any(latest.glob("checkpoints/*.ckpt")):
        link_latest(folder)


def link_latest(folder: Path) -> None:
    """Point ``<folder>/../latest`` at the folder, atomically; nothing but a link to a run is ever replaced.

    On a file system without links a text file of that name says it.
    """
    link = folder.parent / LATEST
    if link.exists() and not link.is_symlink() and latest_run(folder.parent) is None:
        raise FileExistsError(f"{link} is not a link; move it away so that it can point at the newest run")
    temporary = partial_path(link)
    try:
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        log.warning(
            "%s cannot be a link here (%s): it is a text file that names the newest run. ckpt_path=last finds it; "
            "write %s instead of %s in other paths",
            link,
            error,
            folder.name,
            LATEST,
        )
        write_text(link, f"{folder.name}\n")
    finally:
        temporary.unlink(missing_ok=True)
