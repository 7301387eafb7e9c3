"""Which kinds of things may stand at which places of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hydra_preflight.project import PREDICTOR, REPORT, SCHEDULES, TASK

_MODULE = "torch.nn.modules.module.Module"
_FACTORIES = ("torch.optim.optimizer.Optimizer", "torch.optim.lr_scheduler.LRScheduler")
"""What a task makes itself, of a ``_partial_``."""
_CALLBACK = "lightning.pytorch.callbacks.callback.Callback"
_LOGGER = "lightning.fabric.loggers.logger.Logger"
_OF_A_TRAINER = (
    _CALLBACK,
    _LOGGER,
    "lightning.fabric.plugins.environments.cluster_environment.ClusterEnvironment",
    "lightning.fabric.plugins.io.checkpoint_io.CheckpointIO",
    "lightning.fabric.plugins.precision.precision.Precision",
    "lightning.pytorch.accelerators.accelerator.Accelerator",
    "lightning.pytorch.plugins.layer_sync.LayerSync",
    "lightning.pytorch.profilers.profiler.Profiler",
    "lightning.pytorch.strategies.strategy.Strategy",
)
# Place -> kinds of the node itself, and of those inside of it.
_PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "model": ((TASK,), (_MODULE, *_FACTORIES)),
    "data": (("lightning.pytorch.core.datamodule.LightningDataModule",), (_MODULE,)),
    "report": ((REPORT,), ()),
    "predict": ((PREDICTOR,), ()),
    "trainer": (("lightning.pytorch.trainer.trainer.Trainer",), _OF_A_TRAINER),
}
_COLLECTIONS = {"callbacks": (_CALLBACK,), "logger": (_LOGGER,)}
"""Their entries are of these kinds."""


def kinds_at(key: str) -> tuple[str, ...]:
    """Full names of the classes of which something at a place may be; none where nothing is made.

    >>> kinds_at("callbacks.ema")
    ('lightning.pytorch.callbacks.callback.Callback',)
    """
    top, *inner = key.split(".")
    if top in _COLLECTIONS:
        return _COLLECTIONS[top] if len(inner) == 1 else ()
    itself, inside = _PLACES.get(top, ((), ()))
    return inside if inner else itself


def misplaced(key: str) -> str | None:
    """Why there can be no target at a place at all; None if there can."""
    if kinds_at(key):
        return None
    places = ", ".join([*_PLACES, *(f"{name}.NAME" for name in _COLLECTIONS)])
    return f"nothing is made here, so there can be no target; the places of targets are {places}."


def wrong_kind(key: str, node: Mapping[str, Any], obj: Any, trusted: bool) -> str | None:
    """Why an imported class or function may not stand at a place; None if it may.

    Functions are schedules of ours, or a trusted package's optimizers and schedules: a task calls them, nobody else.

    Args:
        key: full key of the node.
        node: its mapping.
        obj: what its ``_target_`` names.
        trusted: whether that lies in a package that the user trusts.
    """
    target, allowed = str(node["_target_"]), kinds_at(key)
    if inspect.isclass(obj):
        bases = {f"{base.__module__}.{base.__qualname__}" for base in obj.__mro__}
        is_fit, is_factory = not bases.isdisjoint(allowed), not bases.isdisjoint(_FACTORIES)
    else:
        is_factory = target in SCHEDULES or (trusted and _is_place_of_factories(key))
        is_fit = is_factory and key.startswith("model.")
    if not is_fit:
        names = ", ".join(sorted(name.rpartition(".")[2] for name in allowed))
        return f"{target} may not stand here: it is not of the kind {names}."
    if is_factory and node.get("_partial_") is not True:
        return f"{target} is made by the task, when the networks are there: set _partial_: true."
    return None


def _is_place_of_factories(key: str) -> bool:
    return any(part.startswith(("optimizer", "scheduler")) for part in key.split(".")[1:])
