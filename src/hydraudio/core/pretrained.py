"""Folders of pretrained models: where a source lies, what its config.json says, and networks built without it.

A source is a folder in the format of the Hugging Face hub (config.json beside model.safetensors or pytorch_model.bin)
or the name of such a repository on the hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_weights_come_later: ContextVar[bool] = ContextVar("weights_come_later", default=False)


@contextmanager
def weights_come_later() -> Iterator[None]:
    """Let networks be built from the stored architecture alone: a state dict will bring every weight.

    A checkpoint is restored in it, so that it needs neither the folder that its training started from nor a network.
    """
    token = _weights_come_later.set(True)
    try:
        yield
    finally:
        _weights_come_later.reset(token)


def are_weights_coming_later() -> bool:
    """Say whether the caller runs inside :func:`weights_come_later`."""
    return _weights_come_later.get()


def pretrained_config(source: str | None, revision: str | None = None) -> dict[str, Any] | None:
    """Read config.json of ``source``; None for None.

    ``do_normalize`` and ``sampling_rate`` of preprocessor_config.json are added under these names where that file
    exists: a restored network needs them as much as its layer sizes.

    Raises:
        FileNotFoundError: ``source`` is neither a folder with a config.json nor the form of a hub name.
        ValueError: the hub does not give the files, or they cannot be read.
    """
    if source is None:
        return None
    folder = pretrained_folder(source, revision, weights=False)
    config = read_json(folder / CONFIG)
    if (folder / PREPROCESSOR).is_file():
        preprocessor = read_json(folder / PREPROCESSOR)
        config |= {key: preprocessor[key] for key in ("do_normalize", "sampling_rate") if key in preprocessor}
    return config


def pretrained_folder(source: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """Return the local folder with the files of ``source``.

    Args:
        source: a folder, or ``owner/name`` on the hub (its cache is used first where the hub cannot be reached).
        revision: commit, tag or branch of a hub name; a folder has none.
        weights: also see to the weights; False asks for the configuration alone.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: the hub does not give the files; or a revision was given for a folder.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(
                f"revision={revision!r} belongs to a name on the hub, but {source} is a folder: leave it out"
            )
        return _checked(folder, weights)
    if not HUB_ID.fullmatch(source):
        raise FileNotFoundError(
            f"{source}: there is no such folder. Give the folder of a model (config.json and model.safetensors), which "
            "`python scripts/share/download_model.py OWNER/NAME` writes, or a name on the hub"
        )
    return _checked(_from_hub(source, revision, weights), weights)


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file of the folder of a model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, so the folder of the model is incomplete")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): fetch the file again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _checked(folder: Path, weights: bool) -> Path:
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder}: there is no {CONFIG}, so this is not the folder of a model in the hub's format"
        )
    if weights and not any((folder / name).is_file() for name in WEIGHTS):
        raise FileNotFoundError(f"{folder}: there are no weights, neither {WEIGHTS[0]} nor {WEIGHTS[1]}")
    return folder


def _from_hub(name: str, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, PREPROCESSOR]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted + [WEIGHTS[0]] * weights))
        if weights and not (folder / WEIGHTS[0]).is_file():
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*wanted, WEIGHTS[1]]))
    except (OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise ValueError(
            f"{name}{at} could not be fetched from the hub ({type(error).__name__}: {error}). If the name is right, "
            f"fetch it once where there is a network with `python scripts/share/download_model.py {name}` and give the "
            "folder that it writes as the source"
        ) from error
    return folder
