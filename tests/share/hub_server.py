"""A hub on the loopback interface: what uploads and downloads of models need of the Hugging Face hub's protocol.

Accounts, repositories with commits, regular and LFS files, private and gated repositories, ranges, and faults on
demand. Everything is kept in memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub import ModelCard


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> files
    head: str = ""

    def commit(self, files: dict[str, bytes]) -> str:
        seed = repr((len(self.commits), sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())))
        self.head = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[self.head] = dict(files)
        return self.head

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.head]


@dataclass
class Fault:
    """Answer `status` to the next `times` requests of this method whose path matches; `late`: after doing them."""

    method: str
    path: str
    status: int
    times: int = 1
    late: bool = False


class HubServer(ThreadingHTTPServer):
    """See the module. `requests` lists (method, path) in their order."""

    daemon_threads = True

    def __init__(self, tokens: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens = tokens  # token -> user
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.authorizations: set[str] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> str:
        """A repository with one commit; returns it."""
        self.repos[name] = Repo(**options)
        return self.repos[name].commit(files)


@contextmanager
def running_hub(tokens: dict[str, str] | None = None) -> Iterator[HubServer]:
    server = HubServer(tokens or {})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet
    disable_nagle_algorithm = True
    server: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        path, self.query = unquote(parts.path), parse_qs(parts.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        with self.server.lock:
            self.server.requests.append((self.command, path))
            if self.headers.get("Authorization"):
                self.server.authorizations.add(self.headers["Authorization"])
            fault = next(
                (f for f in self.server.faults if f.times and f.method == self.command and re.search(f.path, path)),
                None,
            )
            if fault is not None:
                fault.times -= 1
                if not fault.late:
                    return self._answer(fault.status, {"error": "fault"})
            try:
                status, content, headers = self._route(path, body)
            except _Refusal as refusal:
                headers = {"X-Error-Code": refusal.code} if refusal.code else {}
                if refusal.message:
                    headers["X-Error-Message"] = refusal.message
                status, content = refusal.status, {"error": refusal.message or refusal.code}
            if fault is not None:
                status, content, headers = fault.status, {"error": "fault"}, {}
        return self._answer(status, content, headers)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = dict(headers or {})
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("Content-Length", str(len(body))))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _route(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        for pattern, method, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and (method == self.command or (method, self.command) == ("GET", "HEAD")):
                answer = action(self, body, *match.groups())
                return answer if isinstance(answer, tuple) else (200, answer, {})
        raise _Refusal(404, message=f"no such page: {self.command} {path}")

    def _user(self, required: bool = True) -> str | None:
        header = self.headers.get("Authorization")
        if header is None:
            if required:
                raise _Refusal(401, message="Invalid username or password.")
            return None
        user = self.server.tokens.get(header.removeprefix("Bearer "))
        if user is None:
            raise _Refusal(401, message="Invalid credentials in Authorization header")
        return user

    def _repo(self, name: str, write: bool = False) -> Repo:
        user = self._user(required=write)
        repo = self.server.repos.get(name)
        mine = user == name.partition("/")[0]
        if repo is None or (repo.private and not mine):
            raise _Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        if repo.gated and not mine:
            raise _Refusal(403 if user else 401, "GatedRepo", f"Access to model {name} is restricted.")
        if write and not mine:
            raise _Refusal(403, message="You don't have the rights to write to this repository.")
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str:
        commit = repo.head if revision == "main" else revision
        if commit not in repo.commits:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def whoami(self, body: bytes) -> Any:
        return {"type": "user", "name": self._user(), "orgs": [], "auth": {"type": "access_token"}}

    def create(self, body: bytes) -> Any:
        content = json.loads(body)
        user = self._user()
        owner = content.get("organization") or user
        if owner != user:
            raise _Refusal(403, message=f"You don't have the rights to create a model under the namespace {owner}")
        name = f"{owner}/{content['name']}"
        if name in self.server.repos:
            raise _Refusal(409, message="You already created this model repo")
        self.server.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.server.repos[name].private = content.get("visibility") == "private"
        return {"url": f"{self.server.url}/{name}", "name": name, "id": "0"}

    def delete(self, body: bytes) -> Any:
        content = json.loads(body)
        name = f"{content.get('organization') or self._user()}/{content['name']}"
        self._repo(name, write=True)
        del self.server.repos[name]
        return {}

    def info(self, body: bytes, name: str, revision: str | None) -> Any:
        repo = self._repo(name)
        commit = self._commit_of(repo, revision or "main")
        siblings = []
        for file, data in sorted(repo.commits[commit].items()):
            sibling: dict[str, Any] = {"rfilename": file}
            if "blobs" in self.query:
                sibling |= {"size": len(data), "blobId": blob_id(data)}
                if _is_lfs(file, len(data)):
                    sibling["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
            siblings.append(sibling)
        return {"id": name, "modelId": name, "sha": commit, "private": repo.private, "tags": [], "siblings": siblings}

    def tree(self, body: bytes, name: str, revision: str) -> Any:
        repo = self._repo(name)
        entries = []
        for file, data in sorted(repo.commits[self._commit_of(repo, revision)].items()):
            entry = {"type": "file", "path": file, "size": len(data), "oid": blob_id(data)}
            if _is_lfs(file, len(data)):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        return entries

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> Any:
        repo = self._repo(name)
        commit = self._commit_of(repo, revision)
        if file not in repo.commits[commit]:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        data = repo.commits[commit][file]
        lfs = _is_lfs(file, len(data))
        etag = hashlib.sha256(data).hexdigest() if lfs else blob_id(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if lfs:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if self.command == "HEAD":
            return 200, b"", headers | {"Content-Length": str(len(data))}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return 206, data[first:], headers
        return 200, data, headers

    def validate_card(self, body: bytes) -> Any:
        try:
            ModelCard(json.loads(body)["content"])
        except (ValueError, yaml.YAMLError) as error:
            return 400, {"errors": [{"message": str(error)}], "warnings": []}, {}
        return {"errors": [], "warnings": []}

    def preupload(self, body: bytes, name: str, revision: str) -> Any:
        repo = self._repo(name, write=True)
        files = []
        for file in json.loads(body)["files"]:
            there = repo.files.get(file["path"])
            oid = None if there is None else _oid(file["path"], there)
            mode = "lfs" if _is_lfs(file["path"], file["size"]) else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def lfs_batch(self, body: bytes, name: str) -> Any:
        self._repo(name, write=True)
        objects: list[dict[str, Any]] = []
        for wanted in json.loads(body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.lfs:
                link = f"{self.server.url}/lfs-storage/{wanted['oid']}"
                entry["actions"] = {"upload": {"href": link}, "verify": {"href": link}}
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, body: bytes, oid: str) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refusal(400, message="the content is not what was announced")
        self.server.lfs[oid] = body
        return {}

    def lfs_verify(self, body: bytes, oid: str) -> Any:
        if oid not in self.server.lfs:
            raise _Refusal(404, message="no such object")
        return {}

    def commit(self, body: bytes, name: str, revision: str) -> Any:
        repo = self._repo(name, write=True)
        files = dict(repo.files)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit", repo.head) != repo.head:
                raise _Refusal(412, message="A commit has happened since. Please refresh and try again.")
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.lfs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(files)
        return {"commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}", "success": True}


for _method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
    setattr(_Handler, f"do_{_method}", _Handler._handle)


def _is_lfs(name: str, size: int) -> bool:
    return name.endswith((".safetensors", ".bin")) or size >= 10 * 2**20


def _oid(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if _is_lfs(name, len(data)) else blob_id(data)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    (r"/api/whoami-v2", "GET", _Handler.whoami),
    (r"/api/repos/create", "POST", _Handler.create),
    (r"/api/repos/delete", "DELETE", _Handler.delete),
    (r"/api/validate-yaml", "POST", _Handler.validate_card),
    (rf"/api/models/{_NAME}(?:/revision/([^/]+))?", "GET", _Handler.info),
    (rf"/api/models/{_NAME}/tree/([^/]+)/?", "GET", _Handler.tree),
    (rf"/api/models/{_NAME}/preupload/([^/]+)", "POST", _Handler.preupload),
    (rf"/api/models/{_NAME}/commit/([^/]+)", "POST", _Handler.commit),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", "POST", _Handler.lfs_batch),
    (r"/lfs-storage/(\w+)", "PUT", _Handler.lfs_put),
    (r"/lfs-storage/(\w+)", "POST", _Handler.lfs_verify),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", "GET", _Handler.resolve),
]


def environment(hub: Any, folder: Path, token: str) -> dict[str, str]:
    """Of commands that know this hub and nothing of the machine's logins and caches; they write below the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    folders = {"HYDRAUDIO_LOG_DIR": str(folder / "logs"), "HYDRAUDIO_DATA_DIR": str(folder / "data")}
    return {**kept, **own, **folders, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
