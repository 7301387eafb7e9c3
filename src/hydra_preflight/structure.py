"""The first part of the check: everything that needs no heavy import."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from hydra_preflight.errors import ConfigError
from hydra_preflight.hydra_node import check_hydra_node, check_multirun
from hydra_preflight.loading import read_sources
from hydra_preflight.own_source import PackageSource, own_package
from hydra_preflight.problems import Problem, join, raise_problems, suggest
from hydra_preflight.project import REQUIRED, TASK_GROUP
from hydra_preflight.sources import COMMAND_LINE, Sources
from hydra_preflight.targets import check_name
from hydra_preflight.task_rules import check_headline, foreign_parts
from hydra_preflight.tree import (
    DEFERRED,
    MISSING,
    Failure,
    is_target,
    leaf_keys,
    to_tree,
    walk_targets,
)
from hydra_preflight.whitelist import clean_prefixes

TRUSTED_KEY = "extras.trusted_targets"
_INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")


def check_structure(
    cfg: DictConfig,
    hydra_cfg: Any,
    *,
    sources: Sources | None = None,
    trusted_prefixes: list[str] | tuple[str, ...] | None = None,
    package: PackageSource | None = None,
) -> None:
    """Check keys, options, ``???``, types, interpolations, names of targets and arguments of our own classes.

    Args:
        cfg: composed configuration, with or without its ``hydra`` node.
        hydra_cfg: its ``hydra`` node (DictConfig), ``HydraConfig.get()`` inside a job.
        sources: the files behind it, where they are known; None = they are looked up.
        trusted_prefixes: packages whose classes may be instantiated; None = ``extras.trusted_targets`` of ``cfg``.
        package: source of our own package.

    Raises:
        ConfigError: with one line per mistake: file and line, full key, nearest valid key and remedy.
    """
    sources = sources or read_sources(hydra_cfg)
    raise_problems(_forgotten_packages(sources))
    raise_problems(_missing_groups(sources))
    trusted = _trusted(cfg, trusted_prefixes, sources)
    raise_problems(check_hydra_node(hydra_cfg, sources, trusted))
    package = package or own_package()
    check = StructureCheck(cfg, sources, trusted, package)
    raise_problems(foreign_parts(check.tree, sources))
    raise_problems(check.run())
    raise_problems(check_multirun(check.tree, hydra_cfg, sources))
    raise_problems(check_headline(check.tree, hydra_cfg, sources, trusted, package))


def _trusted(cfg: DictConfig, given: Any, sources: Sources) -> tuple[str, ...]:
    """Trusted packages; an experiment file cannot widen the circle by itself."""
    file = sources.setter(TRUSTED_KEY)
    if file is not None and file.delta and given is None:
        raise ConfigError(
            f"{sources.origin(TRUSTED_KEY)}: {TRUSTED_KEY}: an experiment cannot declare packages trusted. Say it on "
            f"the command line ({TRUSTED_KEY}=[...]) or in a file of the group extras."
        )
    prefixes = OmegaConf.select(cfg, TRUSTED_KEY) if given is None else given
    if isinstance(prefixes, str):
        raise ConfigError(f"{sources.origin(TRUSTED_KEY)}: {TRUSTED_KEY}: write a list, [{prefixes}].")
    try:
        return clean_prefixes(prefixes or ())
    except ConfigError as error:
        raise ConfigError(f"{sources.origin(TRUSTED_KEY)}: {error}") from error


def _forgotten_packages(sources: Sources) -> list[Problem]:
    return [
        Problem(
            f"{file.shown}:1",
            file.package,
            f"the file does not begin with '# @package _global_', so its keys would go to {file.package}.* and change "
            "nothing. Add that line at the top.",
        )
        for file in sources.files
        if file.in_delta_group and file.package
    ]


def _missing_groups(sources: Sources) -> list[Problem]:
    """Groups that a run needs and that were set to null."""
    brought = {choice[0] for choice in map(sources.choice, sources.files) if choice}
    brought.update(key for file in sources.files if file.primary for key in file.content)
    missing = [group for group in sources.listed if group in REQUIRED and group not in brought]
    missing = [TASK_GROUP] if TASK_GROUP in missing else missing  # which chooses data and model
    return [Problem(COMMAND_LINE, group, f"a run needs an option of this group: {group}=OPTION.") for group in missing]


class StructureCheck:
    """One pass over a composed configuration; ``run`` returns the problems."""

    def __init__(self, cfg: DictConfig, sources: Sources, trusted: tuple[str, ...], package: PackageSource) -> None:
        self.tree, self.raw, self.failures = to_tree(cfg)
        self.sources = sources
        self.trusted = trusted
        self.package = package
        self.problems: list[Problem] = []

    def run(self) -> list[Problem]:
        for failure in self.failures:
            self._report_failure(failure)
        self._check_mapping("", self.tree, self.sources.declared)
        for key, node in walk_targets(self.tree):
            if key:
                check_name(key, node, self.trusted, self.package, self._report)
        self._check_missing("", self.tree)
        keys = {problem.key for problem in self.problems}
        return [problem for problem in self.problems if self._referred_key(problem.key) not in keys]

    def _referred_key(self, key: str) -> str | None:
        """The key that the value of ``key`` is copied from by an interpolation; its problem is reported there."""
        node = self.raw
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        found = _INTERPOLATION.fullmatch(node) if isinstance(node, str) else None
        return found[1] if found else None

    def _report(self, key: str, text: str) -> None:
        self.problems.append(Problem(self.sources.origin(key), key, text))

    def _report_failure(self, failure: Failure) -> None:
        key, error = failure
        text = str(error).splitlines()[0]
        if isinstance(error, InterpolationKeyError):
            name = text.partition("'")[2].rpartition("'")[0]
            self._report(key, f"there is no key {name!r} to interpolate.{suggest(name, leaf_keys(self.tree))}")
        else:
            self._report(key, f"the interpolation failed: {text}")

    def _check_mapping(self, path: str, node: dict[str, Any], declared: dict[str, Any]) -> None:
        """Keys and types of a mapping that is not an argument of a target."""
        for key, value in node.items():
            full_key = join(path, str(key))
            if key in declared:
                self._check_declared(full_key, value, declared[key])
            elif not self._may_be_new(path, full_key, value, declared):
                self._report(full_key, self._unknown(path, str(key), value, declared))

    def _check_declared(self, key: str, value: Any, declared: Any) -> None:
        if value is None or value is MISSING or value is DEFERRED:
            return
        if isinstance(declared, dict):
            if not isinstance(value, dict):
                self._report(key, f"{value!r} is of the wrong type: this key holds a mapping.")
            elif is_target(value):
                return
            elif not is_target(declared) and (declared or key in self.sources.groups):
                self._check_mapping(key, value, declared)
        elif not _same_type(value, declared):
            remedy = f" Quote it: {key}=\"'{value}'\"" if isinstance(declared, str) else ""
            expected, got = type(declared).__name__, type(value).__name__
            self._report(key, f"{value!r} is of the wrong type: expected {expected}, got {got}.{remedy}")

    def _may_be_new(self, path: str, full_key: str, value: Any, declared: dict[str, Any]) -> bool:
        """New entries: targets in a collection of targets, chosen groups, and +key in a mapping of the primary file."""
        if not path:
            return full_key in self.sources.groups and self._fits_empty_group(full_key, value)
        if _is_collection(declared):
            return is_target(value)
        top = path.split(".")[0]
        is_ours = top not in self.sources.groups or any(file.primary and file.has(top) for file in self.sources.files)
        return is_ours and self.sources.from_command_line(full_key)

    def _fits_empty_group(self, key: str, value: Any) -> bool:
        """A group that is not chosen (null) can still be filled with targets."""
        if isinstance(value, dict) and not is_target(value):
            self._check_mapping(key, value, {})
        return value is None or isinstance(value, dict)

    def _unknown(self, path: str, key: str, value: Any, declared: dict[str, Any]) -> str:
        if not path and key in self.sources.listed:
            return f"the group {key} is left out (null), so nothing of it can be set. Choose an option of it."
        candidates = (
            list(declared) if path else [*declared, *(group for group in self.sources.groups if "/" not in group)]
        )
        text = f"unknown key.{suggest(key, candidates, path)}"
        if isinstance(value, dict) and path and _is_collection(declared):
            return text + " A new entry needs a _target_."
        return text if "Nearest" in text else text + " Only the primary file and group files can declare a new key."

    def _check_missing(self, path: str, node: Any) -> None:
        """Report ``???``, except for arguments of a ``_partial_``, which come at call time."""
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        is_partial = isinstance(node, dict) and node.get("_partial_") is True
        for key, value in children:
            full_key = join(path, str(key))
            if value is MISSING and not is_partial:
                comment = self.sources.comment(full_key)
                hint = f" ({comment})" if comment else ""
                self._report(
                    full_key, f"a value is required here (???){hint}. Give it on the command line: {full_key}=..."
                )
            self._check_missing(full_key, value)


def _is_collection(declared: dict[str, Any]) -> bool:
    """Whether the declared mapping holds targets only, such as callbacks and loggers; so does an empty one."""
    entries = [entry for entry in declared.values() if entry is not None]
    return not declared or (bool(entries) and all(is_target(entry) for entry in entries))


def _same_type(value: Any, declared: Any) -> bool:
    """Whether ``value`` is of the type of the declared default; null and interpolations declare no type."""
    if declared is None or (isinstance(declared, str) and ("${" in declared or declared == "???")):
        return True
    if isinstance(declared, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(declared)
