"""The trial of a hyper-parameter search that this process runs; the sweeper sets it, a callback reports to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import Trial


class TrialPruned(Exception):
    """Say that the trial is given up; the message says why."""


_running: Trial | None = None


def running_trial() -> Trial | None:
    """Return the trial that this process runs; None outside of a search."""
    return _running


@contextmanager
def run_as(trial: Trial) -> Iterator[None]:
    """Let :func:`running_trial` return ``trial``."""
    global _running
    before, _running = _running, trial
    try:
        yield
    finally:
        _running = before
