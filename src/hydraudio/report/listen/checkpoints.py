"""Finding the checkpoints below the log folder."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra_preflight.foreign import read_text
from hydraudio.core.checkpoints import read_checkpoint


@dataclass(frozen=True)
class CheckpointEntry:
    """What is known about a checkpoint without building its network.

    Attributes:
        path: the file.
        run: its run folder, relative to the log folder.
        network: class name of the network.
        task: the floor it belongs to.
        problem: of the corpus, where it poses several; else empty.
        score: the monitored metric when the checkpoint was written, such as "val/loss 8.21"; may be empty.
        modified: time of writing, in seconds since the epoch.
    """

    path: Path
    run: str
    network: str
    task: str
    problem: str
    score: str
    modified: float

    @property
    def label(self) -> str:
        """One line that tells checkpoints apart; the time of day stands for the run folder's name."""
        when = datetime.fromtimestamp(self.modified).strftime("%d %b %H:%M")
        parts = [self.experiment, self.path.stem, f"{self.network} {self.problem}".rstrip(), self.score, when]
        return " · ".join(part for part in parts if part)

    @property
    def experiment(self) -> str:
        """The run folder without its own name, the date: quick of quick/2026-11-20_05-10-00."""
        return self.run.rpartition("/")[0] or self.run


def find_checkpoints(log_dir: str | Path) -> tuple[list[CheckpointEntry], dict[Path, str]]:
    """Checkpoints below a folder, the newest run first; links (`latest`) are not followed.

    Returns:
        The checkpoints, and the files that cannot be read with the reasons.
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
        run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
        name = run.relative_to(log_dir).as_posix()
        entries.append(CheckpointEntry(path=path, run=name, modified=path.stat().st_mtime, **known))
    newest = {entry.run: max(e.modified for e in entries if e.run == entry.run) for entry in entries}
    return sorted(entries, key=lambda entry: (-newest[entry.run], entry.run, entry.path.name)), unreadable


def _files(log_dir: Path) -> Iterable[Path]:
    """Checkpoint files that are complete: those being written begin with a dot."""
    return sorted(path for path in log_dir.rglob("*.ckpt") if path.is_file() and not path.name.startswith("."))


@functools.lru_cache(maxsize=4096)
def _describe(path: Path, modified_ns: int) -> dict[str, str]:
    """Fields of the entry that come from inside the file.

    `modified_ns` makes an overwritten file a new one for the cache.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    try:
        config = read_text(checkpoint["hydraudio_config"], f"{path} (its configuration)")
        task, target = config["task"]["name"], config["model"].get("net", config["model"])["_target_"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: names no task or network; it was written by an earlier revision") from error
    problem = (config.get("data") or {}).get("problem") or ""
    return {
        "network": str(target).rpartition(".")[2],
        "task": str(task),
        "problem": str(problem),
        "score": _score(checkpoint),
    }


def _score(checkpoint: dict[str, Any]) -> str:
    """The metric that chose the best checkpoint, as it was when this one was written."""
    for name, state in checkpoint.get("callbacks", {}).items():
        if name.startswith("ModelCheckpoint") and state.get("current_score") is not None:
            return f"{state['monitor']} {float(state['current_score']):.2f}"
    return ""
