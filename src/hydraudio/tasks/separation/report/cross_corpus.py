"""Several models on several corpora: one table of means with intervals, as a page, a CSV file and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import get_console
from rich.console import Console
from rich.text import Text

from hydraudio.core.files import write_text
from hydraudio.report.charts import interval_chart
from hydraudio.report.page import Section, card, facts, grid, page, paragraph, table
from hydraudio.report.tables import (
    EN_DASH,
    Cell,
    Row,
    TableData,
    TableRow,
    floats,
    interval_cell,
    interval_columns,
    interval_entries,
    is_number,
    read_csv,
    rich_table,
    write_csv,
)
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.intervals import Interval, bootstrap_macro_mean
from hydraudio.tasks.separation.report.summaries import TEXT_COLUMNS

METRICS = {"si_sdri": "SI-SDR improvement / dB", "si_sdr": "SI-SDR / dB", "pesq": "PESQ", "stoi": "STOI"}
_DIGITS = {"si_sdri": 2, "si_sdr": 2, "pesq": 2, "stoi": 3}


@dataclass(frozen=True)
class CellSource:
    """A model on a corpus: the items.csv of the test, or the reason why there can be none."""

    model: str
    corpus: str
    items: Path | None = None
    reason: str = ""


@dataclass(frozen=True)
class MatrixCell:
    """Scores of a model on a corpus; without any, `reason` says why."""

    model: str
    corpus: str
    n_items: int
    scores: dict[str, Interval]
    reason: str = ""


def write_matrix(
    sources: Sequence[CellSource],
    output_dir: str | Path,
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Writes matrix.csv and index.html and prints the main table.

    A score is the mean of the variants' means, as in a report; degenerate items are left out, and intervals
    resample whole recordings.

    Args:
        sources: one for each pair of model and corpus.
        output_dir: gets the files.
        n_bootstrap: resamples of each 95 % interval.
        seed: of the bootstrap.
        console: where the table goes; None is standard output.

    Returns:
        Path of the page.
    """
    bootstrap, folder = Bootstrap(n_bootstrap, seed), Path(output_dir)
    cells = [score_cell(source, bootstrap) for source in sources]
    metrics = [name for name in METRICS if any(name in cell.scores for cell in cells)]
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["model", "corpus", "n_items", *interval_columns(metrics, with_n=True), "reason"]
    write_csv(folder / "matrix.csv", [_csv_row(cell) for cell in cells], columns)
    path = write_text(folder / "index.html", _page(cells, metrics, bootstrap))
    console = console or get_console()
    console.print(rich_table("SI-SDR improvement in dB, with 95 % intervals", matrix_table(cells, "si_sdri")))
    console.print(Text(f"Report: {path}"), soft_wrap=True)
    return path


def score_cell(source: CellSource, bootstrap: Bootstrap) -> MatrixCell:
    """Means over the items of a test."""
    if source.items is None:
        return MatrixCell(source.model, source.corpus, 0, {}, source.reason)
    everything = read_csv(source.items, TEXT_COLUMNS)
    if everything and "si_sdri" not in everything[0]:
        return MatrixCell(source.model, source.corpus, 0, {}, "not a separation network: no SI-SDR")
    rows = [row for row in everything if not row["degenerate"]]
    if not rows:
        return MatrixCell(source.model, source.corpus, 0, {}, "all items are degenerate")
    variants, ids = [str(row["variant"]) for row in rows], [str(row["id"]) for row in rows]
    scores = {
        name: bootstrap_macro_mean(floats(rows, name), variants, ids, **bootstrap.settings)
        for name in METRICS
        if any(is_number(row.get(name)) for row in rows)
    }
    return MatrixCell(source.model, source.corpus, len(rows), scores)


def matrix_table(cells: Sequence[MatrixCell], metric: str) -> TableData:
    """Models down, corpora across; in small print the interval and the number of items, or why there is no score."""
    by_place = {(cell.model, cell.corpus): cell for cell in cells}
    models, corpora = _models(cells), _corpora(cells)
    rows = [
        TableRow((Cell(model), *(_cell(by_place.get((model, corpus)), metric) for corpus in corpora)))
        for model in models
    ]
    return TableData(("Model", *corpora), tuple(rows))


def _cell(cell: MatrixCell | None, metric: str) -> Cell:
    if cell is None:
        return Cell(EN_DASH, "not tested")
    if metric not in cell.scores:
        return Cell(EN_DASH, cell.reason)
    scored = interval_cell(cell.scores[metric], _DIGITS[metric])
    return Cell(scored.text, f"{scored.note} (n {cell.scores[metric].n})".strip())


def _models(cells: Sequence[MatrixCell]) -> list[str]:
    return list(dict.fromkeys(cell.model for cell in cells))


def _corpora(cells: Sequence[MatrixCell]) -> list[str]:
    return list(dict.fromkeys(cell.corpus for cell in cells))


def _csv_row(cell: MatrixCell) -> Row:
    row: Row = {"model": cell.model, "corpus": cell.corpus, "n_items": cell.n_items, "reason": cell.reason}
    return row | interval_entries(cell.scores, with_n=True)


def _page(cells: Sequence[MatrixCell], metrics: Sequence[str], bootstrap: Bootstrap) -> str:
    sections = [Section(name, METRICS[name], _metric_section(cells, name)) for name in metrics]
    information = {
        "Models": ", ".join(_models(cells)),
        "Corpora": ", ".join(_corpora(cells)),
        "Scores": "mean of the variants' means; a corpus without variants has one",
        "Intervals": f"95 %, {bootstrap.n_bootstrap} bootstrap resamples of whole recordings, seed {bootstrap.seed}",
    }
    sections.append(Section("about", "What was tested", card(facts(information))))
    title = f"{len(_models(cells))} models on {len(_corpora(cells))} corpora"
    return page(title, " · ".join(_corpora(cells)), "", sections)


def _metric_section(cells: Sequence[MatrixCell], metric: str) -> str:
    explanation = paragraph("Small print: 95 % bootstrap interval and number of items, or why there is no score.")
    charts = []
    for corpus in _corpora(cells):
        scored = [cell for cell in cells if cell.corpus == corpus and metric in cell.scores]
        if scored:
            names, intervals = [cell.model for cell in scored], [cell.scores[metric] for cell in scored]
            charts.append(card(interval_chart(names, intervals, METRICS[metric], ()), corpus))
    return card(table(matrix_table(cells, metric)) + explanation) + grid(charts)
