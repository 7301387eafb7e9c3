"""Tables of an emotion report beside those of its categories, for terminal and page, and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydraudio.report.classification import tables
from hydraudio.report.classification.scores import Scores
from hydraudio.report.classification.tables import DIGITS, SHORT, metric_title
from hydraudio.report.run_scores import finite, interval_entry
from hydraudio.report.slices import Slice
from hydraudio.report.tables import Cell, TableData, TableRow, count, interval_cell, number
from hydraudio.tasks.emotion.report.predictions import EmotionTable
from hydraudio.tasks.emotion.report.slices import PERCENTILES, Gap, SpeakerSpread

ATTRIBUTE_METRICS = {"ccc": "CCC", "pearson": "Pearson", "rmse": "RMSE, scale 1 to 7"}


def attribute_table(scores: Scores, names: Sequence[str]) -> TableData:
    """Return one line per attribute and one for their mean."""
    rows = []
    for name in (*names, ""):
        cells = [scores.intervals[f"{metric}_{name}" if name else metric] for metric in ATTRIBUTE_METRICS]
        label = Cell(name.capitalize() if name else "Mean")
        shown = tuple(interval_cell(cell, DIGITS) for cell in cells)
        rows.append(TableRow((label, *shown, Cell(count(cells[0].n))), "" if name else "total"))
    return TableData(("Attribute", *ATTRIBUTE_METRICS.values(), "Items"), tuple(rows))


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
        TableRow((Cell(SHORT[metric]), *(Cell(number(value, DIGITS)) for value in values)))
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
    return TableData(("Speaker", "Items", *(SHORT[metric] for metric in metrics)), tuple(rows))


def summary(
    predictions: EmotionTable,
    scores: Scores,
    found: Sequence[Slice],
    gaps: Sequence[Gap],
    information: Mapping[str, str],
) -> dict[str, Any]:
    """Say what details.json holds; null stands for what has no number."""
    content = {
        "kind": "emotion",
        "class_letters": list(predictions.class_letters),
        "attribute_names": list(predictions.attribute_names),
        "n_rated": int(predictions.rated.sum()),
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
    return tables.summary(predictions, scores, found, information) | finite(content)
