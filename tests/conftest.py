"""Fixtures that several test files share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs in several processes
os.environ.setdefault("HYDRAUDIO_PRODUCTS", "reference")  # the same bits, however busy the machine is

REPOSITORY = Path(__file__).parents[1]
for variable in re.findall(r"env_folder:(\w+)", (REPOSITORY / "configs" / "paths" / "default.yaml").read_text()):
    os.environ[variable] = ""  # the suite runs on generated corpora, whatever .env says


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder


@pytest.fixture(scope="session")
def speechbrain() -> ModuleType:
    """SpeechBrain, as a reference; imported behind the torchaudio stand-in."""
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    install_torchaudio_standin()
    return pytest.importorskip("speechbrain")


@pytest.fixture
def pipe() -> Iterator[Callable[[Path], Path]]:
    """Put a named pipe, from which nothing comes, in the place of a file; a test that waits for it ends."""

    def stop(*_: object) -> None:
        raise AssertionError("waits for what comes out of the pipe")

    def put(path: Path) -> Path:
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        return path

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield put
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


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
