"""Several models on the same items: scores side by side and paired differences, as a page, a CSV file and tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import get_console
from rich.console import Console
from rich.text import Text

from hydraudio.report.charts import Chart, interval_chart
from hydraudio.report.page import Section, render, write_page
from hydraudio.report.tables import (
    MINUS,
    Cell,
    Row,
    TableData,
    TableRow,
    count,
    interval_cell,
    interval_entries,
    is_number,
    number,
    p_value_cell,
    rich_table,
    write_csv,
)
from hydraudio.stats.intervals import Interval, holm

Tested = tuple[tuple[float, float], Interval, float]
"""Scores of two models, the difference second minus first, and the p-value of "no difference"."""


@dataclass(frozen=True)
class Pair:
    """Two models on the same items; `difference` is second minus first."""

    first: str
    second: str
    scores: tuple[float, float]
    difference: Interval
    p_value: float
    p_holm: float

    @property
    def title(self) -> str:
        return f"{self.second} {MINUS} {self.first}"


@dataclass(frozen=True)
class Line:
    """One metric on one part of the items.

    Attributes:
        label: of the row.
        metric: its name.
        scope: name of the part; empty for all items.
        n_items: of the part.
        digits: after the decimal point.
        better: which of two values is better.
        scores: of every model; None where it has none.
        pairs: of models; empty where the metric is not tested.
        is_total: sums up the lines above.
    """

    label: str
    metric: str
    scope: str
    n_items: int
    digits: int
    better: str
    scores: Sequence[Interval | None]
    pairs: Sequence[Pair]
    is_total: bool = False


@dataclass(frozen=True)
class Comparison:
    """What there is to say about some models.

    Attributes:
        models: their names.
        sections: title -> lines that belong together, the most important first.
        information: names and values of what was compared.
        scores_note: how to read the scores.
        pairs_note: how to read the differences.
    """

    models: Sequence[str]
    sections: Mapping[str, Sequence[Line]]
    information: Mapping[str, str]
    scores_note: str
    pairs_note: str

    def scores_table(self, title: str) -> TableData:
        """Lines down, models across; the best of each line has a star."""
        rows = []
        for line in self.sections[title]:
            cells = [interval_cell(i, line.digits) if i else Cell(number(None)) for i in line.scores]
            best = _best(line)
            starred = [Cell(f"{c.text} ★", c.note) if k == best else c for k, c in enumerate(cells)]
            first = (Cell(line.label), Cell(count(line.n_items)))
            rows.append(TableRow((*first, *starred), "total" if line.is_total else ""))
        return TableData(("", "Items", *self.models), tuple(rows))

    def pairs_table(self, title: str) -> TableData:
        """One row per pair and line."""
        rows = []
        for first, second in itertools.combinations(self.models, 2):
            for line, pair in self.pairs(title, first, second):
                cells = interval_cell(pair.difference, line.digits), p_value_cell(pair.p_holm)
                row = (Cell(pair.title, line.label), Cell(count(pair.difference.n)), *cells)
                rows.append(TableRow(row, "total" if line.is_total else ""))
        return TableData(("Pair", "Items", "Difference", "p (Holm)"), tuple(rows))

    def charts(self, title: str) -> dict[str, Chart]:
        """By pair of models its differences."""
        found = {}
        for first, second in itertools.combinations(self.models, 2):
            pairs = self.pairs(title, first, second)
            if pairs:
                labels, intervals = [line.label for line, _ in pairs], [pair.difference for _, pair in pairs]
                totals = [line.label for line, _ in pairs if line.is_total]
                found[pairs[0][1].title] = interval_chart(labels, intervals, "difference", totals)
        return found

    def pairs(self, title: str, first: str, second: str) -> list[tuple[Line, Pair]]:
        """Every tested line of a section with what two models have in it."""
        lines = self.sections[title]
        return [(line, p) for line in lines for p in line.pairs if (p.first, p.second) == (first, second)]


def check_models(models: Sequence[str]) -> None:
    """Refuse to compare fewer than two."""
    if len(models) < 2:
        raise ValueError(f"a comparison needs at least two models, got {list(models)}")


def tested_pairs(models: Sequence[str], test: Callable[[str, str], Tested | None]) -> list[Pair]:
    """Every pair of models for which `test` gives something, with Holm's correction over all of them."""
    found = {pair: test(*pair) for pair in itertools.combinations(models, 2)}
    tested = {pair: result for pair, result in found.items() if result is not None}
    corrected = holm([p_value for *_, p_value in tested.values()])
    return [
        Pair(first, second, scores, difference, p_value, float(p_holm))
        for ((first, second), (scores, difference, p_value)), p_holm in zip(tested.items(), corrected, strict=True)
    ]


def write_comparison(comparison: Comparison, output_dir: str | Path, console: Console | None = None) -> Path:
    """Write comparison.csv and index.html and print the tables of the first section.

    Args:
        comparison: what to write.
        output_dir: gets the files.
        console: where the tables go; None is standard output.

    Returns:
        Path of the page.
    """
    folder, first = Path(output_dir), next(iter(comparison.sections))
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_csv_row(line, pair) for lines in comparison.sections.values() for line in lines for pair in line.pairs]
    write_csv(folder / "comparison.csv", rows)
    sections = [
        Section(f"part-{k}", title, render("comparison.html", "part", comparison, title))
        for k, title in enumerate(comparison.sections)
    ]
    about = Section("about", "What was compared", render("comparison.html", "about", comparison))
    title = f"Comparison of {len(comparison.models)} models"
    path = write_page(folder / "index.html", title, " · ".join(comparison.models), [*sections, about])
    console = console or get_console()
    console.print(rich_table(f"{first}, with 95 % intervals", comparison.scores_table(first)))
    console.print(rich_table("Paired differences", comparison.pairs_table(first)))
    console.print(Text(f"Report: {path}"), soft_wrap=True)
    return path


def _best(line: Line) -> int | None:
    values = [i.mean if i else math.nan for i in line.scores]
    numbers = [value for value in values if is_number(value)]
    if len(numbers) < 2:
        return None
    return values.index(min(numbers) if line.better == "lower" else max(numbers))


def _csv_row(line: Line, pair: Pair) -> Row:
    return {
        "metric": line.metric,
        "scope": line.scope,
        "model_a": pair.first,
        "model_b": pair.second,
        "n_items": pair.difference.n,
        "score_a": pair.scores[0],
        "score_b": pair.scores[1],
        **interval_entries({"difference": pair.difference}),
        "p_value": pair.p_value,
        "p_holm": pair.p_holm,
    }
