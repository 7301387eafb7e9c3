"""What a target takes, and the arguments that a configuration gives it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hydra_preflight.annotations import TypeSpec, accepts, from_runtime, optional
from hydra_preflight.problems import join, nearest, suggest
from hydra_preflight.tree import SPECIAL_KEYS


@dataclass(frozen=True)
class Argument:
    """One parameter of a target."""

    name: str
    type: TypeSpec
    required: bool
    positional: bool = True


@dataclass(frozen=True)
class Signature:
    """Parameters of a target in order; ``open`` if it takes further keywords, ``open_positional`` for ``*args``."""

    target: str
    arguments: dict[str, Argument] = field(default_factory=dict)
    open: bool = False
    open_positional: bool = False


Report = Callable[[str, str], None]

_NOT_NEGATIVE = ("lr", "weight_decay", "num_workers", "num_nodes", "min_epochs", "patience")
_NOT_NEGATIVE_ENDINGS = ("_s", "_hz", "_samples", "_size", "_channels", "_dim", "_every_n_epoch", "_every_n_steps")


def check_arguments(key: str, node: dict[str, Any], signature: Signature, report: Report) -> None:
    """Report ``(full key, text)`` for every argument that is unknown, missing, given twice or of a wrong type."""
    given = [name for name in node if name not in SPECIAL_KEYS]
    consumed = _positional_arguments(key, node, signature, report)
    _check_names(key, given, consumed, signature, report)
    if node.get("_partial_") is not True:
        _check_required(key, {*given, *consumed}, signature, report)
    for name in given:
        argument = signature.arguments.get(name)
        if argument is not None and not accepts(node[name], argument.type):
            report(join(key, name), type_text(node[name], argument.type))
        elif argument is not None and (text := _below_limit(str(name), node[name])):
            report(join(key, name), text)


def _below_limit(name: str, value: Any) -> str | None:
    """Sentence about a number that is smaller than what its name stands for can be; None for all others.

    Units and counts live in names, so that their limits need no second notation.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if value < 1 and (name.endswith("batch_size") or name == "sample_rate"):
        return f"{value} is too small; give at least 1."
    if value < 0 and (name in _NOT_NEGATIVE or name.startswith("n_") or name.endswith(_NOT_NEGATIVE_ENDINGS)):
        return f"{value} is negative; give at least 0."
    return None


def check_special_keys(key: str, node: dict[str, Any], report: Report) -> None:
    """Report wrong values of ``_partial_``, ``_recursive_``, ``_convert_`` and ``_args_``."""
    for name in ("_partial_", "_recursive_"):
        if not isinstance(node.get(name, False), bool):
            report(join(key, name), f"{node[name]!r} is not true or false.")
    if node.get("_convert_", "all") not in ("none", "partial", "object", "all"):
        report(join(key, "_convert_"), f"{node['_convert_']!r} is not one of none, partial, object, all.")
    if not isinstance(node.get("_args_", []), list):
        report(join(key, "_args_"), f"{node['_args_']!r} is not a list.")


def type_text(value: Any, spec: TypeSpec) -> str:
    """Sentence about a value of a wrong type, with the remedy."""
    text = f"{_shown(value)} is of the wrong type: expected {spec.text}, got {_type_name(value)}."
    if spec.kind == "literal":
        names = [str(item) for item in spec.items]
        text = f"{_shown(value)} is not one of {', '.join(names)}."
        near = nearest(value, names) if isinstance(value, str) else None
        return text + (f" Nearest valid value: {near}." if near else "")
    if spec.kind == "str" and isinstance(value, (int, float, bool)):
        return text + " Quote it: \"'...'\" on the command line, '...' in YAML."
    if spec.kind == "object":
        return text + " Give a mapping with _target_."
    if spec.kind == "int" and isinstance(value, float) and value.is_integer():
        return text + f" Write {int(value)}."
    return text


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _type_name(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _positional_arguments(key: str, node: dict[str, Any], signature: Signature, report: Report) -> list[str]:
    """Names of the parameters that ``_args_`` fills."""
    values = node.get("_args_") or []
    names = [argument.name for argument in signature.arguments.values() if argument.positional]
    if isinstance(values, list) and len(values) > len(names) and not signature.open_positional:
        report(join(key, "_args_"), f"{signature.target} takes at most {len(names)} positional arguments.")
    return names[: len(values)]


def _check_names(key: str, given: list[str], consumed: list[str], signature: Signature, report: Report) -> None:
    for name in given:
        if name in consumed:
            report(join(key, name), "this argument is given by _args_ already. Remove one of the two.")
        elif name not in signature.arguments and not signature.open:
            hint = suggest(str(name), [*signature.arguments, *_special(name)], key)
            remedy = hint or " It takes no arguments."
            report(join(key, str(name)), f"{signature.target} has no argument {str(name)!r}.{remedy}")


def _special(name: Any) -> tuple[str, ...]:
    return SPECIAL_KEYS if str(name).startswith("_") else ()


def _check_required(key: str, given: set[str], signature: Signature, report: Report) -> None:
    for argument in signature.arguments.values():
        if argument.required and argument.name not in given:
            report(
                join(key, argument.name),
                f"{signature.target} needs the argument {argument.name!r} ({argument.type.text or 'any type'}), "
                f"which is not given. Add it, or set _partial_: true if it comes later.",
            )


def signature_of(target: str, obj: Any) -> Signature:
    """Signature of an imported class or function; open in every way if Python cannot tell it."""
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature
        return Signature(target, open=True, open_positional=True)
    kinds = {parameter.kind for parameter in parameters}
    return Signature(
        target,
        {argument.name: argument for argument in _runtime_arguments(obj, parameters)},
        open=inspect.Parameter.VAR_KEYWORD in kinds,
        open_positional=inspect.Parameter.VAR_POSITIONAL in kinds,
    )


def _runtime_arguments(obj: Any, parameters: Any) -> Iterator[Argument]:
    namespace = _namespace(obj)
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            continue
        required = parameter.default is inspect.Parameter.empty
        spec = from_runtime(parameter.annotation, namespace)
        if parameter.default is None:
            spec = optional(spec)
        yield Argument(parameter.name, spec, required, parameter.kind is not inspect.Parameter.KEYWORD_ONLY)


def _namespace(obj: Any) -> dict[str, Any]:
    """Globals of the module whose source holds the parameters of ``obj``."""
    function = obj
    if inspect.isclass(obj):
        function = obj.__init__ if obj.__init__ is not object.__init__ else obj
    function = inspect.unwrap(function)
    module = sys.modules.get(getattr(function, "__module__", "") or "")
    return vars(module) if module else {}
