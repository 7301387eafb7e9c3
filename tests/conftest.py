"""Fixtures that several test files share."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs in several processes

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def polsess_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedded PolSESS corpus: 12, 6 and 6 rows of one second at 8 kHz. Do not write into it."""
    from hydraudio.tasks.separation.corpora.polsess.embedded import write_embedded_corpus

    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent  # one corpus for all workers
    with (shared / "polsess.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return write_embedded_corpus(shared / "polsess_tiny", 12, 6, 6, 12, duration_s=1.0, n_processes=1)


@pytest.fixture(scope="session")
def libri2mix_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedded Libri2Mix at 8 kHz, min and max: 10 + 4, 4 and 4 mixtures of about 1 s. Do not write into it."""
    from hydraudio.tasks.separation.corpora.libri2mix.embedded import write_embedded_libri2mix

    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent  # one corpus for all workers
    with (shared / "libri2mix.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = {"n_train_360": 4, "n_talkers": 12, "modes": ("min", "max"), "min_s": 0.6, "max_s": 1.2}
        return write_embedded_libri2mix(shared / "libri2mix_tiny", 10, 4, 4, n_processes=1, **options)


@pytest.fixture(scope="session")
def msp_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedded MSP-PODCAST: 48, 16, 12 + 8 + 4 turns of 0.8 to 1.6 s. Do not write into it."""
    from hydraudio.tasks.emotion.corpora.msp_podcast.embedded import write_embedded_msp_podcast

    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent  # one corpus for all workers
    with (shared / "msp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = {"n_speakers": 12, "min_s": 0.8, "max_s": 1.6, "n_processes": 1}
        return write_embedded_msp_podcast(shared / "msp_tiny", 48, 16, 12, 8, 4, **options)


@pytest.fixture(scope="session")
def tiny_run(polsess_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a real, short training of a tiny Conv-TasNet (SB), with a report. Do not write into it."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent  # one run for all workers
    logs = shared / "tiny_run_logs"
    tiny = {"n_filters": 16, "kernel_size": 32, "bottleneck_channels": 8, "hidden_channels": 8}
    size = {**tiny, "n_blocks": 2, "n_repeats": 1}
    network = [f"model.net.{key}={value}" for key, value in size.items()]
    data = [f"data.root={polsess_root}", "data.problem=SB", "data.num_workers=0", "data.batch_size=4"]
    settings = ["name=tiny", "trainer=cpu", "trainer.max_epochs=1", "report.n_bootstrap=20", "report.n_examples=1"]
    command = [sys.executable, str(REPOSITORY / "src" / "train.py"), *network, *data, *settings]
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(logs), "OMP_NUM_THREADS": "1"}
    with (shared / "tiny_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (logs / "tiny" / "latest" / "report" / "index.html").is_file():
            result = subprocess.run(command, cwd=shared, env=environment, capture_output=True, text=True, timeout=300)
            assert result.returncode == 0, result.stdout + result.stderr
    return (logs / "tiny" / "latest").resolve()


@pytest.fixture(scope="session")
def speechbrain() -> ModuleType:
    """SpeechBrain, as a reference; imported behind the torchaudio stand-in."""
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    install_torchaudio_standin()
    return pytest.importorskip("speechbrain")


Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run ``src/<script>`` in a process of its own, with logs and data below tmp_path."""

    def run(script: str, *arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        environment = {
            **os.environ,
            "HYDRAUDIO_LOG_DIR": str(tmp_path / "logs"),
            "HYDRAUDIO_DATA_DIR": str(tmp_path / "data"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        full = [sys.executable, str(REPOSITORY / script), *arguments]
        options = {"cwd": tmp_path, "env": environment, "timeout": 300, **options}
        result = subprocess.run(full, capture_output=True, text=True, **options)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(full)} failed:\n{result.stdout}\n{result.stderr}")
        return result

    return run
