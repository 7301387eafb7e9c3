"""Tables of an emotion report, for terminal and page, and its machine-readable summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydraudio.report.run_scores import finite, interval_entry
from hydraudio.report.slices import Slice
from hydraudio.report.tables import Cell, Row, TableData, TableRow, count, interval_cell, number
from hydraudio.tasks.emotion.report.predictions import PredictionTable
from hydraudio.tasks.emotion.report.scores import ATTRIBUTE_METRICS, CATEGORY_METRICS, Scores
from hydraudio.tasks.emotion.report.slices import PERCENTILES, Gap, SpeakerSpread

DIGITS = 3
_SHORT = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Accuracy", "nll": "NLL", "ccc": "CCC"}


def category_table(scores: Scores) -> TableData:
    """Return one line per score of the categories."""
    found = [(title, scores.intervals[m]) for m, title in CATEGORY_METRICS.items() if m in scores.intervals]
    rows = [TableRow((Cell(title), interval_cell(i, DIGITS), Cell(count(i.n)))) for title, i in found]
    return TableData(("Categories", "Score", "Items"), tuple(rows))


def attribute_table(scores: Scores, names: Sequence[str]) -> TableData:
    """Return one line per attribute and one for their mean."""
    rows = []
    for name in (*names, ""):
        cells = [scores.intervals[f"{metric}_{name}" if name else metric] for metric in ATTRIBUTE_METRICS]
        label = Cell(name.capitalize() if name else "Mean")
        shown = tuple(interval_cell(cell, DIGITS) for cell in cells)
        rows.append(TableRow((label, *shown, Cell(count(cells[0].n))), "" if name else "total"))
    return TableData(("Attribute", *ATTRIBUTE_METRICS.values(), "Items"), tuple(rows))


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


def gap_table(gaps: Sequence[Gap]) -> TableData:
    """Women and men side by side."""
    rows = []
    for gap in gaps:
        label = Cell(metric_title(gap.metric), gap.suppressed)
        sides = (Cell(number(value, DIGITS)) for value in (gap.female, gap.male))
        cells = (label, *sides, interval_cell(gap.difference, DIGITS), Cell(number(gap.ratio, 2)))
        rows.append(TableRow(cells))
    return TableData(("Score", "Female", "Male", "Difference", "Ratio"), tuple(rows))


def spread_table(spread: SpeakerSpread) -> TableData:
    """Percentiles over speakers."""
    rows = [
        TableRow((Cell(_SHORT[metric]), *(Cell(number(value, DIGITS)) for value in values)))
        for metric, values in spread.percentiles.items()
    ]
    return TableData(("Score", *(f"{p}th percentile" for p in PERCENTILES)), tuple(rows))


def speaker_table(spread: SpeakerSpread, n_rows: int) -> TableData:
    """Return the speakers with the lowest scores."""
    metrics = list(spread.percentiles)
    rows = [
        TableRow(
            (
                Cell(str(row["speaker"]), str(row["gender"])),
                Cell(str(row["n"])),
                *(Cell(number(row[metric], DIGITS)) for metric in metrics),
            )
        )
        for row in spread.rows[:n_rows]
    ]
    return TableData(("Speaker", "Items", *(_SHORT[metric] for metric in metrics)), tuple(rows))


def metric_title(metric: str) -> str:
    """Return the name of a metric for people."""
    kind, _, rest = metric.partition("/")
    if rest:
        return f"{kind.capitalize() if kind != 'f1' else 'F1'} of {rest}"
    head, _, attribute = metric.partition("_")
    if metric not in _SHORT and head in ATTRIBUTE_METRICS:
        return f"{_SHORT.get(head, head)}\n{attribute}"
    return _SHORT.get(metric, CATEGORY_METRICS.get(metric, metric))


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
    predictions: PredictionTable,
    scores: Scores,
    found: Sequence[Slice],
    gaps: Sequence[Gap],
    information: Mapping[str, str],
    convention: str,
) -> dict[str, Any]:
    """Say what details.json holds; null stands for what has no number."""
    names = predictions.class_names
    per_class = {
        name: {metric: float(scores.per_class[metric][k]) for metric in ("precision", "recall", "f1", "support")}
        for k, name in enumerate(names if scores.per_class else ())
    }
    content = {
        "kind": "emotion",
        "information": dict(information),
        "convention": convention,
        "class_names": list(names),
        "class_letters": list(predictions.class_letters),
        "attribute_names": list(predictions.attribute_names),
        "n_items": scores.n_items,
        "n_labelled": scores.n_labelled,
        "n_rated": scores.n_rated,
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
        "gender_gaps": {
            g.metric: {
                "female": g.female,
                "male": g.male,
                **interval_entry(g.difference),
                "ratio": g.ratio,
                "suppressed": g.suppressed,
            }
            for g in gaps
        },
    }
    return finite(content)
