"""Weights of a checkpoint as the beginning of another training: all of them, or those of the parts that are named."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, ListConfig
from torch import Tensor

from hydra_preflight.errors import ConfigError, DataMismatchError
from hydraudio.core.checkpoints import read_checkpoint, trained_config
from hydraudio.core.task import Task

log = logging.getLogger(__name__)

MAX_LISTED = 20
State = Mapping[str, Tensor]


def load_initial_weights(cfg: DictConfig, task: Task) -> None:
    """Give a new task the weights of ``cfg.init_from``, all or those of the parts ``cfg.init_only``."""
    path, parts = cfg.init_from, cfg.init_only
    if parts is not None:
        if not path:
            raise ConfigError("init_only: names parts of another run's checkpoint; give that, too: init_from=FILE")
        if not (isinstance(parts, ListConfig) and parts and all(isinstance(part, str) for part in parts)):
            raise ConfigError(f"init_only={parts}: give a list of parts, such as init_only=[{task.parts[0]}]")
    if path:
        checkpoint = read_checkpoint(path, mmap=True)
        load_weights(task, checkpoint["state_dict"], trained_config(checkpoint, path)["model"], path, parts)


def load_weights(
    task: Task, state: State, trained: Mapping[str, Any], source: str, parts: Sequence[str] | None = None
) -> None:
    """Load tensors of a checkpoint into a task, and log what was loaded and what was not.

    Args:
        task: gets them.
        state: tensors of the checkpoint by name.
        trained: the section ``model`` of the checkpoint's configuration.
        source: of the checkpoint, for messages.
        parts: modules or tensors as the state dict names them, such as ``net``. What lies below them is loaded, and all
            else stays as it is. None loads everything.

    Raises:
        DataMismatchError: weights that belong to names, one row each, would be loaded under other names.
        ConfigError: a part is missing in the task or the checkpoint, or a tensor in it is missing or has another shape.
    """
    own = task.state_dict()
    for part in parts or ():
        _require(part, own, "the model")
        _require(part, state, source)
    asked = {name: None for name in (*own, *state) if parts is None or _is_below(name, parts)}
    _refuse_what_does_not_fit(task, own, state, asked, trained, source, parts)
    task.load_state_dict({name: state[name] for name in asked}, strict=False)
    kept = [name for name in own if name not in asked]
    log.info(
        "init_from=%s: loaded %d tensors (%d values): %s; kept their new values: %s",
        source,
        len(asked),
        sum(own[name].numel() for name in asked),
        ", ".join(_roots(asked, kept)),
        ", ".join(_roots(kept, asked)) or "none",
    )


def _refuse_what_does_not_fit(
    task: Task,
    own: State,
    state: State,
    asked: Collection[str],
    trained: Mapping[str, Any],
    source: str,
    parts: Sequence[str] | None,
) -> None:
    """Raise what :func:`load_weights` says; ``asked`` are the tensors that would be loaded."""
    renamed = _renamed(task, own, trained)
    both = own.keys() & state.keys() - {name for names in renamed.values() for name in names}
    fitting = {name: None for name in asked if name in both and own[name].shape == state[name].shape}
    remedy = _remedy(source, _roots(fitting, {*own, *state} - fitting.keys()))
    for attribute, names in renamed.items():
        if any(name in asked and name in state for name in names):
            raise DataMismatchError(attribute, getattr(task, attribute), trained.get(attribute), remedy)
    differences = [_difference(name, own, state) for name in asked if name not in fitting]
    if differences:
        key = "init_from" if parts is None else f"init_only=[{','.join(parts)}]"
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ConfigError(f"{key}: {source} does not fit: {'; '.join(differences[:3])}{more}; {remedy}")


def _renamed(task: Task, own: State, trained: Mapping[str, Any]) -> dict[str, list[str]]:
    """Attribute that lists other names than the checkpoint -> tensors with a row per name; all, if none is known."""
    renamed = {}
    for attribute in task.spec.names.values():
        names = list(getattr(task, attribute))
        if names and names != trained.get(attribute):
            heads = task.spec.heads.get(attribute, ())
            renamed[attribute] = [name for name in own if _is_below(name, heads)] or list(own)
    return renamed


def _remedy(source: str, parts: Sequence[str]) -> str:
    if not parts:
        return f"nothing of {source} fits"
    listed = ",".join([*parts[:MAX_LISTED], *["..."] * (len(parts) > MAX_LISTED)])
    return f"to load what fits of {source}: init_only=[{listed}]"


def _require(part: str, names: Iterable[str], where: str) -> None:
    """Refuse a part below which there is nothing, and name the nearest others."""
    known = {ancestor: None for name in names for ancestor in _ancestors(name)}
    if part not in known:
        near = get_close_matches(part, known, n=3, cutoff=0.5) or [name for name in known if name.count(".") < 2]
        raise ConfigError(f"init_only: {where} has no weights in {part!r}; the nearest parts are {', '.join(near)}")


def _difference(name: str, own: State, state: State) -> str:
    if name not in own or name not in state:
        return f"{name} is in the {'model' if name in own else 'checkpoint'} alone"
    return f"{name} has the shape {tuple(state[name].shape)} there, {tuple(own[name].shape)} here"


def _roots(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Summarise names by the largest parts that hold none of the others.

    >>> _roots(["net.a.weight", "net.a.bias", "net.b.weight"], ["net.b.bias"])
    ['net.a', 'net.b.weight']
    """
    shared = {ancestor for name in others for ancestor in _ancestors(name)}
    return list(dict.fromkeys(next((a for a in _ancestors(name) if a not in shared), name) for name in names))


def _ancestors(name: str) -> list[str]:
    """The name and what it lies in, largest first."""
    pieces = name.split(".")
    return [".".join(pieces[: i + 1]) for i in range(len(pieces))]


def _is_below(name: str, parts: Iterable[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)
