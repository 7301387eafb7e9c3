"""Scores over folds against numbers computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hydraudio.report.run_scores import RunScores, write_run_scores
from hydraudio.stats.intervals import Interval
from hydraudio.tasks.pretraining.folds import fold_rows, fold_table, read_folds

ACCURACIES = {1: 0.80, 2: 0.84, 3: 0.82, 4: 0.78, 5: 0.86}


def run(folder: Path, test_fold: int, accuracy: float, **data: Any) -> None:
    folder.mkdir(parents=True)
    config = {"data": {"test_fold": test_fold, "seed": test_fold, **data}, "model": {"layer_decay": 0.75}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    scores = {"accuracy": Interval(accuracy, 0.0, 1.0, 400), "nll": Interval(1.0, 0.0, 2.0, 400)}
    write_run_scores(folder, RunScores("pretraining", "val/accuracy", scores))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for fold, accuracy in ACCURACIES.items():
        run(tmp_path / str(fold - 1), fold, accuracy)
    return tmp_path


def test_mean_deviation_and_interval_are_those_computed_by_hand(runs):
    scores = read_folds([runs])
    assert scores["accuracy"] == {str(fold): value for fold, value in ACCURACIES.items()}
    row = next(row for row in fold_rows(scores) if row["metric"] == "accuracy")
    assert row["mean"] == pytest.approx(0.82)
    assert row["deviation"] == pytest.approx(0.0316228, abs=1e-6)  # root of (0 + .0004 + .0004 + .0016 + .0016) / 4
    half = 2.776445 * 0.0316228 / 5**0.5  # Student's t of 4 degrees of freedom at 97.5 %
    assert (row["low"], row["high"]) == (pytest.approx(0.82 - half, abs=1e-6), pytest.approx(0.82 + half, abs=1e-6))
    assert row["n"] == 5
    table = fold_table(scores)
    assert table.columns[3:] == ("Fold 1", "Fold 2", "Fold 3", "Fold 4", "Fold 5")
    shown = [cell.text for cell in table.rows[0].cells]
    assert shown == ["Accuracy", "0.820", "0.032", "0.800", "0.840", "0.820", "0.780", "0.860"]
    assert table.rows[0].cells[1].note == "0.781 … 0.859"


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path):
    run(tmp_path / "again", 3, 0.9)
    with pytest.raises(ValueError, match="both test fold 3"):
        read_folds([runs])
    run(tmp_path / "elsewhere" / "other", 3, 0.9, esc10=True)
    with pytest.raises(ValueError, match="differ in more than the test fold"):
        read_folds([runs / "0", tmp_path / "elsewhere"])
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        read_folds([tmp_path / "nowhere"])


def test_the_command_prints_the_table_and_writes_it(runs, tmp_path, capsys):
    import runpy

    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "pretraining" / "folds.py"))
    assert script["main"]([str(runs), "--metrics", "accuracy", "--output", str(tmp_path / "folds.csv")]) == 0
    printed = capsys.readouterr().out
    assert "0.820" in printed
    assert "log-likelihood" not in printed
    assert (tmp_path / "folds.csv").read_text().splitlines()[0].startswith("metric,mean,deviation,low,high,n,fold_1")
    assert script["main"]([str(tmp_path / "nowhere")]) == 1
