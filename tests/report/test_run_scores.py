"""metrics.json: what is written is read again; damage is named."""

import json
import math
from pathlib import Path

import pytest

from hydraudio.report.run_scores import RunScores, read_run_scores, write_run_scores
from hydraudio.stats.intervals import Interval


def test_scores_come_back_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    scores = {
        "gain": Interval(2.0, 1.0, 3.0, 5),
        "loss": Interval(0.5, math.nan, math.nan, 0),
        "broken": Interval(math.nan, math.nan, math.nan, 5),
    }
    path = write_run_scores(tmp_path, RunScores("hearing", "val/gain", scores, {"Corpus": "woods"}))
    content = json.loads(path.read_text())
    assert content["scores"]["gain"] == {"value": 2.0, "low": 1.0, "high": 3.0, "n": 5}
    assert content["scores"]["loss"] == {"value": 0.5, "low": None, "high": None, "n": 0}
    found = read_run_scores(tmp_path)
    assert (found.task, found.monitor, found.information) == ("hearing", "val/gain", {"Corpus": "woods"})
    assert found.scores["gain"] == scores["gain"]
    assert math.isnan(found.scores["loss"].low)
    assert set(found.scores) == {"gain", "loss"}


def test_a_run_that_was_not_tested_has_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="test the run first"):
        read_run_scores(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"scores": [1]}', '{"task": "a", "monitor": "b", "scores": {"c": {}}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json is damaged"):
        read_run_scores(tmp_path)
