"""Validation of a shared model: fetch that very copy, check it against its checkpoint, and report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydraudio.core.pretrained import HUB_ID
from hydraudio.share.checks import Copy, Validation
from hydraudio.share.hub import HubError, explained, hub_api

CHECKS = (
    ("reachable", Validation.reachable),
    ("files", Validation.files),
    ("checksums", Validation.checksums),
    ("card", Validation.card),
    ("loading", Validation.loading),
    ("tensors", Validation.tensors),
    ("results", Validation.results),
    ("description", Validation.description),
    ("metric", Validation.metric),
)


@dataclass(frozen=True)
class Outcome:
    """Of one check: what it found, or what is wrong."""

    name: str
    passed: bool
    finding: str


def validate(validation: Validation) -> list[Outcome]:
    """All checks in their order; one that fails does not keep the others from running."""
    return [_outcome(validation, name, check) for name, check in CHECKS]


def report(validation: Validation, outcomes: list[Outcome]) -> dict[str, Any]:
    """The machine-readable report."""
    copy = validation.copy
    return {
        "model": copy.name,
        "revision": copy.revision,
        "checkpoint": str(validation.trained.path),
        "passed": all(outcome.passed for outcome in outcomes),
        "checks": [asdict(outcome) for outcome in outcomes],
    }


def fetch_copy(name: str, folder: Path, revision: str | None = None, endpoint: str | None = None) -> Copy:
    """The copy behind a name: a local folder as it is, or all files of one commit of a repository on the hub.

    Args:
        name: a folder, or OWNER/NAME.
        folder: gets the files of a repository.
        revision: commit, tag or branch; it is resolved to a commit before anything is fetched.
        endpoint: address of the hub; None takes HF_ENDPOINT.

    Returns:
        The copy; with an error where there is none.

    Raises:
        ValueError: a revision for a local folder.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"--revision {revision} belongs to a repository on the hub, and {name} is a folder")
        return Copy(Path(name), name)
    if not HUB_ID.fullmatch(name):
        return Copy(Path(name), name, error=f"{name} is neither a folder nor the name of a repository (OWNER/NAME)")
    try:
        return _from_hub(name, folder, revision, endpoint)
    except HubError as error:
        return Copy(folder, name, error=str(error))


def _from_hub(name: str, folder: Path, revision: str | None, endpoint: str | None) -> Copy:
    from huggingface_hub import snapshot_download

    api = hub_api(endpoint)
    with explained(f"{name} could not be fetched", endpoint):
        info = api.model_info(name, revision=revision, files_metadata=True)
        snapshot_download(name, revision=info.sha, local_dir=folder, endpoint=api.endpoint, token=api.token)
    hashes = {file.rfilename: file.lfs["sha256"] for file in info.siblings or [] if file.lfs is not None}
    return Copy(folder, name, str(info.sha), bool(info.private), hashes)


def _outcome(validation: Validation, name: str, check: Any) -> Outcome:
    try:
        return Outcome(name, True, check(validation))
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        message = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        return Outcome(name, False, " ".join(message.split()))
