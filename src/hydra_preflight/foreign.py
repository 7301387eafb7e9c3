"""The one door for configurations that others wrote, out of checkpoints, model folders and run folders.

A configuration that has passed is plain: no alias, no interpolation, and every target is of a kind that its place
allows. Nothing is resolved on the way but references to other values, which are read from the text itself.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight.errors import ConfigError
from hydra_preflight.loading import yaml_loader
from hydra_preflight.targets import check_targets

log = logging.getLogger(__name__)

MAX_BYTES, MAX_NODES, MAX_DEPTH = 1_000_000, 50_000, 40
"""Hydraudio writes about 10 kB, a thousand values and ten levels."""
_REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
_FOLDER = re.compile(r"\$\{paths\.(\w+)\}")
_SCALARS = (str, int, float, bool, type(None))
SECTIONS = ("name", "seed", "task", "model", "data", "report", "predict", "trainer")
"""What is used of a configuration of others; ``callbacks``, ``logger``, ``extras`` ... are of the run that wrote it."""
_WRITTEN = ("output_dir", "cache_dir", "data_dir", "log_dir")
"""Names of arguments that say where something is written; they are keys of ``paths``."""
_READ = frozenset({"root", "source"})
"""Names of arguments that say where something is read, be it the name of a folder or of a model on a hub."""


def read_text(text: Any, origin: str) -> dict[str, Any]:
    """Read YAML that others wrote into dicts, lists and scalars; interpolations stay as they are written.

    Args:
        text: of a mapping.
        origin: what to call it in messages.

    Raises:
        ConfigError: it is no mapping, too large, too deep, or has aliases, which can make a small text large.
    """
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        raise ConfigError(f"{origin}: refused, because it is no text of at most {MAX_BYTES} characters")
    try:
        _check_events(text, origin)
        content = yaml.load(text, Loader=yaml_loader())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{origin}: not YAML: {' '.join(str(error).split())}") from error
    return _checked(content, origin)


def read_file(path: Path) -> dict[str, Any]:
    """Read a file, ``.json`` or else YAML, as :func:`read_text` does.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: as there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file that can be read")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: refused, because it has more than {MAX_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        return _checked(json.loads(text), str(path)) if path.suffix == ".json" else read_text(text, str(path))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable: {error}") from error


def admit(
    content: Mapping[str, Any],
    origin: str,
    *,
    paths: Mapping[str, Any] | None = None,
    trusted_prefixes: Iterable[str] | None = (),
    sections: Iterable[str] = SECTIONS,
) -> DictConfig:
    """Make a configuration that others wrote into one that may be instantiated here.

    ``paths``, and the arguments `_WRITTEN`, are this machine's: where something is written is never said by others.
    Where something is read stays, and is logged once.

    Args:
        content: what :func:`read_text` or :func:`read_file` gave, or a part of it.
        origin: what to call it in messages.
        paths: folders of this machine; without them, whatever names one of them is null.
        trusted_prefixes: packages that the user trusts, from the user's own configuration.
        sections: what to take of the content; references may lead to the rest.

    Raises:
        ConfigError: it holds an interpolation beside references to values, or something that may not be made.
    """
    plain = _localised(content, sections, paths, origin)
    if paths is not None:
        plain["paths"] = {str(name): value for name, value in paths.items() if isinstance(value, str)}
    try:
        cfg = OmegaConf.create(plain)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{origin}: {str(error).splitlines()[0]}") from error
    check_targets(cfg, trusted_prefixes=trusted_prefixes, origin=origin)
    _say_what_is_read(origin, tuple(places({name: plain.get(name) for name in ("data", "model")}, "")))
    return cfg


def places(node: Any, key: str) -> Iterator[str]:
    """``key=value`` of all places outside that a node names: absolute paths, paths from home, arguments `_READ`."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in children:
        full_key = f"{key}.{name}" if key else str(name)
        if isinstance(value, str) and (name in _READ or _is_place(value)):
            yield f"{full_key}={value}"
        yield from places(value, full_key)


def _is_place(value: str) -> bool:
    is_absolute = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return is_absolute or value.startswith(("~", "./", "../", ".\\", "..\\"))


@cache
def _say_what_is_read(origin: str, found: tuple[str, ...]) -> None:
    if found:
        log.info("%s reads %s", origin, ", ".join(found))


def _check_events(text: str, origin: str) -> None:
    """Refuse what is costly before anything is built of it."""
    depth = n_nodes = 0
    for event in yaml.parse(text, Loader=yaml_loader()):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(
                f"{origin}: refused, because it has anchors or aliases (& and *), which Hydraudio writes none"
            )
        n_nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or n_nodes > MAX_NODES:
            raise ConfigError(f"{origin}: refused, because it has more than {MAX_DEPTH} levels or {MAX_NODES} values")


def _checked(content: Any, origin: str) -> dict[str, Any]:
    """A mapping of plain values that is neither too large nor too deep."""
    if not isinstance(content, dict):
        raise ConfigError(f"{origin}: not a mapping, but {type(content).__name__}")
    level: list[dict[Any, Any] | list[Any]] = [content]
    n_nodes = 0
    for _ in range(MAX_DEPTH):
        children = [c for node in level for c in (node.values() if isinstance(node, dict) else node)]
        n_nodes += len(children)
        for node in (node for node in level if isinstance(node, dict)):
            if not all(isinstance(key, str | int) for key in node):
                raise ConfigError(
                    f"{origin}: keys must be names, not {next(k for k in node if not isinstance(k, str | int))!r}"
                )
        level = [child for child in children if isinstance(child, dict | list)]
        strange = next((c for c in children if not isinstance(c, (dict, list, *_SCALARS))), None)
        if strange is not None:
            raise ConfigError(
                f"{origin}: holds a {type(strange).__name__}; only text, numbers, lists and mappings are read"
            )
        if not level and n_nodes <= MAX_NODES:
            return content
    raise ConfigError(f"{origin}: refused, because it has more than {MAX_DEPTH} levels or {MAX_NODES} values")


def _localised(
    content: Mapping[str, Any], sections: Iterable[str], paths: Mapping[str, Any] | None, origin: str
) -> dict[str, Any]:
    """The content with this machine's folders and without references."""

    def convert(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: _folder(paths, key) if _is_written(key, value) else convert(value) for key, value in node.items()
            }
        if isinstance(node, list):
            return [convert(item) for item in node]
        return value_of(node) if isinstance(node, str) and "${" in node else node

    def value_of(text: str) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole and not whole[1].startswith("paths."):
            return _referred(content, whole[1], text, origin)
        found = _FOLDER.sub(lambda match: str(_folder(paths, match[1]) or ""), text)
        if "${" in found:
            raise ConfigError(
                f"{origin}: refused, because it holds {text[:80]!r}; no interpolation of others is resolved"
            )
        return None if paths is None else found

    return {key: convert(content[key]) for key in sections if key in content}


def _is_written(key: Any, value: Any) -> bool:
    return key in _WRITTEN and value is not None


def _folder(paths: Mapping[str, Any] | None, name: str) -> Any:
    return None if paths is None else paths.get(name)


def _referred(content: Any, dotted: str, text: str, origin: str) -> Any:
    """The value that a reference leads to, which refers to nothing itself."""
    for part in dotted.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    if not isinstance(content, _SCALARS[1:4]) and not (isinstance(content, str) and "${" not in content):
        raise ConfigError(f"{origin}: refused, because {text!r} refers to no text or number of it")
    return content
