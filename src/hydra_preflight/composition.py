"""Hydra's own errors in our words: file, key, nearest valid key, remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_preflight.errors import ConfigError
from hydra_preflight.own_source import PackageSource
from hydra_preflight.problems import join, suggest
from hydra_preflight.sources import COMMAND_LINE, line_of, shown_path
from hydra_preflight.tree import is_target, leaf_keys

_SWEEP_EXTRA = 'It comes with the extra: pip install "hydraudio[sweep]".'
_EXTRAS = {"hydra/sweeper/optuna": _SWEEP_EXTRA, "hydra/sweeper/sampler/tpe": _SWEEP_EXTRA}


def reword(error: Exception, loader: ConfigLoaderImpl, config_name: str, overrides: list[str]) -> str:
    """Message for an exception raised by ``loader.load_configuration(config_name, overrides, ...)``."""
    return Rewording(loader, config_name, overrides).message(error)


class Rewording:
    """Knows the files and overrides of a composition that failed."""

    def __init__(self, loader: ConfigLoaderImpl, config_name: str, overrides: list[str]) -> None:
        self.loader = loader
        self.config_name = config_name
        self.overrides = overrides

    def message(self, error: Exception) -> str:
        text = str(error)
        if isinstance(error, yaml.YAMLError):
            return _yaml_message(error)
        if isinstance(error, OverrideParseException):
            return (
                f"{COMMAND_LINE}: {error.override}: this is not of the form key=value ({text.splitlines()[0]}). "
                "Quote what is special to the shell or to Hydra: 'key=\"value\"'."
            )
        if isinstance(error, MissingConfigException):
            return self._missing_option(error)
        if found := re.match(r"You must specify '([^']+)'", text):
            return self._missing_group(found[1])
        if found := re.match(r"Could not override '([^']+)'", text):
            return self._unknown_key(found[1])
        if found := re.match(r"Multiple values for ([\w/]+)", text):
            group = found[1]
            return (
                f"{COMMAND_LINE}: +{group}: an option of this group is chosen already. Replace it with {group}=OPTION, "
                f"or choose several: {group}=[default,OPTION]."
            )
        if found := re.search(r"In '([^']+)': (?:Config)?\w+ raised while composing config:\n(.*)", text):
            return self._merge_failure(found[1], found[2])
        if found := re.match(r"In '?([^':]+)'?: Could not override '([^']+)'", text):
            return self._unknown_group(found[1], found[2])
        return self._other(error)

    def _other(self, error: Exception) -> str:
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "hydra.cc" not in line]
        cause = error.__cause__
        if cause is not None:
            lines.append(str(cause).splitlines()[0])
        text = " ".join(lines) or type(error).__name__
        mentioned = next((line for line in self.overrides if line in text), None)
        if found := re.match(r"In '?([\w/.-]+)'?: (.*)", text):
            return f"{self._shown(found[1])}: {found[2]}"
        return f"{COMMAND_LINE}: {text}" if mentioned else f"{self._shown(self.config_name)}: {text}"

    def _missing_option(self, error: MissingConfigException) -> str:
        wanted = error.missing_cfg_file or ""
        group, _, option = wanted.rpartition("/")
        if not group:
            return f"{COMMAND_LINE}: --config-name: there is no {wanted}.{suggest(wanted, self._options(''))}"
        options = [name for name in self._options(group) if not name.startswith("_")]
        if not options and error.options is None:
            return (
                f"{self._where(group, option)}: {group}: there is no file {wanted}.yaml in the configuration folders."
            )
        hint = _EXTRAS.get(wanted)
        remedy = f" {hint}" if hint else f"{suggest(option, options).replace('key', 'option')}"
        listed = "" if hint or "Valid" in remedy else f" Options: {', '.join(options)}."
        return f"{self._where(group, option)}: {group}: there is no option {option!r}.{remedy}{listed}"

    def _missing_group(self, group: str) -> str:
        options = [name for name in self._options(group) if not name.startswith("_")]
        return (
            f"{self._shown(self.config_name)}: {group}: an option of this group is required (???). "
            f"Choose one: {group}={options[0] if options else 'OPTION'}. Options: {', '.join(options)}."
        )

    def _unknown_group(self, config_path: str, group: str) -> str:
        where = self._find_default(config_path, group) or self._shown(config_path)
        return (
            f"{where}: override /{group}: there is no such group in the defaults list.{suggest(group, self._groups())}"
        )

    def _unknown_key(self, key: str) -> str:
        """A key of the command line that the configuration does not hold."""
        group = key.split("@")[0]
        if group in self._groups():
            return (
                f"{COMMAND_LINE}: {key}: the group is not in the defaults list of {self._shown(self.config_name)}. "
                f"Add it: +{key}=OPTION"
            )
        try:
            cfg = self.loader.load_configuration(self.config_name, self._group_overrides(), RunMode.RUN)
        except HydraException as error:
            return self.message(error)
        tree: Any = OmegaConf.to_container(cfg, resolve=False)
        if not key.startswith("hydra"):
            tree.pop("hydra", None)
        return f"{COMMAND_LINE}: {key}: {self._advice(key, tree)}"

    def _advice(self, key: str, tree: dict[str, Any]) -> str:
        parts, node, depth = key.split("."), tree, 0
        while depth < len(parts) - 1 and isinstance(node.get(parts[depth]), dict):
            node, depth = node[parts[depth]], depth + 1
        parent, name = ".".join(parts[:depth]), parts[depth]
        if is_target(node):
            return self._argument_advice(key, parent, name, node)
        if depth == 0:
            leaves = [leaf for leaf in leaf_keys(tree) if leaf.rpartition(".")[2] == parts[-1]]
            if leaves:
                return f"unknown key. Nearest valid key: {min(leaves, key=len)}."
            return f"unknown key.{suggest(name, [*tree, *self._groups()])}"
        return f"unknown key.{suggest(name, node, parent)}"

    def _argument_advice(self, key: str, parent: str, name: str, node: dict[str, Any]) -> str:
        """An argument of a target that the YAML does not list: it may exist all the same."""
        target, source = str(node["_target_"]), PackageSource()
        names = [other for other in node if not str(other).startswith("_")]
        if source.owns(target):
            try:
                signature = source.signature(target)
            except ConfigError as error:
                return str(error)
            if name in signature.arguments:
                return f"{target} takes this argument, but no file lists it: add it with a plus, +{key}=..."
            return f"{target} has no argument {name!r}.{suggest(name, [*names, *signature.arguments], parent)}"
        return f"unknown key.{suggest(name, names, parent)} If {target} takes {name!r}, add it with a plus: +{key}=..."

    def _merge_failure(self, config_path: str, text: str) -> str:
        """Hydra's own node is typed; everything else can be merged."""
        if found := re.match(r"Key '([^']+)' (?:is )?not in '([^']+)'", text):
            name = found[1]
            keys = list(leaf_keys(self._hydra_tree(), "hydra"))
            where = self._line(config_path, name)
            near = [key for key in keys if key.rpartition(".")[2] != ""]
            leaf = suggest(name, {key.rpartition(".")[2] for key in near}).removesuffix(".")
            full = next((key for key in near if leaf.endswith(" " + key.rpartition(".")[2])), "")
            hint = f" Nearest valid key: {full}." if full else ""
            return f"{where}: {name}: unknown key in the hydra node.{hint}"
        return f"{self._shown(config_path)}: {text}"

    def _hydra_tree(self) -> dict[str, Any]:
        cfg = self.loader.load_configuration(None, [], RunMode.RUN)
        return OmegaConf.to_container(cfg.hydra, resolve=False)  # type: ignore[return-value]

    def _group_overrides(self) -> list[str]:
        """The overrides that choose options, without those that set values."""
        return [str(o.input_line) for o in self._parsed() if self.loader.repository.group_exists(o.key_or_group)]

    def _parsed(self) -> list[Override]:
        return OverridesParser.create(config_loader=self.loader).parse_overrides(self.overrides)

    def _groups(self) -> list[str]:
        return [name for name in self.loader.list_groups("") if not name.startswith("_")]

    def _options(self, group: str) -> list[str]:
        return self.loader.get_group_options(group, ObjectType.CONFIG)

    def _where(self, group: str, option: str) -> str:
        """Command line or file:line that chose ``option``."""
        for override in self._parsed():
            if override.key_or_group == group and option in str(override.input_line):
                return COMMAND_LINE
        for config_path in self._chosen_files():
            found = self._find_default(config_path, group, option)
            if found:
                return found
        return self._shown(self.config_name)

    def _chosen_files(self) -> Iterator[str]:
        """Files named by the command line and, transitively, by defaults lists."""
        waiting = [self.config_name]
        waiting += [f"{o.key_or_group}/{o.value()}" for o in self._parsed() if isinstance(o.value(), str)]
        seen: set[str] = set()
        while waiting:
            config_path = waiting.pop()
            result = None
            if config_path not in seen and self.loader.repository.config_exists(config_path):
                result = self.loader.repository.load_config(config_path)
            seen.add(config_path)
            if result is not None:
                yield config_path
                waiting += [default.get_config_path() for default in _with_parent(result.defaults_list, config_path)]

    def _find_default(self, config_path: str, group: str, option: str | None = None) -> str | None:
        """``file:line`` of an item of a defaults list that names the group (and option)."""
        path = self._path(config_path)
        if path is None:
            return None
        leaf = re.escape(group.rpartition("/")[2])
        value = re.escape(option) if option else ".*"
        pattern = re.compile(rf"^\s*-\s+(.*[\s/])?{leaf}(@\S+)?\s*:.*{value}|^\s*-\s+(\S*/)?{value}\s*$")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if pattern.match(line.partition(" #")[0]):
                return f"{shown_path(path)}:{number}"
        return None

    def _path(self, config_path: str) -> Path | None:
        name = config_path if config_path.endswith((".yaml", ".yml")) else config_path + ".yaml"
        folders = [Path(source.path) for source in self.loader.get_sources() if source.scheme() == "file"]
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def _shown(self, config_path: str) -> str:
        path = self._path(config_path)
        return shown_path(path) if path else config_path

    def _line(self, config_path: str, name: str) -> str:
        path = self._path(config_path)
        if path is None:
            return config_path
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        key = next((key for key in leaf_keys(content) if key.rpartition(".")[2] == name), "")
        line = line_of(path, key.split(".")) if key else None
        return join(shown_path(path)) + (f":{line}" if line else "")


def _with_parent(defaults: list[InputDefault] | None, config_path: str) -> Iterator[InputDefault]:
    group = config_path.rpartition("/")[0]
    for default in defaults or []:
        if not default.is_self() and not default.is_interpolation():
            default.update_parent(group, "")
            if default.get_name() is not None and not default.is_missing():
                yield default


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"invalid YAML: {error}"
    remedy = " Indent with spaces, not with tabs." if "\\t" in problem else ""
    return (
        f"{shown_path(Path(mark.name))}:{mark.line + 1}: invalid YAML in column {mark.column + 1}: {problem}.{remedy}"
    )
