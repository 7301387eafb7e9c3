"""Types as configuration sees them, read from source (ast) or from live annotations, and values compared with them.

Only what a YAML file can get wrong is told apart: bool, int, float, str, Literal, None, lists, tuples, dicts,
unions, and objects (modules, callables), which only a mapping with ``_target_`` can make. Everything else accepts
anything.
"""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hydra_preflight.tree import DEFERRED, MISSING

OBJECT_NAMES = frozenset(
    {"Module", "Callable", "LightningModule", "LightningDataModule", "Optimizer", "LRScheduler", "Tensor", "Generator"}
)
_LIST_NAMES = frozenset(
    {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "set", "Set", "frozenset", "FrozenSet"}
)
_DICT_NAMES = frozenset({"dict", "Dict", "Mapping", "MutableMapping"})
_SCALARS = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "Path": "str",
    "PathLike": "str",
    "None": "none",
}


@dataclass(frozen=True)
class TypeSpec:
    """A type: ``kind`` is any, none, bool, int, float, str, literal, list, tuple, dict, union or object."""

    kind: str
    items: tuple[Any, ...] = ()
    text: str = ""


ANY = TypeSpec("any")
NONE = TypeSpec("none", text="null")
Lookup = Callable[[str], ast.expr | None]


def optional(spec: TypeSpec) -> TypeSpec:
    """``spec`` or None."""
    return spec if accepts(None, spec) else TypeSpec("union", (spec, NONE), f"{spec.text} | None")


def accepts(value: Any, spec: TypeSpec) -> bool:
    """Whether ``value`` (plain Python from a configuration) is of the type."""
    if spec.kind == "any" or value is DEFERRED or value is MISSING or _is_target(value):
        return True
    if spec.kind == "union":
        return any(accepts(value, item) for item in spec.items)
    if spec.kind == "literal":
        return any(type(value) is type(item) and value == item for item in spec.items)
    if spec.kind in ("list", "tuple"):
        return isinstance(value, list) and _accepts_items(value, spec)
    if spec.kind == "dict":
        return isinstance(value, dict) and _accepts_mapping(value, spec)
    return _accepts_scalar(value, spec.kind)


def _is_target(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _accepts_scalar(value: Any, kind: str) -> bool:
    if kind == "none":
        return value is None
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "bool":
        return isinstance(value, bool)
    return kind == "str" and isinstance(value, str)


def _accepts_items(values: list[Any], spec: TypeSpec) -> bool:
    if spec.kind == "tuple" and spec.items:
        return len(values) == len(spec.items) and all(map(accepts, values, spec.items))
    return not spec.items or all(accepts(value, spec.items[0]) for value in values)


def _accepts_mapping(values: dict[Any, Any], spec: TypeSpec) -> bool:
    if len(spec.items) != 2:
        return True
    return all(accepts(key, spec.items[0]) and accepts(value, spec.items[1]) for key, value in values.items())


def from_ast(node: ast.expr | None, lookup: Lookup, depth: int = 0) -> TypeSpec:
    """Read an annotation from source; ``lookup`` finds the expression that a module-level alias stands for."""
    if node is None or depth > 12:
        return ANY
    text = ast.unparse(node)
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return from_ast(ast.parse(node.value, mode="eval").body, lookup, depth + 1)
        return NONE if node.value is None else ANY
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([from_ast(side, lookup, depth + 1) for side in (node.left, node.right)], text)
    if isinstance(node, ast.Subscript):
        return _subscript(node, lookup, depth, text)
    return _named(node, lookup, depth, text)


def _named(node: ast.expr, lookup: Lookup, depth: int, text: str) -> TypeSpec:
    name = text.rpartition(".")[2]
    if name in _SCALARS:
        return TypeSpec(_SCALARS[name], text=text)
    if name in OBJECT_NAMES:
        return TypeSpec("object", text=text)
    if name in _LIST_NAMES or name in ("tuple", "Tuple"):
        return TypeSpec("list", text=text)
    if name in _DICT_NAMES:
        return TypeSpec("dict", text=text)
    return replace(from_ast(lookup(text), lookup, depth + 1), text=text) if isinstance(node, ast.Name) else ANY


def _subscript(node: ast.Subscript, lookup: Lookup, depth: int, text: str) -> TypeSpec:
    name = ast.unparse(node.value).rpartition(".")[2]
    arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        values = tuple(argument.value for argument in arguments if isinstance(argument, ast.Constant))
        return TypeSpec("literal", values, text)
    if name in OBJECT_NAMES:
        return TypeSpec("object", text=text)
    variadic = isinstance(arguments[-1], ast.Constant) and arguments[-1].value is Ellipsis
    items = tuple(from_ast(argument, lookup, depth + 1) for argument in arguments[: -1 if variadic else None])
    return _generic(name, items, variadic, text)


def _generic(name: str, items: tuple[TypeSpec, ...], variadic: bool, text: str) -> TypeSpec:
    if name == "Optional":
        return _union([*items, NONE], text)
    if name == "Union":
        return _union(list(items), text)
    if name in ("Annotated", "Final"):
        return items[0]
    if name in _LIST_NAMES or (name in ("tuple", "Tuple") and variadic):
        return TypeSpec("list", items[:1], text)
    if name in ("tuple", "Tuple"):
        return TypeSpec("tuple", items, text)
    if name in _DICT_NAMES:
        return TypeSpec("dict", items, text)
    return TypeSpec("str", text=text) if name == "PathLike" else ANY


def _union(specs: list[TypeSpec], text: str) -> TypeSpec:
    if any(spec.kind == "any" for spec in specs):
        return ANY
    return TypeSpec("union", tuple(specs), text)


def from_runtime(annotation: Any, namespace: dict[str, Any]) -> TypeSpec:
    """Read a live annotation by what it looks like in source.

    Args:
        annotation: as ``inspect.signature`` gives it: an object, or text.
        namespace: globals of the module that wrote it, in which aliases in the text are looked up.
    """
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:  # a representation such as <class ...> inside: accept anything
        return ANY
    return from_ast(node, lambda alias: _alias_source(alias, namespace))


def _alias_source(name: str, namespace: dict[str, Any]) -> ast.expr | None:
    """Source of a type alias such as ``Union[int, float]`` or ``Literal[...]``; None for classes."""
    value = namespace.get(name)
    if typing.get_origin(value) is None:
        return None
    try:
        return ast.parse(inspect.formatannotation(value), mode="eval").body
    except SyntaxError:
        return None
