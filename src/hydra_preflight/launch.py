"""Start a command: compose and check its configuration, then hand over to Hydra.

Hydra instantiates callbacks, sweepers and log handlers before it calls our code, and words its errors for its
developers. So the configuration is composed once before, by the same loader; it is checked, and whatever is wrong is
said in one message.
"""

from __future__ import annotations

import argparse
import errno
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import hydra._internal.hydra
from hydra._internal.utils import (
    create_automatic_config_search_path,
    detect_calling_file_or_module_from_task_function,
    detect_task_name,
    get_args_parser,
)
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig

from hydra_preflight.compose import check_sweep, compose_job, first_job, open_loader, quick_run
from hydra_preflight.disk import check_disk
from hydra_preflight.errors import ConfigError
from hydra_preflight.failures import users_message
from hydra_preflight.loading import Loader
from hydra_preflight.project import HOUSE_CONFIGS, enter_project, find_project, primary_file, with_home, with_seed
from hydra_preflight.resolvers import register_resolvers


class HouseConfigs(SearchPathPlugin):
    """Puts the house's configuration files behind those of a project whose own file does not say where they are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("hydraudio", HOUSE_CONFIGS)


def launch(function: Callable[[DictConfig], Any], primary: str, project: Path | None = None) -> None:
    """Call a function with the configuration of the command line, as ``hydra.main`` does.

    What a user can mend is said without a traceback, and the exit status is 1; ``HYDRA_FULL_ERROR=1`` or an option of
    the group debug shows the traceback, too. Every other exception keeps its full traceback.

    Args:
        function: takes the configuration.
        primary: train.yaml, eval.yaml or predict.yaml.
        project: its folder; None = the one that the working directory lies in.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would shorten tracebacks
    try:
        project = project or find_project()
        enter_project(project)
        config_dir = str(project / "configs")
        config_name, is_own = primary_file(project, primary)
        if not is_own:
            Plugins.instance().register(HouseConfigs)
        sys.argv[1:] = map(with_seed, map(with_home, sys.argv[1:]))
        arguments = get_args_parser().parse_args()
        wants_traceback |= any(re.match(r"debug=(?!null$)", override) for override in arguments.overrides)
        register_resolvers()
        only_explained = arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion
        composed_by: Loader | None = None
        if not (only_explained or arguments.experimental_rerun):
            composed_by = check_before_start(function, arguments, config_dir, config_name)
        register_resolvers(claim_run_dir=not (arguments.cfg or arguments.help), show_deferred=bool(arguments.cfg))
        job = _speaking(function, wants_traceback)
        with _composing_with(composed_by):
            hydra.main(version_base="1.3", config_path=config_dir, config_name=config_name)(job)()
    except BrokenPipeError:  # the reader of what is shown, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        _say(error, wants_traceback)


def _speaking(function: Callable[[DictConfig], Any], wants_traceback: bool) -> Callable[[DictConfig], Any]:
    """Let a single job say what is wrong itself, before Hydra adds a line; a sweep may go on after a failure."""

    @functools.wraps(function)
    def job(cfg: DictConfig) -> Any:
        if not wants_traceback:
            del os.environ["HYDRA_FULL_ERROR"]  # the further processes of a run would take it for the user's wish
        try:
            return function(cfg)
        except Exception as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                _say(error, wants_traceback)
            raise
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "1"

    return job


def _say(error: Exception, wants_traceback: bool) -> None:
    """Exit with the message of an error that a user can mend; raise all others."""
    full_disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    message = f"Error: {error.strerror}" if isinstance(error, OSError) and full_disk else users_message(error)
    if message is None:
        raise error
    if wants_traceback:
        traceback.print_exception(error)
    sys.stderr.write(f"{message}\n")
    sys.exit(1)


def check_before_start(
    function: Callable[[DictConfig], Any], arguments: argparse.Namespace, config_dir: str, config_name: str
) -> Loader | None:
    """Compose what Hydra is about to compose, for a sweep its jobs, and check it.

    Returns:
        The loader that has read the files of the job; None for a sweep, whose jobs read theirs when they start.

    Raises:
        ConfigError: something is wrong; the message says what, where and what was probably meant.
    """
    config_name = arguments.config_name or config_name
    loader = _loader(function, arguments.config_path or config_dir, arguments.config_dir)
    sys.argv[1:] = loader.without_null_groups(config_name, sys.argv[1:])  # which Hydra reads again
    if quick := quick_run(loader, config_name, arguments.overrides):
        arguments.overrides.insert(0, quick)
        sys.argv.insert(1, quick)
    is_sweep = arguments.multirun or (not arguments.cfg and "hydra.mode=MULTIRUN" in arguments.overrides)
    if is_sweep:
        jobs = check_sweep(loader, config_name, [*arguments.overrides, "hydra.mode=MULTIRUN"])
    else:
        jobs = iter([compose_job(loader, config_name, arguments.overrides)])
    for cfg, sources in jobs:
        if not arguments.cfg:
            check_disk(cfg, sources)
    if arguments.cfg and arguments.multirun:  # which Hydra refuses: show the first job
        first = first_job(loader, config_name, arguments.overrides)
        sys.argv[1:] = [line for line in sys.argv[1:] if line not in ("-m", "--multirun", *arguments.overrides)] + first
    return None if is_sweep else loader


@contextmanager
def _composing_with(loader: Loader | None) -> Iterator[None]:
    """Let Hydra, which composes a job twice more, do so with a loader that has read the files."""
    if loader is None:
        yield
        return
    internals: Any = hydra._internal.hydra
    before, internals.ConfigLoaderImpl = internals.ConfigLoaderImpl, lambda config_search_path: loader
    try:
        yield
    finally:
        internals.ConfigLoaderImpl = before


def _loader(task_function: Any, config_path: str, config_dir: str | None) -> Loader:
    calling_file, calling_module = detect_calling_file_or_module_from_task_function(task_function)
    search_path = create_automatic_config_search_path(calling_file, calling_module, config_path)
    if config_dir is not None:
        folder = os.path.abspath(config_dir)
        if not os.path.isdir(folder):
            raise ConfigError(f"command line: --config-dir: there is no folder {folder}.")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    return open_loader(search_path, detect_task_name(calling_file, calling_module))
