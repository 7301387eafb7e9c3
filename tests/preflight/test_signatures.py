"""Signatures read from source against Python's own, and types read from source against live ones."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest

from hydra_preflight.annotations import accepts, from_ast, from_runtime
from hydra_preflight.errors import ConfigError
from hydra_preflight.own_source import PackageSource, own_package
from hydra_preflight.signatures import Signature, check_arguments, signature_of

Norm = Literal["gLN", "cLN"]

VALUES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("int", int, [3, -1], [True, 3.0, "3", None, [3]]),
    ("float", float, [3, 3.5], [True, "3", None]),
    ("bool", bool, [True], [1, "true", None]),
    ("str", str, ["x"], [1, True, None, ["x"]]),
    ("Path", Path, ["x"], [1, None]),
    ("int | None", int | None, [3, None], ["x", True]),
    (
        "Optional[str]",
        Optional[str],  # noqa: UP045
        ["x", None],
        [3],
    ),
    (
        "Union[int, str]",
        Union[int, str],  # noqa: UP007
        [3, "x"],
        [None, 3.5],
    ),
    ("list[int]", list[int], [[1, 2], []], [[1, "x"], 1, None]),
    ("Sequence[float]", Sequence[float], [[1, 2.5]], [["x"], 3]),
    ("tuple[int, int]", tuple[int, int], [[1, 2]], [[1], [1, 2, 3], [1, "x"]]),
    ("tuple[float, ...]", tuple[float, ...], [[1, 2, 3.5], []], [["x"]]),
    ("dict[str, float]", dict[str, float], [{"a": 1.5}], [{"a": "x"}, [1]]),
    ("Literal['gLN', 'cLN']", Literal["gLN", "cLN"], ["gLN"], ["gln", 1, None]),
    ("Literal[1, 2]", Literal[1, 2], [1], [True, 3, "1"]),
    ("Norm", Norm, ["cLN"], ["BN"]),
    ("Callable[..., int]", Callable[..., int], [{"_target_": "x"}], [3, "x", [1]]),
    ("Any", Any, [3, None, "x"], []),
]


@pytest.mark.parametrize(("source", "annotation", "good", "bad"), VALUES, ids=[row[0] for row in VALUES])
def test_types_from_source_and_live_agree(source: str, annotation: Any, good: list[Any], bad: list[Any]) -> None:
    aliases = {"Norm": ast.parse("Literal['gLN', 'cLN']", mode="eval").body}
    read = from_ast(ast.parse(source, mode="eval").body, aliases.get)
    live = from_runtime(annotation, {})
    written = from_runtime(source, globals())
    for spec in (read, live, written):
        assert all(accepts(value, spec) for value in good)
        assert not any(accepts(value, spec) for value in bad)


SOURCE = {
    "__init__.py": "",
    "base.py": """
        from dataclasses import dataclass
        from typing import Literal
        Mode = Literal["min", "max"]
        class Base:
            def __init__(self, rate: int, mode: Mode = "min", *, tags: list[str] | None = None): ...
        @dataclass
        class Options:
            width: int
            depth: int = 2
        def make(count: int, *values: float, scale: float = 1.0, **rest): ...
    """,
    "child.py": """
        from torch import nn
        from .base import Base, Mode, Options
        class Inherits(Base):
            pass
        class Forwards(Base):
            def __init__(self, width: float, rate: int = 8000, **kwargs):
                super().__init__(rate=rate, **kwargs)
        class Keeps(Base):
            def __init__(self, **kwargs):
                self.kwargs = kwargs
        class Wider(Options):
            pass
        class External(nn.Module):
            pass
        class Holds:
            def __init__(self, net: Base, mode: Mode = None): ...
        class Meta: ...
    """,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageSource:
    folder = tmp_path / "sample_package"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield PackageSource(folder)
    for name in [name for name in sys.modules if name.startswith("sample_package")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["base.Base", "base.Options", "base.make", "child.Inherits", "child.Wider", "child.Holds"]
)
def test_signature_from_source_is_that_of_python(package: PackageSource, name: str) -> None:
    module, _, attribute = f"sample_package.{name}".rpartition(".")
    live = signature_of(name, getattr(importlib.import_module(module), attribute))
    read = package.signature(f"sample_package.{name}")
    assert list(read.arguments) == list(live.arguments)
    for argument, reference in zip(read.arguments.values(), live.arguments.values(), strict=True):
        assert (argument.required, argument.positional) == (reference.required, reference.positional)
    assert (read.open, read.open_positional) == (live.open, live.open_positional)


def test_forwarded_keywords_are_those_of_the_base(package: PackageSource) -> None:
    signature = package.signature("sample_package.child.Forwards")
    assert list(signature.arguments) == ["width", "rate", "mode", "tags"]
    assert not signature.open
    assert not accepts("median", signature.arguments["mode"].type)


def test_keywords_that_go_nowhere_known_pass(package: PackageSource) -> None:
    assert package.signature("sample_package.child.Keeps").open
    assert package.signature("sample_package.child.External").open


def test_alias_and_class_annotations_are_followed_through_imports(package: PackageSource) -> None:
    arguments = package.signature("sample_package.child.Holds").arguments
    assert accepts(None, arguments["mode"].type)
    assert not accepts("median", arguments["mode"].type)
    assert accepts({"_target_": "x"}, arguments["net"].type)
    assert not accepts(3, arguments["net"].type)


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        ("sample_package.child.Forward", "sample_package.child.Forwards"),
        ("sample_package.chil.Forwards", "sample_package.child"),
        ("sample_package.child.Base", "sample_package.base.Base"),
        ("sample_package.base.Literal", "Nearest|Valid"),
        ("sample_package.base.Base.__init__", "there is no module"),
    ],
)
def test_absent_names_are_refused_with_the_nearest(package: PackageSource, target: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest):
        package.signature(target)


def problems(signature: Signature, **node: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    check_arguments("model.net", {"_target_": "x", **node}, signature, found.__setitem__)
    return found


def test_arguments_are_bound(package: PackageSource) -> None:
    signature = package.signature("sample_package.base.Base")
    assert problems(signature, rate=8000) == {}
    assert problems(signature, _args_=[8000, "max"]) == {}
    assert list(problems(signature, rate=8000, mod="max")) == ["model.net.mod"]
    assert "Nearest valid key: model.net.mode" in problems(signature, rate=8000, mod="max")["model.net.mod"]
    assert "needs the argument 'rate'" in problems(signature)["model.net.rate"]
    assert problems(signature, _partial_=True) == {}
    assert list(problems(signature, _partial_=True, rat=3)) == ["model.net.rat"]
    assert "given by _args_ already" in problems(signature, _args_=[1], rate=2)["model.net.rate"]
    assert "at most 2 positional" in problems(signature, _args_=[1, "min", []])["model.net._args_"]
    assert "Write 8000" in problems(signature, rate=8000.0)["model.net.rate"]
    assert "not one of min, max" in problems(signature, rate=1, mode="mx")["model.net.mode"]


def test_signatures_of_every_class_of_the_package_are_those_of_python() -> None:
    """Source and import agree for all public classes of models, losses and tasks."""
    source, checked = own_package(), 0
    for path in sorted(source.package_dir.glob("[mlt]*/**/*.py")):
        module_name = ".".join(("hydraudio", *path.relative_to(source.package_dir).with_suffix("").parts))
        for name, definition in source._module(module_name).definitions.items() if path.stem != "__init__" else []:
            if not isinstance(definition, ast.ClassDef) or "TypedDict" in map(ast.unparse, definition.bases):
                continue
            read = source.signature(f"{module_name}.{name}")
            live = inspect.signature(getattr(importlib.import_module(module_name), name)).parameters
            if not read.open and not read.open_positional:
                named = [p.name for p in live.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
                assert set(named) <= set(read.arguments), (module_name, name)
                checked += 1
    assert checked >= 5
