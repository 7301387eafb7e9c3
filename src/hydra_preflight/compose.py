"""Compose a configuration and check it: one job, the jobs of a sweep, and runs outside of the commands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight import check_structure
from hydra_preflight.composition import reword
from hydra_preflight.errors import ConfigError
from hydra_preflight.loading import Loader
from hydra_preflight.project import HOUSE_CONFIGS, QUICK, TASK_GROUP, TRAIN, primary_file
from hydra_preflight.resolvers import register_resolvers
from hydra_preflight.sources import COMMAND_LINE, Sources

# What is known only while a job runs, as the check sees it.
_PLACEHOLDERS = {"job.id": "0", "job.num": 0}


def compose_run(overrides: Sequence[str], output_dir: str | Path, primary: str = "train.yaml") -> DictConfig:
    """Compose and check a configuration of this project as ``src/train.py`` would; for scripts, notebooks and tests.

    Args:
        overrides: as on the command line.
        output_dir: what ``paths.output_dir`` names; not created.
        primary: file in ``configs/``; for train.yaml, a project may have main.yaml.

    Raises:
        ConfigError: something is wrong with the configuration or the overrides.
    """
    register_resolvers()
    project = Path(os.environ["PROJECT_ROOT"])  # set by rootutils
    config_name, is_own = primary_file(project, primary)
    search_path = create_config_search_path(str(project / "configs"))
    if not is_own:
        search_path.prepend("hydraudio", HOUSE_CONFIGS, SearchPathQuery(provider="schema"))
    loader = open_loader(search_path, Path(primary).stem)
    cfg, _ = compose_job(loader, config_name, list(overrides), str(Path(output_dir).resolve()))
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg.hydra
    return cfg


def open_loader(search_path: ConfigSearchPath, job_name: str) -> Loader:
    """A loader for the folders of a search path."""
    version.setbase("1.3")
    setup_globals()
    JobRuntime.instance().set("name", job_name)
    return Loader(search_path)


def compose_job(
    loader: Loader, config_name: str, overrides: list[str], output_dir: str = "<run folder>"
) -> tuple[DictConfig, Sources]:
    """Compose the configuration of one job, ``hydra`` node included, and check its structure.

    Raises:
        ConfigError: it cannot be composed, or something in it is wrong.
    """
    cfg, sources = _compose(loader, config_name, overrides)
    with running_job(cfg, output_dir):
        check_structure(cfg, cfg.hydra, sources=sources)
    return cfg, sources


def _compose(loader: Loader, config_name: str, overrides: list[str]) -> tuple[DictConfig, Sources]:
    try:
        return loader.load(config_name, overrides)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError(reword(error, loader, config_name, overrides)) from error


@contextmanager
def running_job(cfg: DictConfig, output_dir: str = "<run folder>") -> Iterator[None]:
    """Fill in what Hydra knows once the job runs, and let ``${hydra:...}`` read this configuration."""
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        for key, value in _PLACEHOLDERS.items():
            OmegaConf.update(cfg.hydra, key, value)
        cfg.hydra.runtime.output_dir = output_dir
    instance: Any = HydraConfig.instance()
    before, instance.cfg = instance.cfg, cfg
    try:
        yield
    finally:
        instance.cfg = before


def check_sweep(loader: Loader, config_name: str, overrides: list[str]) -> Iterator[tuple[DictConfig, Sources]]:
    """Check one job for each value of a swept choice, one after the other; every job is checked again when it starts.

    Raises:
        ConfigError: a job cannot be composed, or something in it is wrong.
    """
    given = _given(loader, config_name, overrides)
    nulls = [o.key_or_group for o in given.values() if loader.chooses(o) and f"{o.key_or_group}=null" in _values(o)]
    if nulls:
        raise ConfigError(f"{COMMAND_LINE}: {nulls[0]}: null cannot be one of several options: leave it out.")
    master, sources = _compose(loader, config_name, [_values(override)[0] for override in given.values()])
    space = _search_space(master, loader)
    for job in _combinations({**space, **given}):
        try:
            yield compose_job(loader, config_name, job)
        except ConfigError as error:
            raise ConfigError(_attributed(str(error), sources, space)) from error


def quick_run(loader: Loader, config_name: str, overrides: list[str]) -> str | None:
    """What a training without arguments stands for: the quick experiment of the task; None with other arguments.

    ``task=NAME`` alone stands for that task's. The ``main.yaml`` of a project says itself what runs without arguments.
    """
    if config_name != TRAIN or any(not override.startswith(f"{TASK_GROUP}=") for override in overrides):
        return None
    cfg, _ = _compose(loader, config_name, overrides)
    quick = OmegaConf.select(cfg, QUICK)
    return f"experiment={quick}" if quick else None


def first_job(loader: Loader, config_name: str, overrides: list[str]) -> list[str]:
    """The overrides of the first job of a sweep."""
    given = _given(loader, config_name, overrides)
    return next(_combinations(given))


def _given(loader: Loader, config_name: str, overrides: list[str]) -> dict[str, Override]:
    try:
        return {o.get_key_element(): o for o in loader.parse(loader.without_null_groups(config_name, overrides))}
    except HydraException as error:
        raise ConfigError(reword(error, loader, config_name, overrides)) from error


def _combinations(swept: dict[str, Override]) -> Iterator[list[str]]:
    """First values of all swept keys, then each further value of a choice by itself."""
    values = {key: _values(override) for key, override in swept.items()}
    first = {key: lines[0] for key, lines in values.items()}
    yield list(first.values())
    for key, lines in values.items():
        for line in lines[1:]:
            yield list({**first, key: line}.values())


def _attributed(message: str, sources: Sources, space: dict[str, Override]) -> str:
    """Name the file of a swept key that comes from a search space and not from the command line."""
    for key in space:
        origin = sources.search_space_origin(key)
        if origin:
            message = message.replace(f"{COMMAND_LINE}: {key}:", f"{origin}: {key}:")
    return message


def _search_space(master: DictConfig, loader: Loader) -> dict[str, Override]:
    """The swept keys that a configuration names under ``hydra.sweeper.params``."""
    params: Any = OmegaConf.select(master, "hydra.sweeper.params") or {}
    return {o.get_key_element(): o for o in loader.parse([f"{key}={value}" for key, value in params.items()])}


def _values(override: Override) -> list[str]:
    """The override with each of its values; of a range or an interval only with the first."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    if override.is_interval_sweep():
        interval: Any = override.value()
        return [f"{key}={interval.start}"]
    lines = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not lines:
        raise ConfigError(f"{COMMAND_LINE}: {override.input_line}: nothing matches; list the values: {key}=A,B")
    return lines[:1] if override.is_range_sweep() else lines
