"""The part of the leaderboard that shows emotion runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from hydraudio.report.leaderboard import Entry
from hydraudio.report.page import Section, card, paragraph, problem_list, table
from hydraudio.report.tables import Cell, Row, TableData, TableRow, count, is_number, number

METRICS = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Accuracy", "ccc": "CCC"}
_DIGITS = 3


def is_emotion(entry: Entry) -> bool:
    """Whether the runs recognise emotions."""
    return entry.main_metric in METRICS


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One row per entry for the CSV file, columns in order."""
    return [_row(entry) for entry in entries]


def leaderboard_table(found: Sequence[Row]) -> TableData:
    """The table for the terminal and the page; numbers that one seed cannot give are dashes."""
    columns = ("Experiment", "Corpus", "Seeds", *METRICS.values(), "Hours", "Steps")
    return TableData(columns, tuple(TableRow(tuple(_cells(row))) for row in found))


def sections(found: Sequence[Row]) -> list[Section]:
    """The part of the page; empty without runs."""
    if not found:
        return []
    explanation = (
        "Scores on the test set with the fixed label set, means over seeds, ± standard deviation over seeds. Rows of "
        "unequal corpora or class lists do not compare. Hours and steps: of the best run, since its last start."
    )
    checkpoints = card(problem_list([f"{row['experiment']}: {row['checkpoint']}" for row in found]), "Checkpoints")
    body = card(table(leaderboard_table(found)) + paragraph(explanation)) + checkpoints
    return [Section("emotions", "Emotions", body)]


def _row(entry: Entry) -> Row:
    config, best = entry.config, entry.best
    data = config.get("data", {})
    classes = data.get("classes")
    row: Row = {
        "network": str(config["model"].get("net", {}).get("_target_", "")).rpartition(".")[2],
        "experiment": config.get("name"),
        "corpus": str(data.get("_target_", "")).rpartition(".")[2].removesuffix("DataModule"),
        "n_classes": len(classes) if isinstance(classes, list) else classes,
        "n_seeds": len(entry.runs),
    }
    for metric in METRICS:
        row |= {f"{metric}_best": max(entry.values(metric), default=math.nan), f"{metric}_mean": entry.mean(metric)}
        row[f"{metric}_std"] = entry.deviation(metric)
    return row | {
        "training_h": best.duration_s / 3600,
        "steps": best.n_steps,
        "checkpoint": str(best.checkpoint),
    }


def _cells(row: Row) -> Iterator[Cell]:
    yield Cell(str(row["experiment"]), str(row["network"]))
    yield Cell(str(row["corpus"]), f"{row['n_classes']} classes" if row["n_classes"] else "")
    yield Cell(str(row["n_seeds"]))
    for metric in METRICS:
        deviation = row[f"{metric}_std"]
        note = f"± {number(deviation, _DIGITS)}, best {number(row[f'{metric}_best'], _DIGITS)}"
        yield Cell(number(row[f"{metric}_mean"], _DIGITS), note if is_number(deviation) else "")
    yield Cell(number(row["training_h"], 2))
    yield Cell(count(int(row["steps"])))  # type: ignore[call-overload]
