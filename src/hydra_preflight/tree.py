"""A composed configuration as plain Python: interpolations resolved, missing and not yet known values marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from hydra_preflight.errors import ConfigError, DataAttributeUnbound

MAX_DEPTH = 40
_HYDRA = "hydra"
SPECIAL_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


# What may wait for the data: text, references to keys, and data_attribute itself. Anything else (a resolver that makes
# mappings, with a default that is a mapping) could hide a _target_ from the check.
_DEFERRABLE = re.compile(r"(?:[^${}]|\$\{[\w.]+\}|\$\{data_attribute:\w+\})*")
# What may fail in a checkpoint's configuration on another machine, since it can only be text.
_TEXT_ONLY = re.compile(r"(?:[^${}]|\$\{[\w.]+\}|\$\{oc\.env:\w+\})*")


_REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


MISSING = _Marker("???")
DEFERRED = _Marker("<known after the data>")
Failure = tuple[str, Exception]


def to_tree(cfg: Container) -> tuple[Any, list[Failure]]:
    """Resolve ``cfg`` into dicts, lists and scalars, without the ``hydra`` node at its root.

    Returns:
        the tree, in which ``MISSING`` stands for ``???`` and ``DEFERRED`` for what depends on
        ``${data_attribute:...}``, and the interpolations that failed as (full key, exception).
    """
    failures: list[Failure] = []
    return _convert(cfg, "", failures), failures


def raw_tree(cfg: Container) -> Any:
    """``cfg`` in plain Python with interpolations as they are written, without the ``hydra`` node at its root."""
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    if isinstance(tree, dict):
        tree.pop(_HYDRA, None)
    return tree


def _convert(node: Any, path: str, failures: list[Failure]) -> Any:
    if path.count(".") > MAX_DEPTH:
        raise ConfigError(f"{path[:120]}...: an interpolation refers to itself")
    if isinstance(node, DictConfig):
        if node._is_none():
            return None
        return {key: _child(node, key, path, failures) for key in node if path or key != _HYDRA}
    if isinstance(node, ListConfig):
        if node._is_none():
            return None
        return [_child(node, index, path, failures) for index in range(len(node))]
    return node


def _child(node: Any, key: Any, path: str, failures: list[Failure]) -> Any:
    full_key = f"{path}.{key}" if path else str(key)
    if OmegaConf.is_missing(node, key):
        return MISSING
    try:
        found = _followed(node, key)
        value = node[key] if found is None else found if isinstance(found, Container) else found._value()
    except InterpolationToMissingValueError:
        return MISSING
    except OmegaConfBaseException as error:
        raw = str(node._get_node(key)._value())
        if not (_is_deferred(error) and _DEFERRABLE.fullmatch(raw)):
            failures.append((full_key, error))
        return DEFERRED
    return _convert(value, full_key, failures)


def _followed(node: Any, key: Any) -> Node | None:
    """What references such as ``${data.sample_rate}`` lead to; None for all that needs OmegaConf's (slow) parser."""
    root: Any = node._get_root()
    child: Any = node._get_node(key)
    for _ in range(MAX_DEPTH):
        written = child._value()
        if not isinstance(written, str) or ("$" not in written and written != "???"):
            return child
        found = _REFERENCE.fullmatch(written)
        child = root if found else None
        for part in found[1].split(".") if found else ():
            is_mapping = isinstance(child, DictConfig) and isinstance(child._value(), dict)
            child = child._get_node(part, validate_access=False) if is_mapping else None
        if child is None:
            return None
    return None


def _is_deferred(error: BaseException | None) -> bool:
    """Whether a ``${data_attribute:...}`` is at the bottom of the failure."""
    while error is not None:
        if isinstance(error, DataAttributeUnbound):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_text_only(cfg: Container, key: str) -> bool:
    """Whether the value of ``key`` consists of text, references and environment variables: it can hold no target."""
    raw = raw_tree(cfg)
    for part in key.split("."):
        raw = raw[int(part)] if isinstance(raw, list) else raw.get(part) if isinstance(raw, dict) else None
    return isinstance(raw, str) and _TEXT_ONLY.fullmatch(raw) is not None


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
