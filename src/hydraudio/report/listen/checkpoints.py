"""Finding the checkpoints of separation runs below the log folder."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from hydraudio.core.checkpoints import read_checkpoint

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is libyaml, ten times as fast


@dataclass(frozen=True)
class CheckpointEntry:
    """What is known about a checkpoint without building its network.

    Attributes:
        path: the file.
        run: its run folder, relative to the log folder.
        network: class name of the network.
        problem: ES, EB, SB ..., or the number of sources where the corpus has no problems.
        n_sources: outputs of the network.
        score: the monitored metric when the checkpoint was written, such as "val/si_sdri 8.21"; may be empty.
        modified: time of writing, in seconds since the epoch.
    """

    path: Path
    run: str
    network: str
    problem: str
    n_sources: int
    score: str
    modified: float

    @property
    def label(self) -> str:
        """One line that tells checkpoints apart; the time of day stands for the run folder's name."""
        when = datetime.fromtimestamp(self.modified).strftime("%d %b %H:%M")
        parts = [self.experiment, self.path.stem, f"{self.network} {self.problem}", self.score, when]
        return " · ".join(part for part in parts if part)

    @property
    def experiment(self) -> str:
        """The run folder without its own name, the date: polsess_quick of polsess_quick/2026-11-20_05-10-00."""
        return self.run.rpartition("/")[0] or self.run


def find_checkpoints(log_dir: str | Path) -> tuple[list[CheckpointEntry], dict[Path, str]]:
    """Checkpoints of separation networks below a folder, the newest run first; links (`latest`) are not followed.

    Returns:
        The checkpoints, and the files that cannot be read with the reasons. Checkpoints of other tasks are left out.
    """
    log_dir = Path(log_dir)
    entries: list[CheckpointEntry] = []
    unreadable: dict[Path, str] = {}
    for path in _files(log_dir):
        try:
            known = _describe(path, path.stat().st_mtime_ns)
        except (ValueError, OSError) as error:
            unreadable[path] = str(error)
            continue
        if known is not None:
            run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
            name = run.relative_to(log_dir).as_posix()
            entries.append(CheckpointEntry(path=path, run=name, modified=path.stat().st_mtime, **known))
    newest = {entry.run: max(e.modified for e in entries if e.run == entry.run) for entry in entries}
    return sorted(entries, key=lambda entry: (-newest[entry.run], entry.run, entry.path.name)), unreadable


def _files(log_dir: Path) -> Iterable[Path]:
    """Checkpoint files that are complete: those being written begin with a dot."""
    return sorted(path for path in log_dir.rglob("*.ckpt") if path.is_file() and not path.name.startswith("."))


@functools.lru_cache(maxsize=4096)
def _describe(path: Path, modified_ns: int) -> dict[str, Any] | None:
    """Fields of the entry that come from inside the file; None for a task that does not separate.

    `modified_ns` makes an overwritten file a new one for the cache.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    try:
        config = yaml.load(checkpoint["hydraudio_config"], _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: the configuration inside is not YAML: {error}") from error
    net = ((config or {}).get("model") or {}).get("net") or {}
    if "n_sources" not in net:
        return None
    n_sources = int(net["n_sources"])
    problem = (config.get("data") or {}).get("problem") or f"{n_sources} source{'s' if n_sources > 1 else ''}"
    network = str(net.get("_target_", "")).rsplit(".", 1)[-1]
    return {"network": network, "problem": str(problem), "n_sources": n_sources, "score": _score(checkpoint)}


def _score(checkpoint: dict[str, Any]) -> str:
    """The metric that chose the best checkpoint, as it was when this one was written."""
    for name, state in checkpoint.get("callbacks", {}).items():
        if name.startswith("ModelCheckpoint") and state.get("current_score") is not None:
            return f"{state['monitor']} {float(state['current_score']):.2f}"
    return ""
