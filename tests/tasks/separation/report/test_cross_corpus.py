"""The matrix of models and corpora: means, intervals, reasons, in all three outputs."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hydraudio.report.tables import write_csv
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.intervals import bootstrap_macro_mean
from hydraudio.tasks.separation.report.cross_corpus import CellSource, matrix_table, score_cell, write_matrix

COLUMNS = ("id", "variant", "degenerate", "si_sdr", "si_sdri", "pesq")


def items(folder: Path, name: str, variants: dict[str, int], shift: float) -> Path:
    """Items of several variants whose improvements are known."""
    rng = np.random.default_rng(len(name))
    rows = []
    for mean, (variant, count) in enumerate(variants.items()):
        for number in range(count):
            si_sdri = float(shift + 10 * mean + rng.normal())
            scores = {"si_sdr": si_sdri - 5, "si_sdri": si_sdri, "pesq": float("nan") if number else 2.0}
            rows.append({"id": f"{number}.wav", "variant": variant, "degenerate": False, **scores})
    rows.append({"id": "x", "variant": "C", "degenerate": True, "si_sdr": 99.0, "si_sdri": 99.0})
    return write_csv(folder / f"{name}.csv", rows, COLUMNS)


@pytest.fixture
def sources(tmp_path):
    return [
        CellSource("small", "one", items(tmp_path, "a", {"SER": 8, "SE": 2}, 0.0)),
        CellSource("small", "two", items(tmp_path, "bb", {"mix_clean": 5}, 3.0)),
        CellSource("<large>", "one", reason="n_sources: data 1, model 2"),
        CellSource("<large>", "two", items(tmp_path, "cccc", {"mix_clean": 6}, 4.0)),
    ]


def test_a_score_is_the_mean_of_the_variants_means(sources):
    cell = score_cell(sources[0], Bootstrap(200, 3))
    with sources[0].items.open() as file:
        rows = [row for row in csv.DictReader(file) if row["degenerate"] == "False"]
    by_variant = [[float(row["si_sdri"]) for row in rows if row["variant"] == name] for name in ("SER", "SE")]
    assert cell.n_items == 10
    assert cell.scores["si_sdri"].mean == pytest.approx(np.mean([np.mean(values) for values in by_variant]))
    values, variants = [float(row["si_sdri"]) for row in rows], [row["variant"] for row in rows]
    expected = bootstrap_macro_mean(values, variants, [row["id"] for row in rows], n_bootstrap=200, seed=3)
    assert cell.scores["si_sdri"] == expected
    assert cell.scores["pesq"].n == 2


def test_table_says_why_there_is_no_score(sources):
    cells = [score_cell(source, Bootstrap(50)) for source in sources[:3]]
    data = matrix_table(cells, "si_sdri")
    assert data.columns == ("Model", "one", "two")
    texts = {row.cells[0].text: row.cells[1:] for row in data.rows}
    assert texts["<large>"][0].note == "n_sources: data 1, model 2"
    assert texts["<large>"][1].note == "not tested"
    assert texts["small"][1].note.endswith("(n 5)")


def test_all_outputs_hold_the_matrix(sources, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    page = write_matrix(sources, tmp_path / "out", n_bootstrap=50, console=console).read_text()
    with (tmp_path / "out" / "matrix.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["corpus"]) for row in rows] == [(source.model, source.corpus) for source in sources]
    assert float(rows[1]["si_sdri_low"]) < float(rows[1]["si_sdri"]) < float(rows[1]["si_sdri_high"])
    assert rows[2]["si_sdri"] == ""
    assert rows[2]["reason"] == "n_sources: data 1, model 2"
    shown = f"{float(rows[3]['si_sdri']):.2f}"
    assert shown in page
    assert shown in console.file.getvalue()
    assert "n_sources: data 1, model 2" in page
    assert "&lt;large&gt;" in page
    assert "<large>" not in page


def test_corpus_of_degenerate_items_only(tmp_path):
    row = {"id": "x", "variant": "C", "degenerate": True, "si_sdr": 99.0, "si_sdri": 99.0}
    cell = score_cell(CellSource("m", "c", write_csv(tmp_path / "items.csv", [row], COLUMNS)), Bootstrap(10))
    assert (cell.n_items, cell.scores, cell.reason) == (0, {}, "all items are degenerate")


def test_network_of_another_task_is_named_not_scored(tmp_path):
    path = write_csv(tmp_path / "items.csv", [{"id": "x", "prediction": "Happy"}], ("id", "prediction"))
    cell = score_cell(CellSource("recogniser", "Podcast", path), Bootstrap(10, 0))
    assert (cell.scores, cell.reason) == ({}, "not a separation network: no SI-SDR")
