"""Downloads from a server on the loopback interface that serves, cuts, delays, and has an old file."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hydraudio.core import download
from hydraudio.core.download import Archive, Source, fetch

pytest.importorskip("pooch")


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


CORPUS = zipped({"corpus-main/audio/a.wav": b"a" * 5000, "corpus-main/meta.csv": b"x\n", "other/b": b""})
OLD = zipped({"corpus-main/audio/a.wav": b"b"})
MD5 = f"md5:{hashlib.md5(CORPUS).hexdigest()}"
CLIP = b"sound" * 100
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(CLIP).hexdigest()}\nsize 500\n"


class Server(ThreadingHTTPServer):
    """Serves `files` by their path; counts the requests; `faults` holds path -> what goes wrong, and how often."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.requests: list[str] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else ""
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "delay":
            time.sleep(1.0)
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.files = {"/corpus.zip": CORPUS, "/old.zip": OLD}
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def corpus(server: Server, *paths: str, known_hash: str | None = MD5) -> Source:
    return Source((Archive(tuple(server.address(path) for path in paths), known_hash, inner="corpus-main"),))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_whole(server, tmp_path):
    folder = fetch(corpus(server, "/corpus.zip"), tmp_path / "data" / "corpus")
    assert names(folder) == ["audio/a.wav", "meta.csv"]
    assert [path.name for path in folder.parent.iterdir()] == ["corpus"]
    with pytest.raises(FileExistsError, match="exists already; delete it"):
        fetch(corpus(server, "/corpus.zip"), folder)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["cut", "delay"])
def test_a_fault_is_tried_again(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    server.faults["/corpus.zip"] = [fault, fault]
    assert names(fetch(corpus(server, "/corpus.zip"), tmp_path / "corpus")) == ["audio/a.wav", "meta.csv"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["cut", "delay"])
def test_what_never_comes_whole_leaves_nothing(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    server.faults["/corpus.zip"] = [fault] * 9
    with pytest.raises(OSError, match=r"corpus\.zip: did not answer whole .*Nothing was kept"):
        fetch(corpus(server, "/corpus.zip"), tmp_path / "corpus")
    assert len(server.requests) == download.ATTEMPTS
    assert not list(tmp_path.iterdir())


def test_an_old_file_is_refused_at_once(server, tmp_path):
    with pytest.raises(ValueError, match=rf"old\.zip: gave another file than the one of {MD5}"):
        fetch(corpus(server, "/old.zip"), tmp_path / "corpus")
    assert server.requests == ["/old.zip"]
    assert not list(tmp_path.iterdir())


def test_the_next_address_serves(server, tmp_path):
    source = corpus(server, "/old.zip", "/missing.zip", "/corpus.zip")
    assert names(fetch(source, tmp_path / "corpus")) == ["audio/a.wav", "meta.csv"]
    assert server.requests == ["/old.zip", *["/missing.zip"] * download.ATTEMPTS, "/corpus.zip"]


def test_other_archives(server, tmp_path):
    server.files["/page.zip"] = b"<html>moved</html>"
    with pytest.raises(ValueError, match=r"page\.zip: is no ZIP archive"):
        fetch(corpus(server, "/page.zip", known_hash=None), tmp_path / "corpus")
    server.files["/renamed.zip"] = zipped({"corpus-2/a": b""})
    with pytest.raises(ValueError, match=r"renamed\.zip: has no folder corpus-main"):
        fetch(corpus(server, "/renamed.zip", known_hash=None), tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


def test_members_never_leave_the_folder(server, tmp_path):
    server.files["/evil.zip"] = zipped({"corpus-main/a": b"", "../../escaped": b"", "/tmp/absolute": b""})
    folder = fetch(corpus(server, "/evil.zip", known_hash=None), tmp_path / "data" / "corpus")
    assert names(tmp_path) == ["data/corpus/a"]
    assert folder.is_dir()


def pointers(server: Server, content: bytes = POINTER.encode()) -> Source:
    server.files["/repo.zip"] = zipped({"repo/audio/a.wav": content, "repo/table.csv": b"x"})
    lines = f"audio/a.wav {hashlib.sha256(CLIP).hexdigest()}\n"
    address = server.address("/media/{}")
    pinned = hashlib.sha256(lines.encode()).hexdigest()
    return Source((Archive((server.address("/repo.zip"),), None, "repo", "audio", address, pinned),))


def test_pointers_are_replaced_by_their_files(server, tmp_path):
    server.files["/media/audio/a.wav"] = CLIP
    folder = fetch(pointers(server), tmp_path / "corpus")
    assert (folder / "audio" / "a.wav").read_bytes() == CLIP
    assert names(folder) == ["audio/a.wav", "table.csv"]
    whole = fetch(pointers(server, CLIP), tmp_path / "whole")  # an archive that holds the files themselves
    assert (whole / "audio" / "a.wav").read_bytes() == CLIP
    assert server.requests.count("/media/audio/a.wav") == 1


def test_wrong_pointers_and_files(server, tmp_path):
    server.files["/media/audio/a.wav"] = b"another sound"
    with pytest.raises(ValueError, match="gave another file than the one of sha256"):
        fetch(pointers(server), tmp_path / "corpus")
    with pytest.raises(ValueError, match="the files of audio are not those that are known"):
        fetch(pointers(server, POINTER.replace("oid sha256:", "oid sha256:0").encode()), tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


def test_by_hand(tmp_path):
    with pytest.raises(ValueError, match="fill in the form"):
        fetch(Source(by_hand="fill in the form"), tmp_path / "corpus")
    assert not list(tmp_path.iterdir())
