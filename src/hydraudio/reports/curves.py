"""Learning curves from the CSV file that Lightning's CSVLogger writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydraudio.reports.charts import Series
from hydraudio.reports.tables import is_number, read_csv


def learning_curves(metrics_csv: Path, metrics: Sequence[str], max_points: int = 400) -> dict[str, Series]:
    """Curves over the optimizer step of those metrics that were logged at least twice.

    A metric logged per step and per epoch appears by its epoch's mean (`x/loss` finds `x/loss_epoch`). Longer
    curves are averaged over equal stretches down to max_points.
    """
    rows = [row for row in read_csv(metrics_csv) if is_number(row.get("step"))]
    curves = {}
    for metric in metrics:
        column = next((name for name in (f"{metric}_epoch", metric) if _points(rows, name)), metric)
        points = _points(rows, column)
        if len(points) > 1:
            curves[metric] = _thinned(metric, points, max_points)
    return curves


def _points(rows: Sequence[dict[str, object]], column: str) -> list[tuple[float, float]]:
    return sorted((row["step"], row[column]) for row in rows if is_number(row.get(column)))  # type: ignore[misc]


def _thinned(name: str, points: list[tuple[float, float]], max_points: int) -> Series:
    stride = -(-len(points) // max_points)
    blocks = [points[start : start + stride] for start in range(0, len(points), stride)]
    means = [tuple(sum(axis) / len(block) for axis in zip(*block, strict=True)) for block in blocks]
    return Series(name, [x for x, _ in means], [y for _, y in means])
