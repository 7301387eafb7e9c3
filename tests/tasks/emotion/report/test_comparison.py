"""Paired comparisons of models."""

import csv
import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hydraudio.report.classification import comparison
from hydraudio.tasks.emotion.report.predictions import EmotionTable

Make = Callable[..., EmotionTable]
write_comparison = functools.partial(comparison.write_comparison, kind=EmotionTable, resampled="speaker")


def silent() -> Console:
    return Console(file=io.StringIO(), width=120)


def test_paired_comparison_finds_the_better_model(make_predictions: Make, tmp_path: Path) -> None:
    good, poor = make_predictions(skill=2.5), make_predictions(skill=1.0, seed=2)
    console = silent()
    page = write_comparison({"good": good, "poor": poor}, tmp_path, n_bootstrap=200, console=console)
    with (tmp_path / "comparison.csv").open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"macro_f1", "uar", "accuracy", "ccc", "ccc_valence", "ccc_arousal"}
    for row in rows.values():
        assert float(row["difference_high"]) < 0
        assert float(row["p_holm"]) < 0.05
    assert "poor − good" in page.read_text()  # noqa: RUF001
    assert "Macro-F1" in console.file.getvalue()  # type: ignore[attr-defined]


def test_comparison_uses_common_items_and_common_heads(make_predictions: Make, tmp_path: Path) -> None:
    make_predictions(200).select(np.arange(150)).save(tmp_path / "a.npz")
    make_predictions(200, rated=False).select(np.arange(50, 200)[::-1]).save(tmp_path / "b.npz")
    files = {"a": tmp_path / "a.npz", "b": tmp_path / "b.npz"}
    page = write_comparison(files, tmp_path, n_bootstrap=50, console=silent()).read_text()
    assert "100 of every model; 100 others were left out" in page
    with (tmp_path / "comparison.csv").open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"macro_f1", "uar", "accuracy"}
    assert float(rows["macro_f1"]["difference"]) == 0
    assert float(rows["macro_f1"]["p_holm"]) == 1


def test_what_cannot_be_compared_is_refused(make_predictions: Make, tmp_path: Path) -> None:
    one = make_predictions(30)
    with pytest.raises(ValueError, match="at least two models"):
        write_comparison({"one": one}, tmp_path, console=silent())
    elsewhere = dataclasses.replace(one, ids=np.char.add("x", one.ids))
    with pytest.raises(ValueError, match="no item in common"):
        write_comparison({"one": one, "two": elsewhere}, tmp_path, console=silent())
    others = dataclasses.replace(one, class_names=("Angry", "Sad", "Fear", "Neutral"))
    with pytest.raises(ValueError, match="Fear"):
        write_comparison({"one": one, "two": others}, tmp_path, console=silent())
    relabelled = dataclasses.replace(one, labels=(one.labels + 1) % 4)
    with pytest.raises(ValueError, match="different labels"):
        write_comparison({"one": one, "two": relabelled}, tmp_path, console=silent())
