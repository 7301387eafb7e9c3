"""Scores over the folds of a corpus: mean, deviation and Student's interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import yaml

from hydraudio.report.run_scores import FILE, read_run_scores
from hydraudio.report.tables import Cell, Row, TableData, TableRow, interval_cell, number
from hydraudio.stats.intervals import t_interval
from hydraudio.tasks.pretraining.spec import SPEC

Scores = Mapping[str, Mapping[str, float]]
"""Name of a metric -> name of a fold -> value."""


def read_folds(folders: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Read the scores of runs that differ in their test fold.

    Args:
        folders: run folders, or folders of them.

    Raises:
        FileNotFoundError: there is no tested run.
        ValueError: runs test the same fold, or differ in their model or corpus.
    """
    given = list(folders)
    files = [path for folder in given for path in sorted(folder.rglob(FILE))]
    if not files:
        raise FileNotFoundError(f"no {FILE} lies in {', '.join(map(str, given))}; test the runs first")
    runs: dict[str, Path] = {}
    first: tuple[Path, object] | None = None
    scores: dict[str, dict[str, float]] = {}
    for file in files:
        config = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))
        data = dict(config["data"])
        fold = str(data.pop("test_fold", data.pop("fold", "whole")))
        settings = {"data": _without(data), "model": _without(config["model"])}
        if fold in runs:
            raise ValueError(f"{runs[fold]} and {file.parent} both test fold {fold}; give one run of each")
        if first is not None and first[1] != settings:
            raise ValueError(f"{first[0]} and {file.parent} differ in more than the test fold (see their config.yaml)")
        first, runs[fold] = first or (file.parent, settings), file.parent
        for name, interval in read_run_scores(file.parent).scores.items():
            scores.setdefault(name, {})[fold] = interval.mean
    return {name: dict(sorted(values.items())) for name, values in scores.items()}


def fold_table(scores: Scores) -> TableData:
    """Return a line per metric: every fold, mean with interval, deviation."""
    folds = list(dict.fromkeys(fold for values in scores.values() for fold in values))
    rows = []
    for name, values in scores.items():
        metric = SPEC.metric(name)
        digits = metric.digits if metric else 3
        cells = [Cell(number(values.get(fold), digits)) for fold in folds]
        mean, deviation = interval_cell(t_interval(list(values.values())), digits), Cell(number(_std(values), digits))
        rows.append(TableRow((Cell(metric.title if metric else name), mean, deviation, *cells)))
    return TableData(("", "Mean, 95 % interval", "Deviation", *(f"Fold {fold}" for fold in folds)), tuple(rows))


def fold_rows(scores: Scores) -> list[Row]:
    """Return the rows of a CSV file: a metric, its mean, deviation, interval, and the value of each fold."""
    rows: list[Row] = []
    for name, values in scores.items():
        interval = t_interval(list(values.values()))
        found = {"mean": interval.mean, "deviation": _std(values), "low": interval.low, "high": interval.high}
        rows.append({"metric": name, **found, "n": interval.n, **{f"fold_{k}": value for k, value in values.items()}})
    return rows


def _std(values: Mapping[str, float]) -> float:
    """Deviation with n - 1; NaN for fewer than two."""
    return float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else float("nan")


def _without(section: Mapping[str, object]) -> dict[str, object]:
    """A section without what may differ between runs that belong together."""
    return {key: value for key, value in section.items() if key != "seed"}
