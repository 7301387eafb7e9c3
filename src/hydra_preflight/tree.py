"""A composed configuration as plain Python: interpolations resolved, missing and not yet known values marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from hydra_preflight.errors import ConfigError, DataAttributeUnbound

MAX_DEPTH = 40
HYDRA = "hydra"
SPECIAL_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")

# What may wait for the data: text, references to keys, and data_attribute itself. Anything else (a resolver that makes
# mappings, with a default that is a mapping) could hide a _target_ from the check.
_DEFERRABLE = re.compile(r"(?:[^${}]|\$\{[\w.]+\}|\$\{data_attribute:\w+\})*")
# What may fail in a checkpoint's configuration on another machine, since it can only be text.
_TEXT_ONLY = re.compile(r"(?:[^${}]|\$\{[\w.]+\}|\$\{oc\.env:\w+\})*")

_REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
_TEXT_AND_REFERENCES = re.compile(rf"(?:[^$\\]|{_REFERENCE.pattern})*")
# An interpolation that depends on where it stands: ${.key}, ${oc.select:.key}.
_RELATIVE = re.compile(r"[{:,]\s*['\"]?\.")


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


MISSING = _Marker("???")
DEFERRED = _Marker("<known after the data>")
_UNKNOWN = _Marker("<only OmegaConf can tell>")
Failure = tuple[str, Exception]


class Tree(NamedTuple):
    """A configuration in plain Python, without the ``hydra`` node at its root.

    Attributes:
        resolved: what it says; ``MISSING`` stands for ``???``, ``DEFERRED`` for what depends on
            ``${data_attribute:...}``.
        written: the same with interpolations as they are written.
        failures: the interpolations that failed, as (full key, exception).
    """

    resolved: Any
    written: Any
    failures: list[Failure]


def to_tree(cfg: Container) -> Tree:
    """Resolve ``cfg`` into dicts, lists and scalars.

    Raises:
        ConfigError: an interpolation refers to itself.
    """
    written = raw_tree(cfg)
    resolver = _Resolver(cfg, written)
    return Tree(resolver.convert(written, cfg, ""), written, resolver.failures)


def raw_tree(cfg: Container) -> Any:
    """``cfg`` in plain Python with interpolations as they are written, without the ``hydra`` node at its root."""
    if isinstance(cfg, DictConfig) and HYDRA in cfg:
        return {key: _raw(cfg._get_node(key)) for key in cfg if key != HYDRA}
    return _raw(cfg)


def _raw(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False) if isinstance(node, Container) else node._value()


class _Resolver:
    """Reads text and references in plain Python, and all that needs OmegaConf's (slow) parser once for each text."""

    def __init__(self, cfg: Any, written: Any) -> None:
        self.cfg = cfg
        self.written = written
        self.failures: list[Failure] = []
        self._known: dict[str, Any] = {}

    def convert(self, written: Any, node: Any, path: str) -> Any:
        """A container of OmegaConf with everything in it."""
        if path.count(".") > MAX_DEPTH:
            raise ConfigError(f"{path[:120]}...: an interpolation refers to itself")
        if isinstance(written, dict):
            return {key: self._child(value, node, key, path) for key, value in written.items()}
        if isinstance(written, list):
            return [self._child(value, node, index, path) for index, value in enumerate(written)]
        return written

    def _child(self, written: Any, parent: Any, key: Any, path: str) -> Any:
        full_key = f"{path}.{key}" if path else str(key)
        value = self._value(written, parent, key)
        if isinstance(value, Container):
            return self.convert(_raw(value) if isinstance(written, str) else written, value, full_key)
        if not isinstance(value, OmegaConfBaseException):
            return value
        if not (_is_deferred(value) and _DEFERRABLE.fullmatch(written)):
            self.failures.append((full_key, value))
        return DEFERRED

    def _value(self, written: Any, parent: Any, key: Any) -> Any:
        """A scalar, a marker, a container of OmegaConf, or the exception that reading raises."""
        if isinstance(written, (dict, list)):
            return parent._get_node(key)
        if not isinstance(written, str) or "${" not in written:
            return MISSING if written == "???" else written
        if _RELATIVE.search(written):
            return _read(parent, key)
        if written not in self._known:
            self._known[written] = _UNKNOWN  # while it is being read: it may refer to itself
            is_plain = _TEXT_AND_REFERENCES.fullmatch(written)
            joined = self._joined(written) if is_plain else _UNKNOWN
            self._known[written] = _read(parent, key) if joined is _UNKNOWN else joined
        return self._known[written]

    def _joined(self, written: str) -> Any:
        """What references such as ``${data.sample_rate}`` give, alone or within text."""
        texts, names = _REFERENCE.split(written)[::2], _REFERENCE.split(written)[1::2]
        values = [self._referred(name) for name in names]
        if len(values) == 1 and not any(texts):
            return values[0]
        if not all(value is None or isinstance(value, (str, int, float)) for value in values):
            return _UNKNOWN
        return "".join(f"{text}{value}" for text, value in zip(texts, [*values, ""], strict=True))

    def _referred(self, name: str) -> Any:
        written, node, parent, part = self.written, self.cfg, None, ""
        for part in name.split("."):
            if not isinstance(written, dict) or part not in written:
                return _UNKNOWN
            written, node, parent = written[part], node._get_node(part), node
        value = self._value(written, parent, part)
        return _UNKNOWN if isinstance(value, OmegaConfBaseException) else value


def _read(parent: Any, key: Any) -> Any:
    try:
        return parent[key]
    except InterpolationToMissingValueError:
        return MISSING
    except OmegaConfBaseException as error:
        return error


def _is_deferred(error: BaseException | None) -> bool:
    """Whether a ``${data_attribute:...}`` is at the bottom of the failure."""
    while error is not None:
        if isinstance(error, DataAttributeUnbound):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_text_only(written: Any, key: str) -> bool:
    """Whether a value, as written, consists of text, references and environment variables: it can hold no target."""
    for part in key.split("."):
        is_list = isinstance(written, list)
        written = written[int(part)] if is_list else written.get(part) if isinstance(written, dict) else None
    return isinstance(written, str) and _TEXT_ONLY.fullmatch(written) is not None


def is_target(node: Any) -> bool:
    """Whether the node is a mapping that names something to instantiate."""
    return isinstance(node, dict) and "_target_" in node


def walk_targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with ``_target_`` below ``node`` with its full key, outer ones first."""
    if is_target(node):
        yield path, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from walk_targets(value, f"{path}.{key}" if path else str(key))


def leaf_keys(node: Any, path: str = "") -> Iterator[str]:
    """Full keys of everything below ``node``, mappings included."""
    if isinstance(node, dict):
        for key, value in node.items():
            full_key = f"{path}.{key}" if path else str(key)
            yield full_key
            yield from leaf_keys(value, full_key)
