"""Miniature corpora and a short run of separation, made once for all tests of the floor."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def polsess_root(shared: Path) -> Path:
    """A tiny embedded PolSESS corpus: 12, 6 and 6 rows of one second at 8 kHz. Do not write into it."""
    from hydraudio.tasks.separation.corpora.polsess.embedded import EmbeddedPolSESS

    with (shared / "polsess.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return EmbeddedPolSESS(n_train=12, n_val=6, n_test=6, n_talkers=12, duration_s=1.0, n_processes=1)(
            shared / "polsess_tiny"
        )


@pytest.fixture(scope="session")
def libri2mix_root(shared: Path) -> Path:
    """A tiny embedded Libri2Mix at 8 kHz, min and max: 10 + 4, 4 and 4 mixtures of about 1 s. Do not write into it."""
    from hydraudio.tasks.separation.corpora.libri2mix.embedded import EmbeddedLibri2Mix

    with (shared / "libri2mix.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = {"n_train_360": 4, "n_talkers": 12, "modes": ("min", "max"), "min_s": 0.6, "max_s": 1.2}
        return EmbeddedLibri2Mix(n_train=10, n_val=4, n_test=4, n_processes=1, **options)(shared / "libri2mix_tiny")


@pytest.fixture(scope="session")
def tiny_run(polsess_root: Path, shared: Path, repository: Path) -> Path:
    """Run folder of a real, short training of a tiny Conv-TasNet (SB), with a report. Do not write into it."""
    logs = shared / "tiny_run_logs"
    tiny = {"n_filters": 16, "kernel_size": 32, "bottleneck_channels": 8, "hidden_channels": 8}
    size = {**tiny, "n_blocks": 2, "n_repeats": 1}
    network = [f"model.net.{key}={value}" for key, value in size.items()]
    data = [f"data.root={polsess_root}", "data.problem=SB", "data.num_workers=0", "data.batch_size=4"]
    settings = ["name=tiny", "trainer=cpu", "trainer.max_epochs=1", "report.n_bootstrap=20", "report.n_examples=1"]
    command = [sys.executable, str(repository / "src" / "train.py"), *network, *data, *settings]
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(logs), "OMP_NUM_THREADS": "1"}
    with (shared / "tiny_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (logs / "tiny" / "latest" / "report" / "index.html").is_file():
            result = subprocess.run(command, cwd=shared, env=environment, capture_output=True, text=True, timeout=300)
            assert result.returncode == 0, result.stdout + result.stderr
    return (logs / "tiny" / "latest").resolve()
