"""The ``hydra`` node: what Hydra itself instantiates before our code runs, and sweeps with several processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_preflight.errors import ConfigError
from hydra_preflight.own_source import own_package
from hydra_preflight.problems import Problem
from hydra_preflight.sources import Sources
from hydra_preflight.tree import is_target, walk_targets
from hydra_preflight.whitelist import HYDRA_PLUGINS, HYDRA_SAMPLERS, has_prefix, locate

# Strategies that stay in the process of the sweep, or start children that do not run the script again.
_IN_PROCESS = ("ddp_spawn", "ddp_fork", "ddp_notebook")
_LOGGING_CLASS = re.compile(r"(logging|logging\.handlers|colorlog|rich\.logging)\.[A-Z]\w*")
_LOGGING_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_UNSAFE_ENVIRONMENT = ("LD_", "DYLD_", "PYTHON", "PATH", "HYDRA_")


def check_hydra_node(hydra_cfg: DictConfig, sources: Sources, trusted: tuple[str, ...]) -> list[Problem]:
    """Problems with the callbacks, launcher, sweeper, logging and environment of Hydra itself."""
    return [Problem(sources.origin(key), key, text) for key, text in _hydra_problems(hydra_cfg, sources, trusted)]


def _hydra_problems(hydra_cfg: DictConfig, sources: Sources, trusted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key, target in walk_targets(_container(hydra_cfg.get("callbacks")), "hydra.callbacks"):
        reason = _callable_refusal(target["_target_"], trusted)
        if reason:
            yield f"{key}._target_", reason
    for section, allowed in (("launcher", HYDRA_PLUGINS), ("sweeper", (*HYDRA_PLUGINS, *HYDRA_SAMPLERS))):
        yield from _plugin_problems(section, _container(hydra_cfg.get(section)), (*allowed, *trusted))
    search_space = OmegaConf.select(hydra_cfg, "sweeper.custom_search_space")
    reason = _callable_refusal(search_space, trusted) if search_space else None
    if reason:
        yield "hydra.sweeper.custom_search_space", reason
    for section in ("hydra_logging", "job_logging"):
        yield from _logging_problems(f"hydra.{section}", _container(hydra_cfg.get(section)))
    for name in _container(hydra_cfg.job.env_set) or {}:
        if str(name).upper().startswith(_UNSAFE_ENVIRONMENT):
            yield f"hydra.job.env_set.{name}", "this variable decides which code runs; set it in the shell instead."


def _callable_refusal(target: Any, trusted: tuple[str, ...]) -> str | None:
    """Why Hydra may not call ``target`` before our code runs: it must be defined by us or by a trusted package."""
    source = own_package()
    if isinstance(target, str) and (source.owns(target) or has_prefix(target, trusted)):
        try:
            source.signature(target) if source.owns(target) else locate(target, trusted)
        except ConfigError as error:
            return str(error)
        return None
    return f"{target} may not be called by Hydra; only what {source.package} or a trusted package defines may."


def _container(node: Any) -> Any:
    """Plain Python with interpolations left as they are: a target or a logging class is never interpolated here."""
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node


def _plugin_problems(section: str, node: Any, allowed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Hydra instantiates launchers and sweepers itself, from its plugins only; samplers and pruners are Optuna's."""
    for key, target in walk_targets(node, f"hydra.{section}"):
        package, _, name = str(target["_target_"]).rpartition(".")
        is_sampler = has_prefix(package, HYDRA_SAMPLERS)
        if not has_prefix(package, allowed) or not name[:1].isupper() or (is_sampler and package not in HYDRA_SAMPLERS):
            names = ", ".join(allowed)
            yield f"{key}._target_", f"{target['_target_']} may not be instantiated by Hydra; allowed are {names}."


def _logging_problems(key: str, node: Any) -> Iterator[tuple[str, str]]:
    """Python's logging configuration can name any callable: ``()``, ``class``, ``ext://...``."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in children:
        full_key = f"{key}.{name}"
        is_class = name in ("()", "class") and not _LOGGING_CLASS.fullmatch(str(value))
        is_import = isinstance(value, str) and "ext://" in value and value not in _LOGGING_STREAMS
        if is_class or is_import or name == ".":
            yield (
                full_key,
                f"{value} may not be used by the log; allowed are classes of logging, colorlog and rich.logging.",
            )
        yield from _logging_problems(full_key, value)


def check_multirun(tree: dict[str, Any], hydra_cfg: DictConfig, sources: Sources) -> list[Problem]:
    """Refuse a sweep with a trainer that starts the script again in further processes."""
    trainer = tree.get("trainer")
    if hydra_cfg.mode != RunMode.MULTIRUN or not isinstance(trainer, dict):
        return []
    key = "trainer.devices" if "devices" in trainer else "trainer"
    if not _several_processes(trainer):
        return []
    return [
        Problem(
            sources.origin(key),
            key,
            "a sweep (-m) cannot use several processes: Lightning starts this command once per device, so each rank "
            "would run its own sweep. Sweep with trainer.devices=1, or start one process per trial.",
        )
    ]


def _several_processes(trainer: dict[str, Any]) -> bool:
    strategy = trainer.get("strategy", "auto")
    if is_target(strategy) and strategy.get("start_method", "popen") != "popen":
        return False
    if isinstance(strategy, str) and strategy.startswith(_IN_PROCESS):
        return False
    count = _n_devices(trainer.get("devices", "auto"))
    if count is None:  # all that the machine has: one on a CPU, unknown elsewhere
        named = strategy != "auto" or trainer.get("accelerator") == "gpu"
        count = 2 if named else 1
    return count * int(trainer.get("num_nodes") or 1) > 1


def _n_devices(devices: Any) -> int | None:
    """Number of devices; None if the machine decides."""
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([item for item in devices.split(",") if item.strip()])
    if devices in ("auto", "-1", -1, None):
        return None
    return int(devices) if str(devices).isdigit() else None
