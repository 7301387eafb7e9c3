"""Validation: an honest copy passes every check, and each check fails on a folder that was sabotaged for it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_run
from safetensors.torch import load_file, save_file

from hydraudio.run import restore_data
from hydraudio.share import validate as validation
from hydraudio.share.model_folder import load_model_folder
from hydraudio.share.probe import probe_in_clean_process, probe_outputs
from hydraudio.share.upload import publish
from hydraudio.share.validate import CHECKS, Copy, Validation, fetch_copy, report, validate


def probe_here(folder: Path, trusted: tuple[str, ...]) -> dict[str, Any]:
    """In this process instead of a clean one."""
    return probe_outputs(load_model_folder(folder, trusted))


@pytest.fixture(scope="session")
def base(trained, model_folder) -> Validation:
    datamodule = restore_data(toy_run.eval_config(), trained.config, trained.path)
    copy = Copy(model_folder, "model")
    return Validation(
        copy, model_folder, trained, datamodule, n_items=8, trusted_prefixes=("toy_floor.",), probe=probe_here
    )


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
        weights["net.weights.weight"] *= factor
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
    assert "8 validation items: hits" in outcomes[-1].finding


def test_a_folder_that_is_not_there_fails(base, tmp_path):
    copy = fetch_copy(str(tmp_path / "nothing"), tmp_path / "x")
    outcomes = validate(dataclasses.replace(base, copy=copy))
    assert not outcomes[0].passed
    assert "neither a folder nor" in outcomes[0].finding
    assert not report(base, outcomes)["passed"]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"), "files", "can execute code"),
        (lambda folder: (folder / "README.md").open("a").write("hf_" + "abcd" * 6), "files", "token"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "files", "is missing"),
        (change_weight(1 + 1e-6), "checksums", "SHA-256"),
        (replace_text("README.md", "license: other\n", ""), "card", "license"),
        (replace_text("README.md", "language: en", "base_model: a/b"), "card", "base_model"),
        (replace_text("README.md", "name: Hits\n      value: 0.", "name: Hits\n      value: 1."), "card", "results"),
        (edit("config.json", lambda c: c["model"].update(_target_="os.system")), "loading", "may not be"),
        (change_weight(1.01), "results", "guess differs"),
        (change_weight(-1.0), "metric", "differs in"),
        (edit("config.json", lambda c: c.update(kind_names=["high", "low"])), "description", "kind_names"),
        (edit("config.json", lambda c: c.update(sample_rate=16000)), "description", "sample_rate"),
        (edit("config.json", lambda c: c.update(colour="blue")), "description", "colour"),
        (edit("preprocessor_config.json", lambda c: c.update(do_normalize=True)), "description", "preprocess"),
    ],
)
def test_each_check_notices_its_sabotage(sabotaged, change, check, words):
    failed = sabotaged(change, check, *(["loading"] if check == "results" else []))
    assert check in failed
    assert words in failed[check]


def test_other_types_fail_the_tensors_and_the_loading(sabotaged):
    def halve(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({name: value.half() for name, value in weights.items()}, folder / "model.safetensors")

    failed = sabotaged(halve, "tensors", "loading")
    assert "float16" in failed["tensors"]
    assert "float16" in failed["loading"]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves these checks."""
    return lambda *names: monkeypatch.setattr(validation, "CHECKS", [check for check in CHECKS if check[0] in names])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("kind_names", ["high", "low"], "kind_names"), ("colour", "blue", "differs from the data in corpus_colour")],
)
def test_the_agreement_with_the_data_is_checked_beside_that_with_the_checkpoint(base, only, name, value, words):
    only("description")

    class Data:
        def __getattr__(self, asked: str) -> Any:
            return value if asked == name else getattr(base.datamodule, asked)

    outcomes = {outcome.name: outcome for outcome in validate(dataclasses.replace(base, datamodule=Data()))}
    assert words in outcomes["description"].finding
    assert not outcomes["description"].passed


def test_what_the_floor_finds_in_the_network_fails_the_description(base, only, monkeypatch):
    only("description")
    import toy_floor

    def find(self, task, config):
        raise ValueError("the paint comes off")

    monkeypatch.setattr(toy_floor.ToySharing, "check", find)
    (outcome,) = validate(base)
    assert (outcome.passed, outcome.finding) == (False, "the paint comes off")


def test_the_folder_loads_in_a_clean_process(base, only):
    only("loading", "results")
    outcomes = validate(dataclasses.replace(base, probe=probe_in_clean_process))
    assert [outcome.passed for outcome in outcomes] == [True, True], outcomes


def test_the_copy_on_the_hub_is_the_one_that_is_checked(hub, base, model_folder, tmp_path, only):
    first = publish(model_folder, "me/model", private=False).revision
    copy = fetch_copy("me/model", tmp_path / "good", first)
    outcomes = validate(dataclasses.replace(base, copy=copy, private=False))
    assert all(outcome.passed for outcome in outcomes), outcomes
    assert first in outcomes[0].finding
    assert Validation.reachable.__get__(base) != ""

    only("reachable", "checksums")
    spoiled = dict(hub.repos["me/model"].files)
    spoiled["model.safetensors"] = spoiled["model.safetensors"][:-4] + b"\0\0\x80\x3f"
    hub.repos["me/model"].commit(spoiled)
    newest = validate(dataclasses.replace(base, copy=fetch_copy("me/model", tmp_path / "bad")))
    assert "checksums" in {outcome.name for outcome in newest if not outcome.passed}
    again = validate(dataclasses.replace(base, copy=fetch_copy("me/model", tmp_path / "again", first)))
    assert all(outcome.passed for outcome in again)


def test_visibility_and_the_hubs_own_checksums_are_checked(base, only):
    only("reachable", "checksums")
    copy = Copy(base.folder, "me/model", "0" * 40, is_private=False, remote_hashes={"model.safetensors": "0" * 64})
    failed = {o.name: o.finding for o in validate(dataclasses.replace(base, copy=copy, private=True)) if not o.passed}
    assert "public, which was not asked for" in failed["reachable"]
    assert "not what the hub reports" in failed["checksums"]
    moving = dataclasses.replace(copy, revision="main", remote_hashes={})
    failed = {o.name: o.finding for o in validate(dataclasses.replace(base, copy=moving)) if not o.passed}
    assert "not a commit" in failed["reachable"]
