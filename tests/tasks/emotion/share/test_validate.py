"""Validation of emotion networks: what only their checks can notice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from hydraudio.run import restore_data
from hydraudio.share import validate as validation
from hydraudio.share.model_folder import load_model_folder
from hydraudio.share.probe import probe_outputs
from hydraudio.share.validate import CHECKS, Copy, Validation, report, validate


def probe_here(folder: Path, trusted: tuple[str, ...]) -> dict[str, Any]:
    """In this process instead of a clean one."""
    return probe_outputs(load_model_folder(folder, trusted))


@pytest.fixture(scope="session")
def base(trained, model_folder, compose_eval) -> Validation:
    datamodule = restore_data(compose_eval(), trained.config, trained.path)
    copy = Copy(model_folder, "model")
    return Validation(copy, model_folder, trained, datamodule, n_items=8, probe=probe_here)


@pytest.fixture
def sabotaged(base: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Call with a change of the folder and some checks; returns the failed ones with their findings."""

    def run(change: Callable[[Path], Any], *names: str) -> dict[str, str]:
        folder = Path(shutil.copytree(base.folder, tmp_path / "copy"))
        change(folder)
        copy = dataclasses.replace(base.copy, folder=folder)
        monkeypatch.setattr(validation, "CHECKS", [check for check in CHECKS if check[0] in names])
        outcomes = validate(dataclasses.replace(base, copy=copy))
        return {outcome.name: outcome.finding for outcome in outcomes if not outcome.passed}

    return run


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return apply


def change_weight(factor: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["net.category.output.weight"] *= factor
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def test_an_honest_copy_passes_every_check(base):
    outcomes = validate(base)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert [outcome.name for outcome in outcomes] == [name for name, _ in CHECKS]
    content = report(base, outcomes)
    assert content["passed"]
    assert len(content["checks"]) == 9
    assert json.loads(json.dumps(content)) == content
    assert "8 validation items: macro_f1" in outcomes[-1].finding


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (change_weight(1 + 1e-7), "checksums", "SHA-256"),
        (
            replace_text("README.md", "name: Macro-F1\n      value: 0.", "name: Macro-F1\n      value: 1."),
            "card",
            "results",
        ),
        (change_weight(1.01), "results", "differs by"),
        (change_weight(-1.0), "metric", "differs in"),
        (edit("config.json", lambda c: c["id2label"].update({"0": "Sad", "1": "Angry"})), "description", "id2label"),
        (edit("config.json", lambda c: c["frames"].update(strides=[5] * 7)), "description", "frames"),
        (edit("config.json", lambda c: c.update(sample_rate=8000)), "description", "sample_rate"),
        (edit("config.json", lambda c: c["normalization"].update(std=1.0)), "description", "normalization"),
    ],
)
def test_each_check_notices_its_sabotage(sabotaged, change, check, words):
    failed = sabotaged(change, check, *(["loading"] if check == "results" else []))
    assert check in failed
    assert words in failed[check]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves these checks."""
    return lambda *names: monkeypatch.setattr(validation, "CHECKS", [check for check in CHECKS if check[0] in names])


def test_the_agreement_with_the_data_is_checked_beside_that_with_the_checkpoint(base, only):
    only("description")

    class Data:
        def __getattr__(self, name: str) -> Any:
            return (
                list(reversed(base.datamodule.class_names)) if name == "class_names" else getattr(base.datamodule, name)
            )

    outcomes = {outcome.name: outcome for outcome in validate(dataclasses.replace(base, datamodule=Data()))}
    assert "class_names" in outcomes["description"].finding
    assert not outcomes["description"].passed
