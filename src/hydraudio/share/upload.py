"""Publishing a model folder: one commit with everything in it, or nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydraudio.share.hub import check_repo_name, explained, hub_api
from hydraudio.share.model_folder import ALLOWED, content_problems

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ATTEMPTS = 3
_KEPT = ".gitattributes"


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
        update: the repository may hold another model, which the commit replaces; older commits stay.
        endpoint: address of the hub; None takes HF_ENDPOINT.
        wait_s: before the commit is tried again after a fault of the hub, twice as long every time.

    Raises:
        HubError: the hub refuses or fails; the message says why and what is left there.
        ValueError: the folder is not fit to be published, or the repository holds files and `update` is False.
    """
    check_repo_name(repo)
    check_folder(folder)
    api = hub_api(endpoint)
    with explained(api, f"{repo} could not be published"):
        api.whoami()
        present = api.model_info(repo) if api.repo_exists(repo) else None
    if present is None:
        return _create(api, folder, repo, private, wait_s)
    visibility = {True: "private", False: "public"}
    if bool(present.private) != private:
        raise ValueError(
            f"{repo} exists and is {visibility[bool(present.private)]}, not {visibility[private]} as asked; change it "
            "on the hub, or ask for what it is, with or without --public"
        )
    if not update and any(file.rfilename != _KEPT for file in present.siblings or []):
        raise ValueError(
            f"{repo} exists and holds a model (revision {present.sha}); choose another name, or replace it with "
            "--update: its older revisions stay, and the same files change nothing"
        )
    revision = _commit(api, folder, repo, str(present.sha), wait_s, "it holds what it held before")
    return Published(repo, revision, created=False, changed=revision != present.sha)


def _create(api: HfApi, folder: Path, repo: str, private: bool, wait_s: float) -> Published:
    with explained(api, f"{repo} could not be created"):
        api.create_repo(repo, private=private, exist_ok=False)
    try:
        with explained(api, f"{repo} could not be published"):
            head = str(api.model_info(repo).sha)
        revision = _commit(api, folder, repo, head, wait_s, "the repository is removed again")
    except BaseException:
        with explained(api, f"{repo} was created, but is empty and could not be removed: remove it by hand"):
            api.delete_repo(repo)
        raise
    return Published(repo, revision, created=True, changed=True)


def _commit(api: HfApi, folder: Path, repo: str, head: str, wait_s: float, aftermath: str) -> str:
    """One commit on top of `head`, tried again where the hub fails.

    `upload_folder` would part a large folder into several commits. Where the answer to a commit was lost, the next try
    finds that nothing is left to do and gives the revision that is there.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    names = [name for name in ALLOWED if (folder / name).is_file()]
    with explained(api, f"{repo} could not be published; {aftermath}"):
        for attempt in range(ATTEMPTS):
            try:
                stale = [name for name in api.list_repo_files(repo) if name not in (*names, _KEPT)]
                changes: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(n) for n in stale]
                changes += [CommitOperationAdd(name, folder / name) for name in names]
                message = "Upload the model"
                return api.create_commit(repo, changes, commit_message=message, parent_commit=head).oid
            except HfHubHTTPError as error:
                if error.response.status_code < 500 or attempt == ATTEMPTS - 1:
                    raise
            time.sleep(wait_s * 2**attempt)
    raise AssertionError("the last attempt returns or raises")
