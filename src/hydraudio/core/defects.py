"""What is wrong with a corpus: collected by the checks, raised by training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from hydraudio.core.parallel import Job, Shared, map_in_processes

Value = TypeVar("Value")


@dataclass(frozen=True)
class Defect:
    """Something wrong with a corpus.

    Attributes:
        kind: short name to count by, e.g. "missing_file".
        message: names the file, the line and column where there is one, and the remedy.
        severity: "error" where training would stop or learn nonsense, "warning" for what the original corpus
            has as well (the same person twice in a row, a clipped sample) and a user may accept.
    """

    kind: str
    message: str
    severity: str = "error"


def raise_defect(defect: Defect) -> None:
    """Raise FileNotFoundError for something missing, ValueError otherwise."""
    if defect.kind in ("missing_file", "missing_csv", "missing_subset", "missing_root"):
        raise FileNotFoundError(defect.message)
    raise ValueError(defect.message)


def raise_first(defects: Sequence[Defect]) -> None:
    """Raise the first defect, if there is one."""
    if defects:
        raise_defect(defects[0])


def or_raise(parsed: tuple[Value | None, Sequence[Defect]]) -> Value:
    """What was parsed, for training, which stops at the first defect with the words of the check.

    Raises:
        FileNotFoundError: something is missing.
        ValueError: something else is wrong.
    """
    value, defects = parsed
    raise_first(defects)
    assert value is not None, "where nothing can be used, a defect says why"
    return value


@dataclass
class RowResult:
    """What the audio of one row gave: defects, and a digest of its samples (empty if unreadable)."""

    defects: list[Defect] = field(default_factory=list)
    digest: str = ""


def check_rows(
    check: Callable[[Shared, Job], RowResult],
    shared: Shared,
    jobs: Sequence[Job],
    n_processes: int,
    on_row: Callable[[int, int], None] | None,
) -> tuple[list[Defect], list[list[Job]]]:
    """Defects of all rows, and the groups of rows whose samples are the same.

    Args:
        check: reads one row; a function of a module, as it runs in other processes.
        shared: what `check` gets beside the row.
        jobs: one per row.
        n_processes: rows are read in parallel.
        on_row: called with (rows done, rows in all).
    """
    defects: list[Defect] = []
    same: dict[str, list[Job]] = defaultdict(list)
    results = map_in_processes(check, shared, jobs, n_processes)
    for n_done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
        if on_row is not None:
            on_row(n_done, len(jobs))
        defects += result.defects
        if result.digest:
            same[result.digest].append(job)
    return defects, [group for group in same.values() if len(group) > 1]


def digest_of(samples: np.ndarray) -> str:
    """A short hash of samples, to find those that occur twice."""
    return hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest()
