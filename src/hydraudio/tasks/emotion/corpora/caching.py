"""Caches that several processes share: keyed by what the audio files are, written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

MEMBER = "#"
"""Stands between the path of a shard and the key of an utterance in it."""

N_THREADS = 16
"""Threads for small reads: they wait for the disk, not for a processor."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def stored_in(path: Path | str) -> Path:
    """The file on disk that holds an utterance: itself, or its shard."""
    return path if isinstance(path, Path) else Path(str(path).rsplit(MEMBER, 1)[0])


def stat_digest(paths: Sequence[Path | str]) -> str:
    """sha256 (hex) over the path, size and time of change of every file, in their order.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    files = list(dict.fromkeys(stored_in(path) for path in paths))
    states = dict(zip(files, map_in_threads(_state, files), strict=True))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0{states[stored_in(path)]}\n".encode())
    return digest.hexdigest()


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[function(item)] computed in several threads; the first error is raised."""
    if len(items) < N_THREADS:
        return [function(item) for item in items]
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(function, items))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock (other processes wait) on `<path>.lock`, which stays where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _state(file: Path) -> tuple[int, int]:
    if not file.is_file():
        raise FileNotFoundError(missing_text(file))
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def missing_text(path: Path | str) -> str:
    """What is said of a file that does not exist, by the check and by training."""
    return f"{path}: no such audio file; check the path and the corpus"
