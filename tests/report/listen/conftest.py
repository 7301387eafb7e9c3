"""The toy floor's run, to listen to."""

import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parents[2] / "toy"
if str(TOY) not in sys.path:
    sys.path.insert(0, str(TOY))

import toy_run  # noqa: E402


@pytest.fixture(scope="session")
def toy_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log folder with one run. Do not write into it."""
    logs = tmp_path_factory.mktemp("logs")
    toy_run.write_run(logs / "toys" / "2026-01-01_00-00-00")
    return logs
