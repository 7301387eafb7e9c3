"""Which names a configuration may instantiate."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from hydra_preflight.errors import ConfigError

PREFIXES = (
    "torch.nn",
    "torch.optim",
    "torchmetrics",
    "lightning.pytorch.accelerators",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.trainer",
)
EXACT = ("lightning.Trainer", "lightning.pytorch.Trainer", "aim.pytorch_lightning.AimLogger")
# Where the classes behind these names are defined.
HOMES = {
    "torch": ("torch.nn", "torch.optim"),
    # The others read models that their arguments name, or fetch them.
    "torchmetrics": ("torchmetrics.aggregation", "torchmetrics.classification", "torchmetrics.regression"),
    "lightning": ("lightning.pytorch", "lightning.fabric"),
    "aim": ("aim",),
}
# What Hydra itself instantiates before our code runs.
HYDRA_PLUGINS = (
    "hydra._internal.core_plugins",
    "hydra_plugins.hydra_optuna_sweeper",
    "hydra_plugins.hydra_joblib_launcher",
    "hydra_plugins.hydraudio_pruning_sweeper",
)
HYDRA_SAMPLERS = ("optuna.samplers", "optuna.pruners")
_NEVER = frozenset(sys.stdlib_module_names) | {"hydra", "hydra_plugins", "omegaconf", "yaml", "pip", "setuptools"}


def has_prefix(name: str, prefixes: Iterable[str]) -> bool:
    """Whether ``name`` is one of the packages or lies in one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def clean_prefixes(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Check and normalise ``extras.trusted_targets``.

    Raises:
        ConfigError: a prefix is not a package name, or names Python's standard library or the machinery of
            configuration.
    """
    cleaned = []
    for prefix in prefixes:
        name = str(prefix).rstrip(".")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"extras.trusted_targets: {prefix!r} is not the dotted name of a package.")
        if name.split(".")[0] in _NEVER:
            raise ConfigError(
                f"extras.trusted_targets: {prefix!r} cannot be trusted, its functions can run any command. "
                "List your own package, and wrap what you need from there."
            )
        cleaned.append(name)
    return tuple(cleaned)


def refusal(target: Any, trusted: tuple[str, ...]) -> str | None:
    """Why a name that is not ours may not be instantiated; None if it may. Nothing is imported."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return f"_target_ must be the dotted name of a class, got {target!r}."
    if target in EXACT or has_prefix(target, trusted):
        return None
    if has_prefix(target, PREFIXES):
        is_function = target.rpartition(".")[2][0].islower()
        return f"{target} is not the name of a class." if is_function else None
    package = target.split(".")[0]
    if package in _NEVER:
        return f"{target} may not be instantiated from a configuration. Write a class in your own package instead."
    return (
        f"{target} may not be instantiated: its package is not trusted. If you trust it, say so: "
        f"extras.trusted_targets=[{package}]"
    )


def is_trusted(target: str, trusted: tuple[str, ...]) -> bool:
    """Whether a name is allowed because the user trusts its package, and for no other reason."""
    return has_prefix(target, trusted) and target not in EXACT and not has_prefix(target, PREFIXES)


def locate(target: str, trusted: tuple[str, ...]) -> Any:
    """Import an allowed target (see :func:`refusal`) and make sure that it is what the name says.

    Raises:
        ConfigError: it cannot be imported, does not exist, or is not a class (trusted packages: class or function)
            defined there.
    """
    dotted, _, name = target.rpartition(".")
    module = _import(dotted, target)
    if not hasattr(module, name):
        from hydra_preflight.problems import suggest

        raise ConfigError(f"{dotted} has no {name!r}.{suggest(name, _public_classes(module), dotted)}")
    obj = getattr(module, name)
    home = getattr(obj, "__module__", None) or ""
    allowed = trusted if is_trusted(target, trusted) else HOMES.get(target.split(".")[0], (target.split(".")[0],))
    if not (inspect.isclass(obj) or inspect.isfunction(obj)) or not has_prefix(home, allowed):
        raise ConfigError(f"{target} is not a class of {', '.join(allowed)} (it is {_described(obj)}).")
    return obj


def _import(dotted: str, target: str) -> Any:
    """Import the module ``dotted``; attributes of modules are not followed."""
    try:
        module = import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name and (dotted == error.name or dotted.startswith(error.name + ".")):
            raise ConfigError(
                f"{target}: there is no module {error.name}. Correct the name, or install the package."
            ) from error
        raise ConfigError(
            f"{target}: importing {dotted} needs the package {error.name}, which is not installed."
        ) from error
    return module


def _public_classes(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if inspect.isclass(value) and not name.startswith("_")]


def _described(obj: Any) -> str:
    kind = "the class" if inspect.isclass(obj) else f"a {type(obj).__name__}"
    home = getattr(obj, "__module__", None) or getattr(obj, "__name__", "")
    return f"{kind} {home}.{getattr(obj, '__qualname__', '')}".rstrip(".")
