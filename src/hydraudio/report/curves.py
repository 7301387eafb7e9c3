"""Learning curves from the CSV file that Lightning's CSVLogger writes, and their charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydraudio.report.charts import Series, line_chart
from hydraudio.report.page import card
from hydraudio.report.tables import is_number, read_csv


def learning_curves(metrics_csv: Path, metrics: Sequence[str], max_points: int = 400) -> dict[str, Series]:
    """Curves over the optimizer step of those metrics that were logged at least twice.

    A metric logged per step and per epoch appears by its epoch's mean (`x/loss` finds `x/loss_epoch`). Longer
    curves are averaged over equal stretches down to max_points.
    """
    rows = [row for row in read_csv(metrics_csv, growing=True) if is_number(row.get("step"))]
    curves = {}
    for metric in metrics:
        column = next((name for name in (f"{metric}_epoch", metric) if _points(rows, name)), metric)
        points = _points(rows, column)
        if len(points) > 1:
            curves[metric] = _thinned(metric, points, max_points)
    return curves


def curves_of_runs(runs: Sequence[Path], charts: Mapping[str, Sequence[str]]) -> dict[str, Series]:
    """Curves of the metrics of the charts, from the first of the run folders that has some."""
    metrics = [metric for group in charts.values() for metric in group]
    for run in runs:
        path = run / "metrics.csv"
        curves = learning_curves(path, metrics) if path.is_file() else {}
        if curves:
            return curves
    return {}


def curve_cards(curves: Mapping[str, Series], charts: Mapping[str, Sequence[str]]) -> list[str]:
    """One card for each chart (title with its metrics) that has a curve."""
    cards = []
    for title, metrics in charts.items():
        found = [curves[metric] for metric in metrics if metric in curves]
        if found:
            cards.append(card(line_chart(found, "optimizer step", title), title))
    return cards


def _points(rows: Sequence[dict[str, object]], column: str) -> list[tuple[float, float]]:
    return sorted((row["step"], row[column]) for row in rows if is_number(row.get(column)))  # type: ignore[misc]


def _thinned(name: str, points: list[tuple[float, float]], max_points: int) -> Series:
    stride = -(-len(points) // max_points)
    blocks = [points[start : start + stride] for start in range(0, len(points), stride)]
    means = [tuple(sum(axis) / len(block) for axis in zip(*block, strict=True)) for block in blocks]
    return Series(name, [x for x, _ in means], [y for _, y in means])
