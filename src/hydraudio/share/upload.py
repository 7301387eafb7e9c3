"""Publishing a model folder: one commit with everything in it, or nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydraudio.core.files import sha256_of_file
from hydraudio.share.hub import HubError, check_repo_name, explained, hub_api
from hydraudio.share.model_folder import ALLOWED, content_problems, file_hashes

ATTEMPTS = 3
_KEPT = (".gitattributes",)


class Published(NamedTuple):
    """Where a model lies.

    Attributes:
        repo: OWNER/NAME.
        revision: commit.
        created: the repository is a new one.
        changed: False: it held these files already.
    """

    repo: str
    revision: str
    created: bool
    changed: bool


def check_folder(folder: Path) -> None:
    """Refuse to publish what should not be public or would not work.

    Raises:
        ValueError: naming everything that is wrong.
    """
    problems = content_problems(folder)
    if problems:
        raise ValueError(f"{folder} cannot be published: {'; '.join(problems)}")


def publish(
    folder: Path,
    repo: str,
    *,
    private: bool = True,
    update: bool = False,
    endpoint: str | None = None,
    wait_s: float = 2.0,
) -> Published:
    """Upload a folder that `write_model_folder` wrote.

    All files arrive in one commit. A repository that this call created is removed again if the upload fails.

    Args:
        folder: the files.
        repo: OWNER/NAME.
        private: visibility of a new repository; an existing one must agree.
        update: the repository may exist with another model, which the commit replaces; older commits stay.
        endpoint: address of the hub; None takes HF_ENDPOINT.
        wait_s: before the commit is tried again after a fault of the hub, twice as long every time.

    Raises:
        HubError: the hub refuses or fails; the message says why and what is left there.
        ValueError: the folder is not fit to be published, or the repository exists and `update` is False.
    """
    check_repo_name(repo)
    check_folder(folder)
    api = hub_api(endpoint)
    with explained(f"{repo} could not be published", endpoint):
        api.whoami()
        present = _existing(api, repo)
    if present is None:
        return _create(api, folder, repo, private, wait_s)
    visibility = {True: "private", False: "public"}
    if bool(present.private) != private:
        raise ValueError(
            f"{repo} exists and is {visibility[bool(present.private)]}, not {visibility[private]} as asked; change it "
            "on the hub, or ask for what it is (--private, --public)"
        )
    if _holds(present, folder):
        return Published(repo, present.sha, created=False, changed=False)
    if not update and any(file.rfilename not in _KEPT for file in present.siblings):
        raise ValueError(
            f"{repo} exists and holds another model (revision {present.sha}); choose another name, or replace it with "
            "--update: its older revisions stay"
        )
    revision = _commit(api, folder, repo, present, wait_s, "it holds what it held before")
    return Published(repo, revision, created=False, changed=True)


def _create(api: Any, folder: Path, repo: str, private: bool, wait_s: float) -> Published:
    with explained(f"{repo} could not be created", api.endpoint):
        api.create_repo(repo, private=private, exist_ok=False)
    try:
        with explained(f"{repo} could not be published", api.endpoint):
            present = api.model_info(repo, files_metadata=True)
        revision = _commit(api, folder, repo, present, wait_s, "the repository is removed again")
    except BaseException:
        with explained(f"{repo} was created, but is empty and could not be removed: remove it by hand", api.endpoint):
            api.delete_repo(repo)
        raise
    return Published(repo, revision, created=True, changed=True)


def _commit(api: Any, folder: Path, repo: str, present: Any, wait_s: float, aftermath: str) -> str:
    """One commit on top of the revision that was looked at; tried again where the hub fails."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    names = [name for name in ALLOWED if (folder / name).is_file()]
    stale = [file.rfilename for file in present.siblings if file.rfilename not in (*names, *_KEPT)]
    for attempt in range(1, ATTEMPTS + 1):
        operations: list[Any] = [CommitOperationDelete(name) for name in stale]
        operations += [CommitOperationAdd(name, folder / name) for name in names]
        with explained(f"{repo} could not be published; {aftermath}", api.endpoint):
            try:
                commit = api.create_commit(
                    repo,
                    operations,
                    commit_message="Upload the model",
                    parent_commit=present.sha,
                )
                return str(commit.oid)
            except HfHubHTTPError as error:
                if error.response.status_code < 500 or attempt == ATTEMPTS:
                    raise
            time.sleep(wait_s * 2 ** (attempt - 1))
            arrived = api.model_info(repo, files_metadata=True)  # the answer may have been lost behind a commit
            if _holds(arrived, folder):
                return str(arrived.sha)
    raise HubError(f"{repo} could not be published")  # not reached: the last attempt returns or raises


def _existing(api: Any, repo: str) -> Any:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repo, files_metadata=True)
    except RepositoryNotFoundError:
        return None


def _holds(info: Any, folder: Path) -> bool:
    """Whether the head of a repository has exactly the files of the folder."""
    ours = file_hashes(folder)
    theirs: Mapping[str, Any] = {file.rfilename: file for file in info.siblings if file.rfilename not in _KEPT}
    return set(ours) == set(theirs) and all(_same(theirs[name], folder / name) for name in ours)


def _same(remote: Any, path: Path) -> bool:
    if remote.lfs is not None:
        return remote.lfs["sha256"] == sha256_of_file(path)
    return remote.blob_id == git_blob_id(path.read_bytes())


def git_blob_id(content: bytes) -> str:
    """The name that git gives a file of this content: SHA-1 of a header and the bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
