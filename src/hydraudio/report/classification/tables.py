"""Tables of a report of classes, for terminal and page, and its machine-readable summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydraudio.report.classification.predictions import PredictionTable
from hydraudio.report.classification.scores import METRICS, Scores, convention
from hydraudio.report.run_scores import finite, interval_entry
from hydraudio.report.slices import Slice
from hydraudio.report.tables import Cell, Row, TableData, TableRow, count, interval_cell, number
from hydraudio.stats.clustered import OF_MOMENTS

DIGITS = 3
SHORT = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Accuracy", "nll": "NLL", "ccc": "CCC"}


def score_table(scores: Scores, heading: str) -> TableData:
    """Return one line per score of the classes."""
    found = [(title, scores.intervals[m]) for m, title in METRICS.items() if m in scores.intervals]
    rows = [TableRow((Cell(title), interval_cell(i, DIGITS), Cell(count(i.n)))) for title, i in found]
    return TableData((heading, "Score", "Items"), tuple(rows))


def class_table(scores: Scores, names: Sequence[str]) -> TableData:
    """Precision, recall and F1 of each class."""
    rows = []
    for k, name in enumerate(names):
        recall, f1 = (interval_cell(scores.intervals[f"{metric}/{name}"], DIGITS) for metric in ("recall", "f1"))
        precision = Cell(number(float(scores.per_class["precision"][k]), DIGITS))
        rows.append(TableRow((Cell(name), precision, recall, f1, Cell(count(int(scores.per_class["support"][k]))))))
    means = [scores.intervals["uar"], scores.intervals["macro_f1"]]
    precision = Cell(number(float(scores.per_class["precision"].mean()), DIGITS))
    cells = (Cell("mean of classes"), precision, *(interval_cell(i, DIGITS) for i in means), Cell(count(means[0].n)))
    return TableData(("Class", "Precision", "Recall", "F1", "Items"), (*rows, TableRow(cells, "total")))


def group_table(scores: Scores) -> TableData:
    """Head, middle and tail."""
    rows = [
        TableRow(
            (
                Cell(group, ", ".join(found["classes"]) or "no class"),
                *(Cell(number(found[metric], DIGITS)) for metric in ("accuracy", "recall", "f1")),
                Cell(count(found["n"])),
            )
        )
        for group, found in scores.groups.items()
    ]
    return TableData(("Classes", "Accuracy\npooled", "Recall\nmean", "F1\nmean", "Items"), tuple(rows))


def metric_title(metric: str) -> str:
    """Return the name of a metric for people."""
    kind, _, rest = metric.partition("/")
    if rest:
        return f"{kind.capitalize() if kind != 'f1' else 'F1'} of {rest}"
    head, _, attribute = metric.partition("_")
    if metric not in SHORT and head in OF_MOMENTS:
        return f"{SHORT.get(head, head)}\n{attribute}"
    return SHORT.get(metric, METRICS.get(metric, metric))


def summary_rows(scores: Scores) -> list[Row]:
    """Return the rows of summary.csv: every score with its interval."""
    rows: list[Row] = [{"metric": name, **interval_entry(i)} for name, i in scores.intervals.items()]
    for group, found in scores.groups.items():
        rows += [{"metric": f"{group}/{m}", "value": found[m], "n": found["n"]} for m in ("accuracy", "recall", "f1")]
    return rows


def confusion_rows(scores: Scores, names: Sequence[str]) -> list[Row]:
    """Return the rows of confusion.csv: counts, then shares of the true class."""
    rows: list[Row] = []
    for true, counts in zip(names, scores.per_class["confusion"], strict=True):
        pairs = list(zip(names, counts.tolist(), strict=True))
        n_items = int(counts.sum())
        shares = {f"share_{name}": n / n_items if n_items else math.nan for name, n in pairs}
        rows.append({"true": true, **{f"n_{name}": n for name, n in pairs}, **shares})
    return rows


def summary(
    predictions: PredictionTable, scores: Scores, found: Sequence[Slice], information: Mapping[str, str]
) -> dict[str, Any]:
    """Say what details.json holds; null stands for what has no number."""
    names = predictions.class_names
    per_class = {
        name: {metric: float(scores.per_class[metric][k]) for metric in ("precision", "recall", "f1", "support")}
        for k, name in enumerate(names if scores.per_class else ())
    }
    content = {
        "kind": "classification",
        "information": dict(information),
        "convention": convention(predictions),
        "class_names": list(names),
        "n_items": scores.n_items,
        "n_labelled": scores.n_labelled,
        "n_clusters": scores.n_clusters,
        "scores": {name: interval_entry(i) for name, i in scores.intervals.items()},
        "classes": per_class,
        "confusion": scores.per_class["confusion"].tolist() if scores.per_class else [],
        "groups": {group: dict(values) for group, values in scores.groups.items()},
        "temperature": scores.calibration.temperature if scores.calibration else None,
        "slices": [
            {
                "slice": s.name,
                "value": s.value,
                "n": s.n_items,
                "suppressed": s.suppressed,
                "scores": {name: interval_entry(i) for name, i in s.scores.items()},
            }
            for s in found
        ],
    }
    return finite(content)
