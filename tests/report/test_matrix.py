"""The matrix of models and corpora: scores, intervals, reasons, in all three outputs."""

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from hydraudio.core.spec import Card, Metric, TaskSpec
from hydraudio.report.matrix import read_matrix, write_matrix
from hydraudio.report.run_scores import RunScores, write_run_scores
from hydraudio.stats.intervals import Interval

SPEC = TaskSpec(
    name="hearing",
    batch={},
    outputs={},
    metrics=(
        Metric("gain", "Gain", unit="dB", digits=2, main=True),
        Metric("error", "Error", better="lower", main=True),
        Metric("detail", "Detail"),
        Metric("missing", "Missing", main=True),
    ),
    agree=(),
    resampled="recording",
    blocks=(),
    card=Card("other", (), "", ""),
)


def run_folder(folder: Path, monitor: str = "val/gain", **scores: float) -> Path:
    folder.mkdir(parents=True)
    intervals = {name: Interval(value, value - 1, value + 1, 5) for name, value in scores.items()}
    write_run_scores(folder, RunScores("hearing", monitor, intervals))
    return folder


@pytest.fixture
def found(tmp_path):
    return {
        ("small", "one"): run_folder(tmp_path / "a", gain=2.0, error=0.3, detail=1.0),
        ("small", "two"): run_folder(tmp_path / "b", gain=3.0, error=0.4),
        ("<large>", "one"): "n_parts: data 1, model 2",
        ("<large>", "two"): run_folder(tmp_path / "c", gain=4.125),
    }


def test_metrics_are_the_main_ones_and_the_headline_comes_first(found, tmp_path):
    assert [metric.name for metric in read_matrix(found, SPEC).metrics] == ["gain", "error"]
    by_detail = {("m", "c"): run_folder(tmp_path / "d", "val/detail", gain=2.0, detail=1.0)}
    assert [metric.name for metric in read_matrix(by_detail, SPEC).metrics] == ["detail", "gain"]


def test_table_says_why_there_is_no_score(found):
    del found["<large>", "two"]
    matrix = read_matrix(found, SPEC)
    data = matrix.table(SPEC.metrics[0])
    assert data.columns == ("Model", "one", "two")
    texts = {row.cells[0].text: row.cells[1:] for row in data.rows}
    assert texts["<large>"][0].note == "n_parts: data 1, model 2"
    assert texts["<large>"][1].note == "not tested"
    assert texts["small"][1].note.endswith("(n 5)")


def test_all_outputs_hold_the_matrix(found, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    page = write_matrix(found, SPEC, tmp_path / "out", console=console).read_text()
    with (tmp_path / "out" / "matrix.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["corpus"]) for row in rows] == list(found)
    assert float(rows[1]["gain_low"]) < float(rows[1]["gain"]) < float(rows[1]["gain_high"])
    assert rows[2]["gain"] == ""
    assert rows[2]["reason"] == "n_parts: data 1, model 2"
    assert "4.12" in page
    assert "4.12" in console.file.getvalue()
    assert "n_parts: data 1, model 2" in page
    assert "&lt;large&gt;" in page
    assert "<large>" not in page


def test_a_test_without_scores_is_named(tmp_path):
    (cell,) = read_matrix({("m", "c"): run_folder(tmp_path / "e")}, SPEC).cells
    assert (dict(cell.scores), cell.reason) == ({}, "no item could be scored")
