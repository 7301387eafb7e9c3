"""Start a command: compose and check its configuration, then hand over to Hydra.

Hydra instantiates callbacks, sweepers and log handlers before it calls our code, and words its errors for its
developers. So the configuration is composed once before, by the same loader; it is checked, and whatever is wrong is
said in one message.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import (
    create_automatic_config_search_path,
    detect_calling_file_or_module_from_task_function,
    detect_task_name,
    get_args_parser,
)
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight.compose import check_sweep, compose_job, open_loader
from hydra_preflight.errors import ConfigError
from hydra_preflight.loading import Loader
from hydra_preflight.project import HOUSE_CONFIGS, enter_project, find_project, primary_file, with_home
from hydra_preflight.resolvers import register_resolvers


class HouseConfigs(SearchPathPlugin):
    """Puts the house's configuration files behind those of a project whose own file does not say where they are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("hydraudio", HOUSE_CONFIGS)


def launch(function: Callable[[DictConfig], Any], primary: str, project: Path | None = None) -> None:
    """Call a function with the configuration of the command line, as ``hydra.main`` does.

    A ``ConfigError`` and a full disk are said without a traceback, and the exit status is 1. Every other exception
    keeps its full traceback.

    Args:
        function: takes the configuration.
        primary: train.yaml, eval.yaml or predict.yaml.
        project: its folder; None = the one that the working directory lies in.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        project = project or find_project()
        enter_project(project)
        config_dir = str(project / "configs")
        config_name, is_own = primary_file(project, primary)
        if not is_own:
            Plugins.instance().register(HouseConfigs)
        sys.argv[1:] = map(with_home, sys.argv[1:])
        arguments = get_args_parser().parse_args()
        register_resolvers()
        if not (arguments.hydra_help or arguments.info or arguments.shell_completion or arguments.experimental_rerun):
            check_before_start(function, arguments, config_dir, config_name)
        register_resolvers(claim_run_dir=not (arguments.cfg or arguments.help))
        hydra.main(version_base="1.3", config_path=config_dir, config_name=config_name)(function)()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        message = _config_error(error)
        if message is None:
            raise
        sys.stderr.write(f"Configuration error:\n{message}\n")
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stderr.write(f"Error: {error.strerror}\n")
        sys.exit(1)


def check_before_start(
    function: Callable[[DictConfig], Any], arguments: argparse.Namespace, config_dir: str, config_name: str
) -> None:
    """Compose what Hydra is about to compose, for a sweep its jobs, and check it.

    Raises:
        ConfigError: something is wrong; the message says what, where and what was probably meant.
    """
    config_name = arguments.config_name or config_name
    loader = _loader(function, arguments.config_path or config_dir, arguments.config_dir)
    sys.argv[1:] = loader.without_null_groups(config_name, sys.argv[1:])  # which Hydra reads again
    is_sweep = arguments.multirun or (not arguments.cfg and "hydra.mode=MULTIRUN" in arguments.overrides)
    if is_sweep:
        deque(check_sweep(loader, config_name, [*arguments.overrides, "hydra.mode=MULTIRUN"]), maxlen=0)
    else:
        compose_job(loader, config_name, arguments.overrides)


def _loader(task_function: Any, config_path: str, config_dir: str | None) -> Loader:
    calling_file, calling_module = detect_calling_file_or_module_from_task_function(task_function)
    search_path = create_automatic_config_search_path(calling_file, calling_module, config_path)
    if config_dir is not None:
        folder = os.path.abspath(config_dir)
        if not os.path.isdir(folder):
            raise ConfigError(f"command line: --config-dir: there is no folder {folder}.")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    return open_loader(search_path, detect_task_name(calling_file, calling_module))


def _config_error(error: BaseException) -> str | None:
    """Message of the ConfigError behind ``error``; None if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return None
