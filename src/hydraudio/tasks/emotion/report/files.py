"""Writing the files of an emotion report and printing its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hydraudio.core.files import write_bytes, write_json, write_text
from hydraudio.report.heatmap_image import confusion_png
from hydraudio.report.tables import rich_table, write_csv
from hydraudio.tasks.emotion.report import slices, tables
from hydraudio.tasks.emotion.report.page import EmotionResults, emotion_page
from hydraudio.tasks.emotion.report.predictions import item_columns, item_rows, save_predictions
from hydraudio.tasks.emotion.report.scores import Scores, broken_line

PREDICTIONS_FILE, METRICS_FILE = "predictions.npz", "metrics.json"


@dataclass(frozen=True)
class WrittenReport:
    """What the terminal shows of a report."""

    page: Path
    scores: Scores
    attribute_names: tuple[str, ...]


def write_report(folder: Path, results: EmotionResults) -> WrittenReport:
    """Writes everything but the submissions: items.csv, predictions.npz, metrics.json, tables and index.html."""
    p, scores = results.predictions, results.scores
    write_csv(folder / "items.csv", item_rows(p), item_columns(p))
    save_predictions(folder / PREDICTIONS_FILE, p)
    summary = tables.summary(p, scores, results.slices, results.gaps, results.information, results.convention)
    write_json(folder / METRICS_FILE, summary, indent=1)
    write_csv(folder / "summary.csv", *tables.summary_csv_rows(scores))
    write_csv(folder / "slices.csv", *slices.slice_csv_rows(results.slices))
    write_csv(folder / "gender.csv", *slices.gap_csv_rows(results.gaps))
    write_csv(folder / "speakers.csv", *slices.speaker_csv_rows(results.spread))
    if scores.per_class:
        write_csv(folder / "confusion.csv", *tables.confusion_csv_rows(scores, p.class_names))
        write_bytes(folder / "confusion.png", confusion_png(scores.per_class["confusion"], p.class_names))
    page = write_text(folder / "index.html", emotion_page(results))
    return WrittenReport(page, scores, p.attribute_names)


def print_report(console: Console, report: WrittenReport) -> None:
    """The main tables and where the page lies."""
    scores = report.scores
    if scores.per_class:
        console.print(rich_table("Test, with 95 % intervals", tables.category_table(scores)))
    if scores.n_rated:
        title = "Attributes, with 95 % intervals"
        console.print(rich_table(title, tables.attribute_table(scores, report.attribute_names)))
    if scores.n_broken:
        console.print(Text(broken_line(scores)))
    if not scores.intervals:
        console.print(Text(f"None of the {scores.n_items} items has a label: nothing can be scored."))
    console.print(Text(f"Report: {report.page}"), soft_wrap=True)
