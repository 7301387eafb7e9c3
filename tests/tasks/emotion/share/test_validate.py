"""Validation of emotion networks: what only their checks can notice."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tampering import assert_is_honest, assert_is_noticed, checked, edit, probe_here, replace_text, scale

from hydraudio.share.validate import Copy, Validation
from hydraudio.trained import restore_data

WEIGHT = "net.category.output.weight"


@pytest.fixture(scope="session")
def base(trained, model_folder, compose_eval) -> Validation:
    datamodule = restore_data(compose_eval(), trained.config, trained.path)
    return Validation(Copy(model_folder, "model"), model_folder, trained, datamodule, n_items=8, probe=probe_here)


def test_an_honest_copy_passes_every_check(base):
    assert_is_honest(base, "macro_f1")


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (scale(WEIGHT, 1 + 1e-7), "checksums", "SHA-256"),
        (replace_text("README.md", "value: 0.", "value: 1."), "card", "eval_results"),
        (scale(WEIGHT, 1.01), "results", "differs by"),
        (scale(WEIGHT, -1.0), "metric", "differs in"),
        (edit("config.json", lambda c: c["id2label"].update({"0": "Sad", "1": "Angry"})), "description", "id2label"),
        (edit("config.json", lambda c: c["frames"].update(strides=[5] * 7)), "description", "frames"),
        (edit("config.json", lambda c: c.update(sample_rate=8000)), "description", "sample_rate"),
        (edit("config.json", lambda c: c["normalization"].update(std=1.0)), "description", "normalization"),
    ],
)
def test_each_check_notices_its_change(base, tmp_path, change, check, words):
    assert_is_noticed(base, change, tmp_path / "copy", check, words)


def test_the_agreement_with_the_data_is_checked_beside_that_with_the_checkpoint(base):
    class Data:
        class_names = list(reversed(base.datamodule.class_names))

        def __getattr__(self, name: str) -> Any:
            return getattr(base.datamodule, name)

    outcome = checked(dataclasses.replace(base, datamodule=Data()), "description")["description"]
    assert "class_names" in outcome.finding
    assert not outcome.passed
