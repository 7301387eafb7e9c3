"""Hydra's loader, in which each file is parsed once and which says what a configuration is composed of."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import defaults_list as hydra_defaults
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf._utils import get_yaml_loader

from hydra_preflight.errors import ConfigError
from hydra_preflight.sources import SourceFile, Sources, below, merge, takes_omegaconf
from hydra_preflight.tree import HYDRA


@cache
def yaml_loader() -> Any:
    """OmegaConf's rules with the parser of libyaml, where PyYAML was built with it."""
    rules = get_yaml_loader()
    if not yaml.__with_libyaml__:
        return rules
    from yaml.cyaml import CParser

    def start(self: Any, stream: Any) -> None:
        CParser.__init__(self, stream)
        yaml.constructor.SafeConstructor.__init__(self)
        yaml.resolver.Resolver.__init__(self)

    return type("Loader", (CParser, rules), {"__init__": start})


@cache
def _parsed(path: str, modified_ns: int, size: int) -> tuple[dict[str, str | None], Any]:
    """The header of a YAML file, and its content as OmegaConf has it."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
        file.seek(0)
        try:
            content: Any = yaml.load(text, Loader=yaml_loader())
            config: Any = OmegaConf.create({} if content is None else content)
        except yaml.YAMLError:
            config = OmegaConf.load(file)  # says what is wrong in the words of the parser in Python, with the file
    return ConfigSource._get_header_dict(text[:512]), config


class CachedFiles(FileConfigSource):
    """A folder of YAML files, each parsed once as long as it does not change."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path)))
        if not os.path.isfile(path):
            return super().load_config(config_path)  # says what is wrong
        header, config = _parsed(path, os.stat(path).st_mtime_ns, os.stat(path).st_size)
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", copy.deepcopy(config), dict(header))


@cache
def _hydras_packages() -> type[ConfigSource]:
    """Hydra's own source of files in packages, the very class that it has registered."""
    Plugins.instance()
    return SourcesRegistry.instance().resolve("pkg")


def package_files(provider: str, path: str) -> ConfigSource:
    """The YAML files of a package as those of a folder, so that messages name them; Hydra's own stay as they are.

    Raises:
        ConfigError: there is no such package.
    """
    name = path.removeprefix("pkg://").replace("/", ".").rstrip(".")
    if name.split(".")[0] in ("hydra", "hydra_plugins"):
        return _hydras_packages()(provider, path)
    try:
        found = find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"hydra.searchpath: {path}: there is no such package; is it installed?")
    return CachedFiles(provider, os.path.realpath(next(iter(found.submodule_search_locations))))


def speed_up_hydra() -> None:
    """Let every loader of this process, Hydra's own too, parse each file once and make no map that nothing reads."""
    _hydras_packages()  # registers Hydra's own sources of files, which are replaced here
    types: dict[str, Any] = SourcesRegistry.instance().types
    types |= {"file": CachedFiles, "pkg": package_files}
    hydra_defaults._create_interpolation_map = _interpolation_map


_every_map = hydra_defaults._create_interpolation_map
_NO_MAP = OmegaConf.create()


def _interpolation_map(
    overrides: hydra_defaults.Overrides, defaults_list: list[InputDefault], self_added: bool
) -> DictConfig:
    """Hydra makes this map for every file, half of a composition, but reads it only for interpolated defaults."""
    is_read = any(not default.is_self() and default.is_interpolation() for default in defaults_list)
    return _every_map(overrides, defaults_list, self_added) if is_read else _NO_MAP


class Files(CachingConfigRepository):
    """The files below a search path and what they bring, kept; further folders (``hydra.searchpath``) begin anew."""

    def __init__(self, delegate: IConfigRepository) -> None:
        self.delegate = delegate
        self._forget()

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        self.delegate = ConfigRepository(config_search_path)
        self._forget()

    def _forget(self) -> None:
        self.cache: dict[str, ConfigResult | None] = {}
        self.parts: dict[tuple[str, str | None], Part] = {}
        self.nodes: dict[Any, bytes] = {}

    def node(self, key: Any, make: Callable[[], Any]) -> Any:
        """A node of OmegaConf, made once for each ``key``: to read it from a pickle takes a fifteenth of the time."""
        if key in self.nodes:
            return pickle.loads(self.nodes[key])
        made = make()
        self.nodes[key] = pickle.dumps(made)
        return made


