"""Pretrained models from the hub: pinned, with checksums, only the files that are needed, complete or not at all."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydraudio.core.files import sha256_of_file, write_json
from hydraudio.core.pretrained import CONFIG, PREPROCESSOR, WEIGHTS
from hydraudio.core.spec import Pin, find
from hydraudio.share.hub import COMMIT, HubError, check_repo_name, explained, hub_api

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RECORD = "source.json"


def recommended() -> dict[str, Pin]:
    """The public models that the floors of this house start from, at the commits that their experiments name."""
    found: dict[str, Pin] = {}
    for floor in pkgutil.iter_modules(importlib.import_module("hydraudio.tasks").__path__):
        found |= find(f"hydraudio.tasks.{floor.name}.spec.SPEC").pretrained
    return found


class Download(NamedTuple):
    """What a download came to.

    Attributes:
        folder: of the model.
        revision: commit of its files.
        pinned: the commit was known before; False: the newest of a branch or tag was taken.
        fetched: files came over the network; False: the folder was complete already.
    """

    folder: Path
    revision: str
    pinned: bool
    fetched: bool


def download_model(
    model_id: str,
    folder: Path,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    offline: bool = False,
    endpoint: str | None = None,
) -> Download:
    """Fetch config.json, preprocessor_config.json and the weights (safetensors where there are any) of a model.

    Beside them goes source.json with name, commit and checksums, which a later call verifies. What was fetched before
    an interruption is kept, and the call repeated goes on from there.

    Args:
        model_id: OWNER/NAME.
        folder: gets the files.
        revision: commit, branch or tag; None takes that of a `recommended` model, else the newest.
        sha256: of the weights.
        offline: only verify what is there.
        endpoint: address of the hub; None takes HF_ENDPOINT.

    Raises:
        HubError: the hub does not give the files; the message says why.
        ValueError: the folder holds another model or revision, or a checksum is wrong.
        FileNotFoundError: `offline`, and the folder is not complete.
    """
    check_repo_name(model_id)
    pin = recommended().get(model_id)
    wanted = revision or (pin.revision if pin else None)
    expected = sha256 or (pin.sha256 if pin and wanted == pin.revision else None)
    expected = expected.lower() if expected else None
    record = _read_record(folder, model_id)
    if record is not None and _same_revision(record, wanted, revision):
        _verify(folder, record["sha256"], expected)
        return Download(folder, record["revision"], pinned=record["pinned"], fetched=False)
    if offline:
        raise FileNotFoundError(
            f"{folder}: {model_id} is not complete here, and nothing may be fetched: run the command without --offline "
            "where there is a network, and copy the folder"
        )
    if record is not None:
        raise ValueError(
            f"{folder} holds revision {record['revision']} of {model_id}, and {wanted or 'main'} is asked for; give "
            "another folder, or remove this one"
        )
    api = hub_api(endpoint)
    commit = _fetch(api, model_id, folder, wanted)
    hashes = {name: sha256_of_file(folder / name) for name in _model_files(folder)}
    _check_weights(folder, hashes, expected)
    pinned = wanted is not None and COMMIT.fullmatch(wanted) is not None
    content = {"model_id": model_id, "revision": commit, "asked_for": wanted, "pinned": pinned, "sha256": hashes}
    write_json(folder / RECORD, content | {"endpoint": api.endpoint})
    return Download(folder, commit, pinned=pinned, fetched=True)


def _same_revision(record: Mapping[str, Any], wanted: str | None, given: str | None) -> bool:
    """Whether the folder has what is asked for; without a question it stays as it is."""
    return wanted in (record["revision"], record["asked_for"]) or (given is None and wanted is None)


def _fetch(api: HfApi, model_id: str, folder: Path, revision: str | None) -> str:
    """Download the files; return their commit."""
    at = f" at revision {revision}" if revision else ""
    action = f"{model_id}{at} could not be fetched"
    with explained(api, action):
        info = api.model_info(model_id, revision=revision)
    offered = {sibling.rfilename for sibling in info.siblings or []}
    weights = next((name for name in WEIGHTS if name in offered), None)
    if CONFIG not in offered or weights is None:
        raise HubError(f"{action}: the repository has no {CONFIG}" if weights else f"{action}: it has no {WEIGHTS[0]}")
    wanted = [name for name in (CONFIG, PREPROCESSOR, weights) if name in offered]
    with explained(api, f"{action}; what has arrived is kept, repeat the command"):
        api.snapshot_download(model_id, revision=info.sha, local_dir=folder, allow_patterns=wanted)
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise HubError(f"{action}: {', '.join(missing)} did not arrive; repeat the command")
    return str(info.sha)


def _model_files(folder: Path) -> list[str]:
    weights = next(name for name in WEIGHTS if (folder / name).is_file())
    return [name for name in (CONFIG, PREPROCESSOR, weights) if (folder / name).is_file()]


def _check_weights(folder: Path, hashes: Mapping[str, str], expected: str | None) -> None:
    name = next(name for name in WEIGHTS if name in hashes)
    if expected is not None and hashes[name] != expected:
        raise ValueError(
            f"{folder / name} has SHA-256 {hashes[name]}, expected {expected}: the file is damaged or another one. "
            "Remove the folder and fetch it again, or correct --sha256"
        )


def _verify(folder: Path, hashes: Mapping[str, str], expected: str | None) -> None:
    """Compare the files with their recorded checksums."""
    for name, recorded in hashes.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is gone; remove the folder and fetch the model again")
        if sha256_of_file(folder / name) != recorded:
            raise ValueError(f"{folder / name} has changed since it was fetched; remove the folder and fetch it again")
    _check_weights(folder, hashes, expected)


def _read_record(folder: Path, model_id: str) -> dict[str, Any] | None:
    path = folder / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    if record["model_id"] != model_id:
        raise ValueError(f"{folder} holds {record['model_id']}, not {model_id}; give another folder (--output)")
    return record
