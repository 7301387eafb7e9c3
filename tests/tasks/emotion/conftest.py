"""A miniature corpus of emotional speech, made once for all tests of the floor."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def msp_root(shared: Path) -> Path:
    """A tiny embedded MSP-PODCAST: 48, 16, 12 + 8 + 4 turns of 0.8 to 1.6 s. Do not write into it."""
    from hydraudio.tasks.emotion.corpora.msp_podcast.embedded import EmbeddedMSPPodcast

    with (shared / "msp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = {"n_speakers": 12, "min_s": 0.8, "max_s": 1.6, "n_processes": 1}
        return EmbeddedMSPPodcast(n_train=48, n_val=16, n_test1=12, n_test2=8, n_test3=4, **options)(
            shared / "msp_tiny"
        )
