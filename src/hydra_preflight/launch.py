"""Start a command: compose and check its configuration, then hand over to Hydra.

Hydra instantiates callbacks, sweepers and log handlers before it calls our code, and words its errors for its
developers. So the configuration is composed once before, by the same loader; it is checked, and whatever is wrong is
said in one message.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import (
    create_automatic_config_search_path,
    detect_calling_file_or_module_from_task_function,
    detect_task_name,
    get_args_parser,
)
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight import check_structure
from hydra_preflight.composition import reword
from hydra_preflight.errors import ConfigError
from hydra_preflight.resolvers import register_resolvers
from hydra_preflight.sources import COMMAND_LINE, read_sources

# What is known only while a job runs, as the check sees it.
_PLACEHOLDERS = {"job.id": "0", "job.num": 0}


def launch(main: Callable[[], Any]) -> None:
    """Run a function decorated with ``hydra.main``; print a ``ConfigError`` without a traceback and exit with status 1.

    Every other exception keeps its full traceback.
    """
    arguments = get_args_parser().parse_args()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        register_resolvers()
        if not (arguments.hydra_help or arguments.info or arguments.shell_completion or arguments.experimental_rerun):
            check_before_start(main, arguments)
        register_resolvers(claim_run_dir=not (arguments.cfg or arguments.help))
        main()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        message = _config_error(error)
        if message is None:
            raise
        sys.stderr.write(f"Configuration error:\n{message}\n")
        sys.exit(1)


def check_before_start(main: Callable[[], Any], arguments: argparse.Namespace) -> None:
    """Compose what Hydra is about to compose, for a sweep its jobs, and check it.

    Raises:
        ConfigError: something is wrong; the message says what, where and what was probably meant.
    """
    settings = inspect.getclosurevars(main).nonlocals
    config_name = arguments.config_name or settings["config_name"]
    loader = _loader(settings["task_function"], arguments.config_path or settings["config_path"], arguments.config_dir)
    is_sweep = arguments.multirun or (not arguments.cfg and "hydra.mode=MULTIRUN" in arguments.overrides)
    if is_sweep:
        check_sweep(loader, config_name, [*arguments.overrides, "hydra.mode=MULTIRUN"])
    else:
        compose_job(loader, config_name, arguments.overrides)


def _loader(task_function: Any, config_path: str, config_dir: str | None) -> ConfigLoaderImpl:
    calling_file, calling_module = detect_calling_file_or_module_from_task_function(task_function)
    search_path = create_automatic_config_search_path(calling_file, calling_module, config_path)
    if config_dir is not None:
        folder = os.path.abspath(config_dir)
        if not os.path.isdir(folder):
            raise ConfigError(f"command line: --config-dir: there is no folder {folder}.")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    setup_globals()
    JobRuntime.instance().set("name", detect_task_name(calling_file, calling_module))
    return ConfigLoaderImpl(search_path)


def _compose(loader: ConfigLoaderImpl, config_name: str, overrides: list[str], mode: RunMode) -> DictConfig:
    try:
        return loader.load_configuration(config_name, list(overrides), mode)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError(reword(error, loader, config_name, list(overrides))) from error


def compose_job(loader: ConfigLoaderImpl, config_name: str, overrides: list[str]) -> DictConfig:
    """Compose the configuration of one job, ``hydra`` node included, and check its structure.

    Raises:
        ConfigError: it cannot be composed, or something in it is wrong.
    """
    cfg = _compose(loader, config_name, overrides, RunMode.RUN)
    with running_job(cfg):
        check_structure(cfg, cfg.hydra)
    return cfg


@contextmanager
def running_job(cfg: DictConfig) -> Iterator[None]:
    """Fill in what Hydra knows once the job runs, and let ``${hydra:...}`` read this configuration."""
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        for key, value in _PLACEHOLDERS.items():
            OmegaConf.update(cfg.hydra, key, value)
        cfg.hydra.runtime.output_dir = "<run folder>"
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(cfg)
    try:
        yield
    finally:
        instance.cfg = before


def check_sweep(loader: ConfigLoaderImpl, config_name: str, overrides: list[str]) -> None:
    """Check one job for each value of a swept choice; every job is checked again when it starts.

    Raises:
        ConfigError: a job cannot be composed, or something in it is wrong.
    """
    parser = OverridesParser.create(config_loader=loader)
    try:
        given = {o.get_key_element(): o for o in parser.parse_overrides(overrides)}
    except HydraException as error:
        raise ConfigError(reword(error, loader, config_name, overrides)) from error
    first = {key: _values(override)[0] for key, override in given.items()}
    master = _compose(loader, config_name, list(first.values()), RunMode.RUN)
    space = _search_space(master, parser)
    for job in _combinations({**space, **given}):
        try:
            compose_job(loader, config_name, job)
        except ConfigError as error:
            raise ConfigError(_attributed(str(error), master, space)) from error


def _combinations(swept: dict[str, Override]) -> Iterator[list[str]]:
    """First values of all swept keys, then each further value of a choice by itself."""
    values = {key: _values(override) for key, override in swept.items()}
    first = {key: lines[0] for key, lines in values.items()}
    yield list(first.values())
    for key, lines in values.items():
        for line in lines[1:]:
            yield list({**first, key: line}.values())


def _attributed(message: str, master: DictConfig, space: dict[str, Override]) -> str:
    """Name the file of a swept key that comes from a search space and not from the command line."""
    sources = read_sources(master.hydra)
    for key in space:
        origin = sources.search_space_origin(key)
        if origin:
            message = message.replace(f"{COMMAND_LINE}: {key}:", f"{origin}: {key}:")
    return message


def _search_space(master: DictConfig, parser: OverridesParser) -> dict[str, Override]:
    """The swept keys that a configuration names under ``hydra.sweeper.params``."""
    params: Any = OmegaConf.select(master, "hydra.sweeper.params") or {}
    parsed = (parser.parse_override(f"{key}={value}") for key, value in params.items())
    return {override.get_key_element(): override for override in parsed}


def _values(override: Override) -> list[str]:
    """The override with each of its values; of a range or an interval only with the first."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    if override.is_interval_sweep():
        interval: Any = override.value()
        return [f"{key}={interval.start}"]
    lines = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return lines[:1] if override.is_range_sweep() else lines


def _config_error(error: BaseException) -> str | None:
    """Message of the ConfigError behind ``error``; None if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return None
