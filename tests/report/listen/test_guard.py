"""The listening page answers this machine's browser only, keeps nothing, and opens nothing outside of its folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import toy_run

from hydraudio.report.listen.guard import UPLOADS, LocalOnly, is_local, temporary_folders
from hydraudio.report.listen.session import Session

OURS = [("localhost:7860", None), ("127.0.0.1:7860", "http://127.0.0.1:7860"), ("[::1]:7860", "http://[::1]:7860")]
STRANGERS: list[tuple[str, str | None]] = [
    ("elsewhere.example", None),
    ("elsewhere.example:7860", "http://elsewhere.example:7860"),
    ("localhost.elsewhere.example:7860", None),
    ("192.168.0.7:7860", None),
    ("0.0.0.0:7860", None),
    ("", None),
    ("localhost:7860", "http://elsewhere.example"),
    ("localhost:7860", "http://localhost.elsewhere.example:7860"),
    ("localhost:7860", "http://localhost:9999"),
    ("localhost:7860", "http://127.0.0.1:7860"),
    ("localhost:7860", "https://localhost:7860"),
    ("localhost:7860", "null"),
    ("localhost:7860", ""),
    ("elsewhere.example@localhost:7860", "http://elsewhere.example"),
    ("[::1", None),
]


def status(host: str, origin: str | None, kind: str = "http", **more: str) -> int:
    """What the middleware answers; 200 stands for the page."""
    headers = {"host": host, **({} if origin is None else {"origin": origin}), **more}
    answers: list[dict[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"status": 200})

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(LocalOnly(page)(scope, None, send))  # type: ignore[arg-type]
    return answers[0].get("status") or answers[0]["code"]


@pytest.mark.parametrize(("host", "origin"), OURS)
def test_the_page_itself_is_answered(host: str, origin: str | None) -> None:
    assert is_local(host, origin)
    assert status(host, origin) == 200
    assert status(host, origin, "websocket") == 200


@pytest.mark.parametrize(("host", "origin"), STRANGERS)
def test_strangers_are_not_answered(host: str, origin: str | None) -> None:
    assert not is_local(host, origin)
    assert status(host, origin) == 403
    assert status(host, origin, "websocket") == 1008


def test_a_proxy_is_not_answered() -> None:
    assert status("localhost:7860", None, **{"x-forwarded-host": "elsewhere.example"}) == 403


def test_uploads_go_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UPLOADS, "/before")
    with pytest.raises(KeyboardInterrupt), temporary_folders() as sounds:  # noqa: PT012
        uploads = Path(os.environ[UPLOADS])
        assert sounds.is_dir()
        assert uploads.parent == sounds.parent
        uploads.mkdir()
        (uploads / "voice.wav").touch()
        raise KeyboardInterrupt
    assert not sounds.parent.exists()
    assert os.environ[UPLOADS] == "/before"


@pytest.mark.parametrize(
    "inside", ["../outside/checkpoints/best.ckpt", "../logs/../outside/checkpoints/best.ckpt", "link"]
)
def test_nothing_outside_of_the_log_folder_is_opened(tmp_path: Path, toy_logs: Path, inside: str) -> None:
    outside = toy_run.write_run(tmp_path / "outside")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "link").symlink_to(outside)
    session = Session([toy_run.TRUSTED], logs)
    for path in (logs / inside, outside):
        with pytest.raises(ValueError, match="lies outside of"):
            session.open(path)


def test_a_long_recording_is_not_decoded(tmp_path: Path, toy_logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session([toy_run.TRUSTED], toy_logs)
    monkeypatch.setattr("hydraudio.report.listen.session.MAX_RECORDING_S", 1.0)
    monkeypatch.setattr("hydraudio.report.listen.session.read_audio_channels", lambda file: pytest.fail("decoded"))
    soundfile.write(tmp_path / "long.flac", np.zeros(9000), 8000)
    (checkpoint,) = toy_logs.rglob("*.ckpt")
    with pytest.raises(ValueError, match="more than a page can show"):
        session.hear_file(checkpoint, tmp_path / "long.flac")


@pytest.mark.slow
def test_the_served_page_is_guarded(toy_logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    import httpx

    from hydraudio.report.listen.page import serve

    answers: dict[str, int] = {}

    def announce(address: str) -> None:
        foreign = {"host": {"host": "elsewhere.example"}, "origin": {"origin": "http://elsewhere.example"}, "none": {}}
        answers.update({name: httpx.get(address, headers=headers).status_code for name, headers in foreign.items()})

    monkeypatch.setattr(gradio.Blocks, "block_thread", lambda page: page.close(verbose=False))
    serve(Session([toy_run.TRUSTED], toy_logs), announce)
    assert answers == {"host": 403, "origin": 403, "none": 200}
