"""Who may speak to the listening page: this machine's browser, from the page itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
UPLOADS = "GRADIO_TEMP_DIR"
"""Environment variable by which gradio takes the folder of uploads."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def is_local(host: str, origin: str | None, forwarded: str | None = None) -> bool:
    """Whether a request was meant for this machine and comes from no page but ours.

    A name of a stranger that leads here (DNS rebinding) stands in `Host`; the page that sends a request in `Origin`.

    Args:
        host: header of this name, with or without a port.
        origin: header of this name; None where the request has none, as when an address is opened.
        forwarded: header `X-Forwarded-Host`, which only a proxy sets; there is none.

    >>> is_local("localhost:7860", "http://localhost:7860")
    True
    >>> is_local("localhost:7860", "http://elsewhere.example")
    False
    """
    try:
        name = urlsplit(f"//{host}").hostname
        same = origin is None or (urlsplit(origin).scheme == "http" and urlsplit(origin).netloc == host)
    except ValueError:
        return False
    return name in LOCAL and same and forwarded is None


class LocalOnly:
    """Middleware that answers everybody else with status 403."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", [])}
        wanted = (headers.get("host", ""), headers.get("origin"), headers.get("x-forwarded-host"))
        if scope["type"] == "lifespan" or is_local(*wanted):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            text = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": text})
            await send(
                {"type": "http.response.body", "body": b"Only this machine may listen: open the printed address."}
            )


@contextmanager
def temporary_folders() -> Iterator[Path]:
    """A folder for the sound of players; it goes at the end, and what was uploaded goes with it."""
    before = os.environ.get(UPLOADS)
    with tempfile.TemporaryDirectory(prefix="hydraudio_listen_") as folder:
        sounds, uploads = (Path(folder).resolve() / name for name in ("sounds", "uploads"))
        sounds.mkdir()
        os.environ[UPLOADS] = str(uploads)
        try:
            yield sounds
        finally:
            os.environ.pop(UPLOADS)
            if before is not None:
                os.environ[UPLOADS] = before
