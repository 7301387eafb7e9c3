"""Submission files of a test."""

import csv
from collections.abc import Callable
from pathlib import Path

from hydraudio.tasks.emotion.report.predictions import EmotionTable
from hydraudio.tasks.emotion.report.submission import write_submissions

Make = Callable[..., EmotionTable]


def test_submissions_need_letters_and_all_three_attributes(make_predictions: Make, tmp_path: Path) -> None:
    lines = write_submissions(tmp_path, make_predictions(30))
    assert lines[0] == "submission_task1.csv: 30 files"
    assert "does not predict dominance" in lines[1]
    with (tmp_path / "submission_task1.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["FileName", "EmoClass"]
    assert {letter for _, letter in rows[1:]} <= set("ASHN")
    assert not (tmp_path / "submission_task2.csv").exists()
