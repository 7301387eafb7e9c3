"""Where each key of a composed configuration comes from: which file, which line, or the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf

COMMAND_LINE = "command line"
# Files of these groups change the run as a whole: they need `# @package _global_` and declare no keys.
DELTA_GROUPS = ("experiment", "hparams_search", "debug", "local")
TASK_GROUP = "task"
"""Its files say what belongs together; they write into several groups and declare keys of their own."""


@dataclass
class SourceFile:
    """One file of the defaults list.

    ``package`` is where its contents go; ``delta`` marks experiment files and the like, which change keys but
    declare none.
    """

    config_path: str
    package: str
    content: dict[str, Any]
    path: Path | None = None
    primary: bool = False

    @property
    def group(self) -> str:
        return self.config_path.rpartition("/")[0]

    @property
    def delta(self) -> bool:
        declares = self.primary or not self.group or self.group == TASK_GROUP
        return not declares and (not self.package or self.in_delta_group)

    @property
    def in_delta_group(self) -> bool:
        return self.group.split("/")[0] in DELTA_GROUPS

    @property
    def shown(self) -> str:
        return shown_path(self.path) if self.path else f"{self.config_path} (of a Hydra plugin)"

    def relative(self, key: str) -> list[str] | None:
        """Path inside the file of a full key; None if the key lies outside."""
        parts, package = key.split("."), self.package.split(".") if self.package else []
        return parts[len(package) :] if parts[: len(package)] == package else None

    def has(self, key: str) -> bool:
        """Whether the file sets the key."""
        parts, node = self.relative(key), self.content
        if not parts:
            return False
        for part in parts:
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return True


@dataclass
class Sources:
    """The files of a configuration in the order in which they are merged, and the overrides of the command line."""

    files: list[SourceFile]
    overrides: list[Override] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)

    def origin(self, key: str) -> str:
        """``file:line`` or ``command line`` that had the last word on ``key`` or the nearest mapping above it."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            found = self._exact_origin(".".join(parts[:end]))
            if found:
                return found
        return self._primary.shown if self.files else "configuration"

    def from_command_line(self, key: str) -> bool:
        return any(_sets(override.key_or_group, key) for override in self.overrides)

    def setter(self, key: str) -> SourceFile | None:
        """The last file that sets ``key``, if the command line does not."""
        if self.from_command_line(key):
            return None
        return next((file for file in reversed(self.files) if file.has(key)), None)

    def comment(self, key: str) -> str:
        """The comment behind the key in the file that declares it; empty if there is none."""
        file = next((file for file in self.files if file.has(key)), None)
        if file is None or file.path is None:
            return ""
        line = line_of(file.path, file.relative(key) or [])
        text = file.path.read_text(encoding="utf-8").splitlines()[line - 1] if line else ""
        return text.partition(" #")[2].strip()

    def search_space_origin(self, key: str) -> str | None:
        """``file:line`` that names ``key`` under ``hydra.sweeper.params``, where keys are written with dots."""
        for file in reversed(self.files):
            node: Any = embed(file.package, file.content)
            for part in ("hydra", "sweeper", "params"):
                node = node.get(part) if isinstance(node, dict) else None
            if isinstance(node, dict) and key in node and file.path is not None:
                lines = file.path.read_text(encoding="utf-8").splitlines()
                number = next((i for i, line in enumerate(lines, 1) if line.strip().startswith(key)), 1)
                return f"{file.shown}:{number}"
        return None

    @cached_property
    def declared(self) -> dict[str, Any]:
        """What the primary file and the chosen group files (not experiments) set, merged."""
        merged: dict[str, Any] = {}
        for file in self.files:
            if not file.delta:
                merged = merge(merged, embed(file.package, file.content))
        return merged

    @property
    def _primary(self) -> SourceFile:
        return next((file for file in self.files if file.primary), self.files[0])

    def _exact_origin(self, key: str) -> str | None:
        override = next((o for o in reversed(self.overrides) if _sets(o.key_or_group, key)), None)
        if override is not None:
            return COMMAND_LINE
        file = next((file for file in reversed(self.files) if file.has(key)), None)
        if file is not None:
            return located(file, key)
        return COMMAND_LINE if any(_sets(key, override.key_or_group) for override in self.overrides) else None


def read_sources(hydra_cfg: DictConfig) -> Sources:
    """Load the files behind the composed configuration that ``hydra_cfg`` (its ``hydra`` node) describes."""
    loader = ConfigLoaderImpl(_search_path(hydra_cfg))
    lines = [*hydra_cfg.overrides.hydra, *hydra_cfg.overrides.task]
    name = hydra_cfg.job.config_name
    overrides, repository = loader._parse_overrides_and_create_caching_repo(name, lines)
    defaults = create_defaults_list(repository, name, overrides, prepend_hydra=True, skip_missing=False)
    files = [
        _source_file(repository, default.config_path, default.package or "", bool(default.primary))
        for default in defaults.defaults
        if default.config_path is not None and not _is_builtin(default.config_path)
    ]
    groups = {str(key).split("@")[0] for key in hydra_cfg.runtime.choices}
    return Sources([file for file in files if file], list(defaults.config_overrides), groups)


def _search_path(hydra_cfg: DictConfig) -> ConfigSearchPathImpl:
    search_path = ConfigSearchPathImpl()
    for source in hydra_cfg.runtime.config_sources:
        search_path.append(source.provider, f"{source.schema}://{source.path}")
    return search_path


def _is_builtin(config_path: str) -> bool:
    """Hydra's own configuration, which our files only change."""
    return config_path.startswith("hydra/") and config_path.count("/") == 1 and config_path.endswith("/config")


def _source_file(repository: IConfigRepository, config_path: str, package: str, primary: bool) -> SourceFile | None:
    result = repository.load_config(config_path)
    if result is None or not isinstance(result.config, DictConfig) or not result.path.startswith("file://"):
        return None
    content: Any = OmegaConf.to_container(result.config, resolve=False)
    folder = Path(result.path.removeprefix("file://"))
    return SourceFile(config_path, package, content, folder / ConfigSource._normalize_file_name(config_path), primary)


def _sets(override_key: str, key: str) -> bool:
    return key == override_key or key.startswith(override_key + ".")


def embed(package: str, content: dict[str, Any]) -> dict[str, Any]:
    """``content`` below the keys of ``package``."""
    for part in reversed(package.split(".") if package else []):
        content = {part: content}
    return content


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """``second`` laid over ``first``, mapping by mapping."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def shown_path(path: Path) -> str:
    """Path relative to the working directory where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def located(file: SourceFile, key: str) -> str:
    """``file:line`` of a key that the file sets."""
    line = line_of(file.path, file.relative(key) or []) if file.path else None
    return f"{file.shown}:{line}" if line else file.shown


def line_of(path: Path, parts: list[str]) -> int | None:
    """Line (from 1) of a key in a YAML file; None if it is not there."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = None
    for part in parts:
        found = next((pair for pair in _pairs(node) if pair[0].value == part), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _pairs(node: Any) -> Iterator[tuple[Any, Any]]:
    return iter(node.value) if isinstance(node, yaml.MappingNode) else iter(())
