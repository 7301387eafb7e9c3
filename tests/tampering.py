"""Shared models that somebody has changed, and what validation says of them, for tests of every floor."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from hydraudio.share.model_folder import load_model_folder
from hydraudio.share.probe import probe_outputs
from hydraudio.share.validate import CHECKS, Outcome, Validation, report, validate

Change = Callable[[Path], Any]
"""Of a model folder, in its place."""


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """A change of the object in a JSON file."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def replace_text(name: str, old: str, new: str) -> Change:
    """Another text in a file that has the old one."""

    def apply(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return apply


def scale(tensor: str, factor: float) -> Change:
    """A factor on one tensor of the weights."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights[tensor] *= factor
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def probe_here(folder: Path, trusted: tuple[str, ...]) -> dict[str, Any]:
    """The probe of a validation in this process instead of a clean one."""
    return probe_outputs(load_model_folder(folder, trusted))


def checked(validation: Validation, *names: str) -> dict[str, Outcome]:
    """What some checks have found."""
    return {outcome.name: outcome for outcome in validate(validation, names)}


def tampered(validation: Validation, change: Change, folder: Path, *names: str) -> dict[str, Outcome]:
    """What some checks have found in a changed copy of the model, which is made in a new folder."""
    shutil.copytree(validation.folder, folder)
    change(folder)
    return checked(dataclasses.replace(validation, copy=dataclasses.replace(validation.copy, folder=folder)), *names)


def assert_is_noticed(validation: Validation, change: Change, folder: Path, check: str, words: str) -> None:
    """The check fails on a changed copy, and its finding has the words."""
    loaded_before = ["loading"] if check == "results" else []
    outcome = tampered(validation, change, folder, *loaded_before, check)[check]
    assert not outcome.passed
    assert words in outcome.finding


def assert_is_honest(validation: Validation, metric: str) -> None:
    """Every check passes, the last one by this metric, and the report says so."""
    outcomes = validate(validation)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert tuple(outcome.name for outcome in outcomes) == CHECKS
    assert f"{validation.n_items} validation items: {metric}" in outcomes[-1].finding
    content = report(validation, outcomes)
    assert content["passed"]
    assert len(content["checks"]) == 9
    assert json.loads(json.dumps(content)) == content
