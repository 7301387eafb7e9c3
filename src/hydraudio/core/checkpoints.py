"""Checkpoint files that are either whole or absent, and clear words about those that are neither."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from hydra_preflight.disk import require_archive
from hydra_preflight.errors import ConfigError, DataMismatchError
from hydra_preflight.foreign import read_text
from hydraudio.core.files import whole_file
from hydraudio.core.run_folder import link_latest

if TYPE_CHECKING:
    from hydraudio.core.task import Task


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file beside the target and rename it, so that a kill never leaves half a checkpoint.

    Args:
        run_folder: ``latest`` points at it from its first checkpoint on; None: no link is made.
    """

    def __init__(self, run_folder: str | None = None) -> None:
        super().__init__()
        self._unlinked = None if run_folder is None else Path(run_folder)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any | None = None
    ) -> None:
        with whole_file(Path(path), durable=True) as file:
            torch.save(checkpoint, file)
        if self._unlinked is not None:
            link_latest(self._unlinked)
            self._unlinked = None


def _require_stored(file: Path) -> None:
    """Refuse compressed parts, which torch does not write: a small file could unpack to more than there is memory."""
    with zipfile.ZipFile(file) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError(f"{file}: refused, because it holds compressed parts; torch.save writes none")


def read_checkpoint(path: str | os.PathLike, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint on the CPU without executing anything in it.

    Args:
        path: the file.
        mmap: leave tensors in the file until they are used, for a look at the rest.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds more than data, or was not written by Hydraudio.
    """
    file = Path(path)
    require_archive(file)
    try:
        _require_stored(file)
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file}: refused, because it holds objects other than tensors and plain data, which could execute code: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: damaged or not a checkpoint ({str(error).splitlines()[0]})") from error
    given = checkpoint if isinstance(checkpoint, dict) else {}
    missing = [key for key in ("state_dict", "hydraudio_config") if key not in given]
    if missing:
        raise ValueError(
            f"{file}: has no {' and no '.join(missing)}; only checkpoints of Hydraudio describe themselves"
        )
    return checkpoint


def trained_config(checkpoint: Mapping[str, Any], ckpt_path: str | Path) -> dict[str, Any]:
    """The configuration inside a checkpoint as plain values to look at; `hydraudio.trained` makes things of it."""
    return read_text(checkpoint["hydraudio_config"], f"{ckpt_path} (its configuration)")


def require_same_model(
    task_class: type[Task], model: Mapping[str, Any], trained: Mapping[str, Any], path: str | Path
) -> None:
    """Refuse a checkpoint of another network, or of a task that agreed with another corpus.

    Args:
        task_class: says in what corpus and network must agree, and what the parts are.
        model: the section ``model`` of the configuration that is to continue.
        trained: that of the checkpoint.
        path: of the checkpoint, for messages.

    Raises:
        DataMismatchError: an attribute such as the sample rate or the classes is another one.
        ConfigError: a part has other settings.
    """
    for name in task_class.spec.agree:
        if model.get(name) != trained.get(name):
            raise DataMismatchError(name, model.get(name), trained.get(name))
    for part in task_class.parts:
        here, there = model.get(part) or {}, trained.get(part) or {}
        differences = [key for key in sorted({*here, *there}) if here.get(key) != there.get(key)]
        if differences:
            listed = ", ".join(f"{key}={there.get(key)} (here {here.get(key)})" for key in differences)
            raise ConfigError(
                f"ckpt_path: {path} was trained with another network: model.{part}.{listed}. Give the run a name of "
                "its own (name=NAME), or repeat the settings of the run that is to be continued"
            )


def require_weights_of(task: Task, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint whose tensors are not those of the networks in its configuration.

    Raises:
        ConfigError: a tensor is missing, is one too many, or has another shape.
    """
    states = (task.state_dict(), checkpoint["state_dict"])
    own, given = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in states)
    wrong = [name for name in dict.fromkeys((*own, *given)) if own.get(name) != given.get(name)]
    if wrong:
        there, here = (shapes.get(wrong[0], "absent") for shapes in (given, own))
        raise ConfigError(
            f"{path}: holds other weights than the networks of its configuration have ({len(wrong)} tensors differ, "
            f"such as {wrong[0]}: {there} instead of {here}); give another checkpoint"
        )


def require_same_corpus(checkpoint: Mapping[str, Any], datamodule: Any) -> None:
    """Refuse a checkpoint that was trained on another corpus, as far as both have a fingerprint.

    Raises:
        DataMismatchError: the fingerprints differ.
    """
    trained_on = checkpoint.get("hydraudio", {}).get("fingerprint")
    if trained_on is None:
        return
    datamodule.prepare_data()  # a generated corpus may have to be made first
    fingerprint = getattr(datamodule, "fingerprint", None)
    if fingerprint is not None and fingerprint != trained_on:
        raise DataMismatchError("corpus fingerprint", fingerprint, trained_on)
