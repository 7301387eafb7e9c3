"""Validation: an honest copy passes every check, and each check fails on a folder that was changed for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import toy_run
from safetensors.torch import load_file, save_file
from tampering import assert_is_honest, assert_is_noticed, checked, edit, probe_here, replace_text, scale, tampered

from hydraudio.share.probe import probe_in_clean_process
from hydraudio.share.upload import publish
from hydraudio.share.validate import Copy, Validation, fetch_copy, validate
from hydraudio.trained import restore_data

WEIGHT = "net.weights.weight"


@pytest.fixture(scope="session")
def base(trained, model_folder) -> Validation:
    datamodule = restore_data(toy_run.eval_config(), trained.config, trained.path)
    copy = Copy(model_folder, "model")
    return Validation(
        copy, model_folder, trained, datamodule, n_items=8, trusted_prefixes=("toy_floor.",), probe=probe_here
    )


def test_an_honest_copy_passes_every_check(base):
    assert_is_honest(base, "hits")


def test_a_name_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="neither a folder nor"):
        fetch_copy(str(tmp_path / "nothing"), tmp_path / "x")
    with pytest.raises(ValueError, match="belongs to a repository"):
        fetch_copy(str(tmp_path), tmp_path / "x", revision="main")


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"), "files", "can execute code"),
        (lambda folder: (folder / "README.md").open("a").write("hf_" + "abcd" * 6), "files", "token"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "files", "is missing"),
        (scale(WEIGHT, 1 + 1e-6), "checksums", "SHA-256"),
        (replace_text("README.md", "license: other\n", ""), "card", "license"),
        (replace_text("README.md", "license: other\n", "license: [\n"), "card", "not YAML"),
        (lambda folder: (folder / "README.md").write_text("---\n- 1\n---\n"), "card", "should be a dict"),
        (lambda folder: (folder / "README.md").write_text("# no metadata"), "card", "no license"),
        (replace_text("README.md", "language: en", "base_model: a/b"), "card", "base_model"),
        (replace_text("README.md", "value: 0.75\n", "value: 1.75\n"), "card", "eval_results"),
        (replace_text("README.md", "\n- error\n", "\n- loss\n"), "card", "metrics"),
        (edit("config.json", lambda c: c["model"].update(_target_="os.system")), "loading", "may not be"),
        (scale(WEIGHT, 1.01), "results", "guess differs"),
        (scale(WEIGHT, -1.0), "metric", "differs in"),
        (edit("config.json", lambda c: c.update(kind_names=["high", "low"])), "description", "kind_names"),
        (edit("config.json", lambda c: c.update(sample_rate=16000)), "description", "sample_rate"),
        (edit("config.json", lambda c: c.update(colour="blue")), "description", "colour"),
        (edit("preprocessor_config.json", lambda c: c.update(do_normalize=True)), "description", "preprocess"),
    ],
)
def test_each_check_notices_its_change(base, tmp_path, change, check, words):
    assert_is_noticed(base, change, tmp_path / "copy", check, words)


def test_other_types_fail_the_tensors_and_the_loading(base, tmp_path):
    def halve(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({name: value.half() for name, value in weights.items()}, folder / "model.safetensors")

    for outcome in tampered(base, halve, tmp_path / "copy", "tensors", "loading").values():
        assert not outcome.passed
        assert "float16" in outcome.finding


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("kind_names", ["high", "low"], "kind_names"), ("colour", "blue", "differs from the data in corpus_colour")],
)
def test_the_agreement_with_the_data_is_checked_beside_that_with_the_checkpoint(base, name, value, words):
    class Data:
        def __getattr__(self, asked: str) -> Any:
            return value if asked == name else getattr(base.datamodule, asked)

    outcome = checked(dataclasses.replace(base, datamodule=Data()), "description")["description"]
    assert words in outcome.finding
    assert not outcome.passed


def test_what_the_floor_finds_in_the_network_fails_the_description(base, monkeypatch):
    import toy_floor

    def find(self, task, config):
        raise ValueError("the paint comes off")

    monkeypatch.setattr(toy_floor.ToySharing, "check", find)
    outcome = checked(base, "description")["description"]
    assert (outcome.passed, outcome.finding) == (False, "the paint comes off")


@pytest.mark.slow
def test_the_folder_loads_in_a_clean_process(base):
    outcomes = checked(dataclasses.replace(base, probe=probe_in_clean_process), "loading", "results")
    assert all(outcome.passed for outcome in outcomes.values()), outcomes


def test_the_copy_on_the_hub_is_the_one_that_is_checked(hub, base, model_folder, tmp_path):
    first = publish(model_folder, "me/model", private=False).revision
    copy = fetch_copy("me/model", tmp_path / "good", first)
    outcomes = validate(dataclasses.replace(base, copy=copy, private=False))
    assert all(outcome.passed for outcome in outcomes), outcomes
    assert first in outcomes[0].finding

    spoiled = dict(hub.repos["me/model"].files)
    spoiled["model.safetensors"] = spoiled["model.safetensors"][:-4] + b"\0\0\x80\x3f"
    hub.repos["me/model"].commit(spoiled)
    newest = dataclasses.replace(base, copy=fetch_copy("me/model", tmp_path / "bad"))
    assert not checked(newest, "checksums")["checksums"].passed
    again = dataclasses.replace(base, copy=fetch_copy("me/model", tmp_path / "again", first))
    assert checked(again, "checksums")["checksums"].passed


def test_visibility_and_the_hubs_own_checksums_are_checked(base):
    copy = Copy(base.folder, "me/model", "0" * 40, is_private=False, remote_hashes={"model.safetensors": "0" * 64})
    failed = checked(dataclasses.replace(base, copy=copy, private=True), "reachable", "checksums")
    assert "public, which was not asked for" in failed["reachable"].finding
    assert "not what the hub reports" in failed["checksums"].finding
    moving = dataclasses.replace(base, copy=dataclasses.replace(copy, revision="main"))
    assert "not a commit" in checked(moving, "reachable")["reachable"].finding
