"""A miniature corpus of sounds, made once for all tests of the floor."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def esc50_root(shared: Path) -> Path:
    """A tiny embedded ESC-50: three classes, three clips of each in every fold. Do not write into it."""
    from hydraudio.tasks.pretraining.corpora.esc50 import EmbeddedESC50

    with (shared / "esc50.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return EmbeddedESC50(n_classes=3, n_per_fold=3, n_processes=1)(shared / "esc50_tiny")