@dataclass(frozen=True)
class Part:
    """What one entry of a defaults list brings.

    Attributes:
        content: plain Python below the keys of its package, without the ``hydra`` node; None = only Hydra can merge it.
        has_hydra: whether it says something of the ``hydra`` node.
        source: the file, if it is one.
    """

    content: dict[str, Any] | None
    has_hydra: bool = False
    source: SourceFile | None = None


class Loader(ConfigLoaderImpl):
    """Composes as Hydra does, and keeps what it read for the next composition.

    After ``load``, ``sources`` says which files and overrides the result is made of.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        speed_up_hydra()
        super().__init__(search_path)
        self._parser = OverridesParser.create(config_loader=self)
        self._parsed: dict[str, Override] = {}
        self._own = self._used = Files(self.repository)
        self._kept = {tuple(source.path for source in self._own.get_sources()): self._own}
        self._defaults: list[ResultDefault] = []

    def parse(self, lines: list[str]) -> list[Override]:
        """Overrides of a command line, each parsed once."""
        new = [line for line in lines if line not in self._parsed]
        self._parsed.update(zip(new, self._parser.parse_overrides(new), strict=True))
        return [self._parsed[line] for line in lines]

    def load(
        self, config_name: str | None, overrides: list[str], mode: RunMode = RunMode.RUN
    ) -> tuple[DictConfig, Sources]:
        """Compose as ``load_configuration`` does, and say from what."""
        lines = self.without_null_groups(config_name, overrides)
        cfg = self.load_configuration(config_name, lines, mode)
        return cfg, self._sources(config_name, self.parse(lines), cfg.hydra.runtime.choices)

    def without_null_groups(self, config_name: str | None, overrides: list[str]) -> list[str]:
        """What Hydra does not understand of the groups of the primary defaults list, as it does.

        ``GROUP=null`` is ``~GROUP``, and ``GROUP=true``, which is no name of an option, is ``GROUP=default``.
        """
        if not any(line.endswith(("=null", "=true")) for line in overrides):
            return list(overrides)
        self.open_folders(config_name)  # some groups lie in further folders only
        groups = self.groups_of(config_name)
        switched_on = {f"{group}=true": f"{group}=default" for group in groups}
        overrides = [switched_on.get(line, line) for line in overrides]
        nulls = {f"{group}=null": f"~{group}" for group in groups}
        absent = {null for null, delete in nulls.items() if not self._used.group_exists(delete[1:])}
        return [nulls.get(line, line) for line in overrides if line not in absent]

    def open_folders(self, config_name: str | None) -> None:
        """Take in the folders that the ``hydra.searchpath`` of a primary file names."""
        self._open(config_name, [])

    def groups_of(self, config_name: str | None) -> list[str]:
        """Groups in the defaults list of a primary file and of what it begins with."""
        loaded = self._used.load_config(config_name) if config_name else None
        groups = []
        for default in (loaded.defaults_list if loaded else None) or []:
            if isinstance(default, GroupDefault):
                groups.append(str(default.group))
            elif isinstance(default, ConfigDefault) and not default.is_self():
                groups += self.groups_of(str(default.path).lstrip("/"))
        return groups

    def default_of(self, group: str, config_name: str) -> str | None:
        """The option that the defaults list of a file chooses or overrides."""
        loaded = self._used.load_config(config_name)
        defaults = (loaded.defaults_list if loaded else None) or []
        found = (d.value for d in defaults if isinstance(d, GroupDefault) and str(d.group).lstrip("/") == group)
        return next((value for value in found if isinstance(value, str)), None)

    def sources(self, config_name: str, lines: list[str], choices: Any) -> Sources:
        """What a configuration that was composed elsewhere is made of."""
        self._defaults = self.compute_defaults_list(config_name, lines, RunMode.RUN).defaults
        return self._sources(config_name, self.parse(lines), choices)

    def _sources(self, config_name: str | None, overrides: list[Override], choices: Any) -> Sources:
        files = [self._part(default).source for default in self._defaults if default.config_path is not None]
        values = [o for o in overrides if not o.is_sweep_override() and not self.chooses(o)]
        chosen = {str(key): value for key, value in choices.items()}
        given = {o.get_key_element().lstrip("+~") for o in overrides if self.chooses(o)}
        return Sources([file for file in files if file], values, chosen, given, self.groups_of(config_name))

    def options(self, group: str, config_name: str | None = None) -> list[str]:
        """Options of a group, those in folders of tasks too; without bases and without groups inside the group."""
        names = self._used.get_group_options(group)
        listed = self.groups_of(config_name)
        for folder in self._used.get_group_options(group, ObjectType.GROUP) if group else []:
            if f"{group}/{folder}" not in listed:
                names += [f"{folder}/{name}" for name in self._used.get_group_options(f"{group}/{folder}")]
        return [name for name in names if not name.rpartition("/")[2].startswith("_")]

    def inner_groups(self, group: str) -> list[str]:
        """All folders below that of a group."""
        folders = [f"{group}/{name}" for name in self._used.get_group_options(group, ObjectType.GROUP)]
        return [name for folder in folders for name in (folder, *self.inner_groups(folder))]

    def chooses(self, override: Override) -> bool:
        """Whether an override chooses an option of a group and does not set a value."""
        return self._used.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = self.parse(overrides)
        return parsed, self._open(config_name, parsed)

    def _open(self, config_name: str | None, overrides: list[Override]) -> Files:
        """The files of a search path, kept for each; a primary file and the command line can add folders."""
        files = copy.copy(self._own)
        self._process_config_searchpath(config_name, overrides, files)
        self._used = self._kept.setdefault(tuple(source.path for source in files.get_sources()), files)
        return self._used

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        """Merge in plain Python; Hydra's own node is typed, so Hydra merges it, once for each list of its files."""
        self._defaults = defaults
        parts = [self._part(default) for default in defaults]
        merged = _merged(part.content for part in parts)
        if merged is None:
            return super()._compose_config_from_defaults_list(defaults, repo)
        typed = [default for default, part in zip(defaults, parts, strict=True) if part.has_hydra]
        key = tuple((default.config_path, default.package) for default in typed)
        cfg: DictConfig = self._used.node(key, lambda: self._hydra_only(typed, repo))
        with flag_override(cfg, "no_deepcopy_set_nodes", True):
            for name, value in merged.items():
                is_node = isinstance(value, (dict, list))
                cfg[name] = self._used.node(pickle.dumps(value), partial(OmegaConf.create, value)) if is_node else value
        return cfg

    def _hydra_only(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        cfg = super()._compose_config_from_defaults_list(defaults, repo)
        for key in [key for key in cfg if key != HYDRA]:
            del cfg[key]
        return cfg

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        """A copy, which merging may change."""
        result = copy.copy(super()._load_single_config(default, repo))
        result.config = copy.deepcopy(result.config)
        return result

    def _part(self, default: ResultDefault) -> Part:
        key = (str(default.config_path), default.package)
        if key not in self._used.parts:
            self._used.parts[key] = self._read_part(default)
        return self._used.parts[key]

    def _read_part(self, default: ResultDefault) -> Part:
        path, package = str(default.config_path), default.package or ""
        result = super()._load_single_config(default, self._used)
        if not isinstance(result.config, DictConfig):
            return Part(None)
        content: Any = OmegaConf.to_container(result.config, resolve=False)
        source = None
        if result.path.startswith("file://"):
            file = Path(result.path.removeprefix("file://")) / ConfigSource._normalize_file_name(path)
            source = SourceFile(path, package, below(package, content), file, bool(default.primary))
        others = {key: value for key, value in content.items() if key != HYDRA}
        is_typed = bool(others) and self._used.get_schema_source().is_config(path)
        return Part(None if is_typed else others, HYDRA in content, source)


def read_sources(hydra_cfg: DictConfig) -> Sources:
    """Find the files behind the composed configuration that ``hydra_cfg`` (its ``hydra`` node) describes."""
    search_path = ConfigSearchPathImpl()
    for source in hydra_cfg.runtime.config_sources:
        search_path.append(source.provider, f"{source.schema}://{source.path}")
    lines = [*hydra_cfg.overrides.hydra, *hydra_cfg.overrides.task]
    return Loader(search_path).sources(hydra_cfg.job.config_name, lines, hydra_cfg.runtime.choices)


def _merged(contents: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    """All contents, each laid over those before; None if that takes OmegaConf."""
    merged: dict[str, Any] = {}
    for content in contents:
        if content is None or takes_omegaconf(merged, content):
            return None
        merged = merge(merged, content)
    return merged
