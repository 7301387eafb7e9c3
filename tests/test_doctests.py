"""The examples of the docstrings: each runs, and every package that one may use by itself shows some."""

from __future__ import annotations

import doctest
import importlib

import pytest
from page_commands import ROOT

SOURCE = ROOT / "src"
FILES = sorted(path for path in (SOURCE / "hydraudio").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
PACKAGES = ("audio", "core", "losses", "metrics", "nn", "sounds", "stats")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_examples_run(path):
    module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_package_shows_examples(package):
    assert any(path.is_relative_to(SOURCE / "hydraudio" / package) for path in FILES)
