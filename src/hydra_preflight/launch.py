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
from collections import deque
from collections.abc import Callable
from typing import Any

from hydra._internal.utils import (
    create_automatic_config_search_path,
    detect_calling_file_or_module_from_task_function,
    detect_task_name,
    get_args_parser,
)
from hydra.core.config_search_path import SearchPathQuery
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight.compose import check_sweep, compose_job, open_loader
from hydra_preflight.errors import ConfigError
from hydra_preflight.loading import Loader
from hydra_preflight.resolvers import register_resolvers


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
