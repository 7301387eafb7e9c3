"""The toy floor's run as a shared folder, and a hub to put it on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
TOKENS = {"hf_" + "owner" * 5: "me", "hf_" + "guest" * 5: "guest"}
for folder in (TESTS / "share", TESTS / "toy"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import hub_server  # noqa: E402
import toy_run  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def project_root(repository: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS / "toy"), str(repository / "src")]))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in a run folder with a report. Do not write into it."""
    return toy_run.write_run(tmp_path_factory.mktemp("logs") / "toys" / "2026-01-01_00-00-00")


@pytest.fixture(scope="session")
def trained(checkpoint: Path, project_root: None) -> Any:
    from hydraudio.share.model_folder import open_trained

    return open_trained(toy_run.eval_config("data.root=/elsewhere"), checkpoint)


@pytest.fixture(scope="session")
def model_folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared folder of the checkpoint. Do not write into it."""
    from hydraudio.share.model_folder import write_model_folder

    return write_model_folder(tmp_path_factory.mktemp("shared") / "model", trained)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A hub of which this process knows the owner's token, and nothing of the machine's logins and caches."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    with hub_server.running_hub(dict(TOKENS)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", next(iter(TOKENS)))
        yield server


@pytest.fixture
def as_guest(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Calls after it use this token; None: no login."""

    def use(token: str | None) -> None:
        monkeypatch.delenv("HF_TOKEN")
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    return use


@pytest.fixture
def fault() -> Any:
    return hub_server.Fault
