"""What is wrong with a corpus: collected by the checks, raised by training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
