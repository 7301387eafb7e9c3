"""Hydra's own errors in our words: file, key, nearest valid key, remedy."""

from __future__ import annotations

import re
import shlex
from difflib import SequenceMatcher
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_preflight.errors import ConfigError
from hydra_preflight.loading import Loader
from hydra_preflight.own_source import own_package
from hydra_preflight.problems import join, nearest, suggest
from hydra_preflight.project import EXTRAS, TASK_GROUP
from hydra_preflight.sources import COMMAND_LINE, find_default, line_of, shown_path
from hydra_preflight.task_rules import foreign_parts, wrong_floor
from hydra_preflight.tree import is_target, leaf_keys, raw_tree

_NO_TEXT = re.compile(r"[^\w/\-\\+.$%*@?| ]", re.ASCII)
"""What needs quotes, as https://hydra.cc/docs/advanced/override_grammar/basic lists the others."""

MAX_OPTIONS = 12
"""More are not listed where one of them resembles what was written."""


def reword(error: Exception, loader: Loader, config_name: str, overrides: list[str]) -> str:
    """Message for an exception raised by ``loader.load_configuration(config_name, overrides, ...)``."""
    return Rewording(loader, config_name, overrides).message(error)


class Rewording:
    """Knows the files and overrides of a composition that failed."""

    def __init__(self, loader: Loader, config_name: str, overrides: list[str]) -> None:
        self.loader = loader
        self.config_name = config_name
        self.overrides = loader.without_null_groups(config_name, overrides)

    def message(self, error: Exception) -> str:
        text = str(error)
        if isinstance(error, yaml.YAMLError):
            return _yaml_message(error)
        if isinstance(error, OverrideParseException):
            return _parse_message(error.override or "")
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
        if found := re.match(r"Could not delete (?:'([^'=]+)|from config. '([^']+)')", text):
            return f"{COMMAND_LINE}: ~{found[1] or found[2]}: there is nothing of this name to leave out."
        if "Config group override must be" in text:
            return self._null_option()
        return self._other(error)

    def _null_option(self) -> str:
        given = next((o for o in self._parsed() if self.loader.chooses(o) and o.value() is None), None)
        group = str(given.key_or_group) if given else "GROUP"
        return (
            f"{COMMAND_LINE}: {group}=null: this group is not in the defaults list of "
            f"{self._shown(self.config_name)}, so there is nothing to leave out. Remove it, or choose an option."
        )

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
        group = max((name for name in self._known_groups() if wanted.startswith(f"{name}/")), key=len, default="")
        group = group or wanted.rpartition("/")[0]
        option = wanted.removeprefix(f"{group}/")
        if not group:
            return f"{COMMAND_LINE}: --config-name: there is no {wanted}.{suggest(wanted, self._options(''))}"
        if extra := EXTRAS.get(wanted) or EXTRAS.get(group):
            where = self._where(group, option)
            return f'{where}: {group}: there is no option {option!r}. It comes with the extra: pip install "{extra}".'
        options = self._options(group) if self.loader.repository.group_exists(group) else []
        if not options and error.options is None:
            return (
                f"{self._where(group, option)}: {group}: there is no file {wanted}.yaml in the configuration folders."
            )
        remedy = suggest(option, options).replace("key", "option")
        listed = "" if "Valid" in remedy or len(options) > MAX_OPTIONS else f" Options: {', '.join(options)}."
        return f"{self._where(group, option)}: {group}: there is no option {option!r}.{remedy}{listed}"

    def _known_groups(self) -> list[str]:
        """Groups of the primary file, those that the command line chooses from, and those that an extra brings."""
        groups = [*self.loader.groups_of(self.config_name), *(str(o.key_or_group) for o in self._choices()), *EXTRAS]
        return [*groups, *(group.rpartition("/")[0] for group in EXTRAS)]

    def _missing_group(self, group: str) -> str:
        options = self._options(group)
        return (
            f"{self._shown(self.config_name)}: {group}: an option of this group is required (???). "
            f"Choose one: {group}={options[0] if options else 'OPTION'}. Options: {', '.join(options)}."
        )

    def _unknown_group(self, config_path: str, group: str) -> str:
        where = f"{self._find_default(config_path, group) or self._shown(config_path)}: override /{group}"
        task = self._task_within(config_path)
        floor = next((part for part in group.split("/") if part in self._tasks()), task)
        if task and floor != task:
            return f"{where}: {wrong_floor(task, str(floor), f'group {group}')}"
        return f"{where}: there is no such group in the defaults list.{suggest(group, self._groups())}"

    def _task_within(self, config_path: str) -> str | None:
        """The task of a composition that failed in a file: the command line, this file or the primary one chose it."""
        given = [str(o.value()) for o in self._choices() if o.key_or_group == TASK_GROUP]
        chosen = [self.loader.default_of(TASK_GROUP, path) for path in (config_path, self.config_name)]
        return next((task for task in (*given, *chosen) if task in self._tasks()), None)

    def _unknown_key(self, key: str) -> str:
        """A key or a group of the command line that the configuration does not hold."""
        where = f"{COMMAND_LINE}: {key}"
        try:
            cfg, sources = self.loader.load(self.config_name, self._choices_without(key))
        except HydraException as error:  # what remains cannot be composed either
            return f"{where}: unknown key, and without it: {self._other(error)}"
        tree: Any = raw_tree(cfg)
        if foreign := foreign_parts(tree, sources):
            return "\n".join(map(str, foreign))
        group = key.split("@")[0]
        if "/" in group or self.loader.repository.group_exists(group):
            return f"{where}: {self._group_advice(group, sources.chosen)}"
        if key.startswith("hydra"):
            tree = {"hydra": OmegaConf.to_container(cfg.hydra, resolve=False)}
        return f"{where}: {self._advice(key, tree)}"

    def _group_advice(self, group: str, chosen: dict[str, str | None]) -> str:
        """A group that nothing chosen brings: of another task, of another option, or of no file at all."""
        task = str(chosen.get(TASK_GROUP))
        floor = next((part for part in group.split("/") if part in self._tasks()), task)
        if floor != task and task in self._tasks():
            return wrong_floor(task, floor, f"group {group}")
        if group in EXTRAS:
            return f'this group comes with the extra: pip install "{EXTRAS[group]}".'
        if group in self._groups():
            return f"the group is not in the defaults list of {self._shown(self.config_name)}. Add it: +{group}=OPTION"
        parent = group.split("/")[0]
        if self.loader.repository.group_exists(group):
            having = [name for name in self._options(parent) if self._brings(f"{parent}/{name}", group)]
            listed = f" These have it: {', '.join(f'{parent}={name}' for name in having)}." if having else ""
            return f"{parent}={chosen.get(parent)} has no such part.{listed}"
        folders = self.loader.inner_groups(parent) if self.loader.repository.group_exists(parent) else []
        return f"there is no such group.{suggest(group, [*folders, *self._groups()]).replace('key', 'group')}"

    def _brings(self, config_path: str, group: str) -> bool:
        """Whether the defaults list of a file chooses an option of the group."""
        path = self._path(config_path)
        return path is not None and find_default(path, group.partition("/")[2]) is not None

    def _tasks(self) -> list[str]:
        return self._options(TASK_GROUP) if self.loader.repository.group_exists(TASK_GROUP) else []

    def _advice(self, key: str, tree: dict[str, Any]) -> str:
        parts, node, depth = key.split("."), tree, 0
        while depth < len(parts) - 1 and isinstance(node.get(parts[depth]), dict):
            node, depth = node[parts[depth]], depth + 1
        parent, name = ".".join(parts[:depth]), parts[depth]
        if is_target(node):
            return self._argument_advice(key, parent, name, node)
        if depth == 0:
            if leaf := _resembling_leaf(parts[-1], list(leaf_keys(tree))):
                return f"unknown key. Nearest valid key: {leaf}."
            return f"unknown key.{suggest(name, [*tree, *self._groups()])}"
        return f"unknown key.{suggest(name, node, parent)}"

    def _argument_advice(self, key: str, parent: str, name: str, node: dict[str, Any]) -> str:
        """An argument of a target that the YAML does not list: it may exist all the same."""
        target, source = str(node["_target_"]), own_package()
        names = [other for other in node if not str(other).startswith("_")]
        if source.has(target):
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
        tree: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
        return tree

    def _choices(self) -> list[Override]:
        """The overrides that choose options, without those that set values."""
        return [override for override in self._parsed() if self.loader.chooses(override)]

    def _choices_without(self, key: str) -> list[str]:
        return [str(o.input_line) for o in self._choices() if key not in (o.key_or_group, o.get_key_element())]

    def _parsed(self) -> list[Override]:
        return self.loader.parse(self.overrides)

    def _groups(self) -> list[str]:
        return [name for name in self.loader.list_groups("") if not name.startswith("_")]

    def _options(self, group: str) -> list[str]:
        return self.loader.options(group, self.config_name)

    def _where(self, group: str, option: str) -> str:
        """Command line or file:line that chose ``option``: files that the command line chose come first."""
        if any(o.key_or_group == group and option in str(o.input_line) for o in self._parsed()):
            return COMMAND_LINE
        chosen = [self._path(f"{o.key_or_group}/{o.value()}") for o in self._choices()]
        found = (path for folder in self._folders() for path in sorted(folder.rglob("*.yaml")))
        files = (path for path in found if path.is_file())
        for path in chain(filter(None, chosen), files):
            line = find_default(path, group, option)
            if line:
                return f"{shown_path(path)}:{line}"
        return self._shown(self.config_name)

    def _find_default(self, config_path: str, group: str, option: str | None = None) -> str | None:
        """``file:line`` of an item of a defaults list that names the group (and option)."""
        path = self._path(config_path)
        line = find_default(path, group, option) if path else None
        return f"{shown_path(path)}:{line}" if path and line else None

    def _path(self, config_path: str) -> Path | None:
        name = config_path if config_path.endswith((".yaml", ".yml")) else config_path + ".yaml"
        return next((folder / name for folder in self._folders() if (folder / name).is_file()), None)

    def _folders(self) -> list[Path]:
        return [Path(source.path) for source in self.loader.get_sources() if source.scheme() == "file"]

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


