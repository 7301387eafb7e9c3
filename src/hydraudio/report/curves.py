"""Learning curves from a run's metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hydraudio.report.charts import Series
from hydraudio.report.tables import floats, is_number, read_csv

_MAX_POINTS = 200
_MIN_BATCHES = 8  # averaged into a point of a metric that is logged by the batch


def learning_curves(metrics_csv: Path, metrics: Sequence[str]) -> dict[str, Series]:
    """Curves over the optimizer step of those metrics that were logged at least twice.

    A metric logged per step and per epoch appears by its epoch's mean (`x/loss` finds `x/loss_epoch`). One that is
    logged several times in an epoch is that of single batches: every point of it is the mean of equally many, the last
    one too. Long curves are averaged likewise.
    """
    rows = [row for row in read_csv(metrics_csv, growing=True) if is_number(row.get("step"))]
    curves = {}
    for metric in metrics:
        column = next((name for name in (f"{metric}_epoch", metric) if _points(rows, name)), metric)
        points = _points(rows, column)
        n_epochs = len({row.get("epoch") for row in rows if is_number(row.get(column))})
        n_points = len(points) if len(points) <= n_epochs else max(len(points) // _MIN_BATCHES, 2)
        if len(points) > 1:
            means = np.array([block.mean(axis=0) for block in np.array_split(points, min(n_points, _MAX_POINTS))])
            curves[metric] = Series(metric, means[:, 0].tolist(), means[:, 1].tolist())
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
