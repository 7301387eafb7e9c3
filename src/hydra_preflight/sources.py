"""Where each key of a composed configuration comes from: which file, which line, or the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from hydra_preflight.project import DELTA_GROUPS, TASK_GROUP

COMMAND_LINE = "command line"


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
    """The files of a configuration in the order in which they are merged, and what the command line said.

    ``overrides`` set values; ``chosen`` is the option of each group, ``given`` are groups that the command line chose,
    ``listed`` those of the primary file.
    """

    files: list[SourceFile]
    overrides: list[Override] = field(default_factory=list)
    chosen: dict[str, str | None] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    listed: list[str] = field(default_factory=list)

    @cached_property
    def groups(self) -> set[str]:
        """Names of the groups, without the package that some are written with."""
        return {key.split("@")[0] for key in self.chosen}

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

    def choice(self, file: SourceFile) -> tuple[str, str] | None:
        """Group and option that brought a file; None for files that no group brought."""
        groups = [group for group in self.groups | self.given if file.config_path.startswith(f"{group}/")]
        group = max(groups, key=len, default=None)
        return (group, self.chosen.get(group) or file.config_path.removeprefix(f"{group}/")) if group else None

    def choice_origin(self, group: str, file: SourceFile) -> str:
        """Who chose the option of a group: the command line, a file with its line, or the chosen ``file`` itself."""
        if group in self.given:
            return COMMAND_LINE
        for other in reversed(self.files):
            chooses = other.in_delta_group or other.group == TASK_GROUP
            line = find_default(other.path, group) if chooses and other.path else None
            if line:
                return f"{other.shown}:{line}"
        return file.shown

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


def _sets(override_key: str, key: str) -> bool:
    return key == override_key or key.startswith(override_key + ".")


def embed(package: str, content: dict[str, Any]) -> dict[str, Any]:
    """``content`` below the keys of ``package``."""
    for part in reversed(package.split(".") if package else []):
        content = {part: content}
    return content


def below(package: str, content: dict[str, Any]) -> dict[str, Any]:
    """What ``content`` holds below the keys of ``package``."""
    for part in package.split(".") if package else []:
        content = content[part]
    return content


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """``second`` laid over ``first``, mapping by mapping; ``???`` overwrites nothing, as in OmegaConf."""
    merged = dict(first)
    for key, value in second.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        elif value != "???" or key not in merged:
            merged[key] = value
    return merged


def takes_omegaconf(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether a mapping or list meets an interpolation, which OmegaConf resolves, or the other, which it refuses."""
    for key, value in second.items():
        old = first.get(key)
        if isinstance(old, str) and "${" in old:
            found = isinstance(value, (dict, list))
        elif isinstance(old, dict) and isinstance(value, dict):
            found = takes_omegaconf(old, value)
        else:
            found = {type(old), type(value)} == {dict, list}
        if found:
            return True
    return False


def shown_path(path: Path) -> str:
    """Path relative to the working directory where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def find_default(path: Path, group: str, option: str | None = None) -> int | None:
    """Line (from 1) of a file whose defaults list names the group (and the option); None if none does."""
    leaf = re.escape(group.rpartition("/")[2])
    value = re.escape(option) if option else ".*"
    item = rf"|^\s*-\s+(\S*/)?{value}\s*$" if option else ""
    pattern = re.compile(rf"^\s*-\s+(.*[\s/])?{leaf}(@\S+)?\s*:.*{value}{item}")
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line.partition(" #")[0])), None)


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
