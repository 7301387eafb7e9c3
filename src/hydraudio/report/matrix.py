"""Several models on several corpora: a table per metric, as a page and a CSV file, and the headline in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import get_console
from rich.console import Console
from rich.text import Text

from hydraudio.core.spec import Metric, TaskSpec
from hydraudio.report.charts import Chart, interval_chart
from hydraudio.report.page import Section, render, write_page
from hydraudio.report.run_scores import read_run_scores
from hydraudio.report.tables import (
    EN_DASH,
    Cell,
    Row,
    TableData,
    TableRow,
    interval_cell,
    interval_entries,
    rich_table,
    write_csv,
)
from hydraudio.stats.intervals import Interval


@dataclass(frozen=True)
class MatrixCell:
    """Scores of a model on a corpus; without any, `reason` says why."""

    model: str
    corpus: str
    scores: Mapping[str, Interval]
    reason: str = ""


@dataclass(frozen=True)
class Matrix:
    """All cells, and the metrics that any of them has: the main ones, first the headline of the runs."""

    cells: Sequence[MatrixCell]
    metrics: Sequence[Metric]

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(cell.model for cell in self.cells))

    @property
    def corpora(self) -> list[str]:
        return list(dict.fromkeys(cell.corpus for cell in self.cells))

    def table(self, metric: Metric) -> TableData:
        """Models down, corpora across; in small print the interval and the number of items, or why there is none."""
        by_place = {(cell.model, cell.corpus): cell for cell in self.cells}
        rows = [
            TableRow((Cell(model), *(_cell(by_place.get((model, corpus)), metric) for corpus in self.corpora)))
            for model in self.models
        ]
        return TableData(("Model", *self.corpora), tuple(rows))

    def charts(self, metric: Metric) -> dict[str, Chart]:
        """By corpus the models that have a score of it."""
        found = {}
        for corpus in self.corpora:
            scored = [cell for cell in self.cells if cell.corpus == corpus and metric.name in cell.scores]
            if scored:
                intervals = [cell.scores[metric.name] for cell in scored]
                found[corpus] = interval_chart([cell.model for cell in scored], intervals, metric.title)
        return found


def write_matrix(
    found: Mapping[tuple[str, str], Path | str], spec: TaskSpec, output_dir: Path, *, console: Console | None = None
) -> Path:
    """Write matrix.csv and index.html and print the table of the headline.

    Args:
        found: by (model, corpus) the run folder of the test, or the reason why there is none.
        spec: of the task of all models.
        output_dir: gets the files.
        console: where the table goes; None is standard output.

    Returns:
        Path of the page.
    """
    matrix = read_matrix(found, spec)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_csv(output_dir / "matrix.csv", [_csv_row(cell, matrix.metrics) for cell in matrix.cells])
    path = _write_page(output_dir / "index.html", matrix, spec)
    console = console or get_console()
    for metric in matrix.metrics[:1]:
        console.print(rich_table(f"{metric.title}, with 95 % intervals", matrix.table(metric)))
    console.print(Text(f"Report: {path}"), soft_wrap=True)
    return path


def read_matrix(found: Mapping[tuple[str, str], Path | str], spec: TaskSpec) -> Matrix:
    """Return the scores of all pairs; arguments as in :func:`write_matrix`."""
    tested = {pair: read_run_scores(place) for pair, place in found.items() if isinstance(place, Path)}
    cells = []
    for pair, place in found.items():
        scores = tested[pair].scores if pair in tested else {}
        cells.append(
            MatrixCell(*pair, scores, "" if scores else "no item could be scored" if pair in tested else str(place))
        )
    headlines = [spec.metric(each.monitor) for each in tested.values()]
    order = [
        metric for metric in (*headlines, *spec.metrics) if metric is not None and (metric.main or metric in headlines)
    ]
    there = {name for cell in cells for name in cell.scores}
    return Matrix(cells, [metric for metric in dict.fromkeys(order) if metric.name in there])


def _cell(cell: MatrixCell | None, metric: Metric) -> Cell:
    if cell is None:
        return Cell(EN_DASH, "not tested")
    if metric.name not in cell.scores:
        return Cell(EN_DASH, cell.reason)
    scored = interval_cell(cell.scores[metric.name], metric.digits)
    return Cell(scored.text, f"{scored.note} (n {cell.scores[metric.name].n})".strip())


def _csv_row(cell: MatrixCell, metrics: Sequence[Metric]) -> Row:
    scores = {metric.name: cell.scores[metric.name] for metric in metrics if metric.name in cell.scores}
    return {"model": cell.model, "corpus": cell.corpus, "reason": cell.reason, **interval_entries(scores, with_n=True)}


def _write_page(path: Path, matrix: Matrix, spec: TaskSpec) -> Path:
    sections = [Section(m.name, m.title, render("matrix.html", "part", matrix, m)) for m in matrix.metrics]
    information = {
        "Models": ", ".join(matrix.models),
        "Corpora": ", ".join(matrix.corpora),
        "Scores": "as in the report of each pair",
        "Intervals": f"95 %, bootstrap resamples of whole {spec.resampled}s",
    }
    sections.append(Section("about", "What was tested", render("matrix.html", "about", information)))
    title = f"{len(matrix.models)} models on {len(matrix.corpora)} corpora"
    return write_page(path, title, " · ".join(matrix.corpora), sections)
