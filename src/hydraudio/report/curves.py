"""Learning curves from a run's metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydraudio.report.charts import Series
from hydraudio.report.tables import floats, is_number, read_csv


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


def curves_of_runs(runs: Sequence[Path], charts: Mapping[str, Sequence[str]]) -> dict[str, list[Series]]:
    """Title of each chart that has a curve, with its curves, from the first of the run folders that has some.

    Args:
        runs: folders with ``metrics.csv``.
        charts: title -> the metrics in it.
    """
    metrics = [metric for group in charts.values() for metric in group]
    for path in (run / "metrics.csv" for run in runs):
        curves = learning_curves(path, metrics) if path.is_file() else {}
        if curves:
            found = {title: [curves[name] for name in group if name in curves] for title, group in charts.items()}
            return {title: group for title, group in found.items() if group}
    return {}


def _points(rows: Sequence[dict[str, object]], column: str) -> list[tuple[float, float]]:
    steps, values = floats(rows, "step"), floats(rows, column)
    return sorted(point for point in zip(steps, values, strict=True) if math.isfinite(point[1]))


def _thinned(name: str, points: list[tuple[float, float]], max_points: int) -> Series:
    stride = -(-len(points) // max_points)
    blocks = [points[start : start + stride] for start in range(0, len(points), stride)]
    means = [tuple(sum(axis) / len(block) for axis in zip(*block, strict=True)) for block in blocks]
    return Series(name, [x for x, _ in means], [y for _, y in means])