def _resembling_leaf(name: str, leaves: list[str]) -> str | None:
    """The shortest of the full keys whose last part is the name or resembles it closely; None if there is none.

    >>> _resembling_leaf("epochs", ["paths", "trainer.max_epochs", "trainer.min_epochs"])
    'trainer.max_epochs'
    """
    last = {leaf: leaf.rpartition(".")[2] for leaf in leaves}
    near = name if name in last.values() else nearest(name, last.values())
    has_words = near is not None and set(name.split("_")) <= set(near.split("_"))
    if near is None or not (has_words or SequenceMatcher(None, name, near).ratio() >= 0.75):
        return None  # among so many keys something always resembles a little
    return min((leaf for leaf in leaves if last[leaf] == near), key=lambda leaf: (leaf.count("."), len(leaf)))


def _parse_message(override: str) -> str:
    """Name the first character that Hydra's grammar takes for no text, and how the value is quoted."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{COMMAND_LINE}: {override}: this is not of the form key=value."
    special = _NO_TEXT.search(value)
    what = f"Hydra does not take {special[0]} for text" if special else "this is not of the form key=value"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    quoted = shlex.quote(f'{key}="{escaped}"')
    return f"{COMMAND_LINE}: {override}: {what}. Quote the value, for the shell and for Hydra: {quoted}"


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"invalid YAML: {error}"
    remedy = " Indent with spaces, not with tabs." if "\\t" in problem else ""
    return (
        f"{shown_path(Path(mark.name))}:{mark.line + 1}: invalid YAML in column {mark.column + 1}: {problem}.{remedy}"
    )
