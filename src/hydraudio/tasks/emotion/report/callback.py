"""Report of a test of emotions: that of a classifier, with attributes, genders, speakers and submission files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hydraudio.core.task import Task
from hydraudio.metrics.classification import NO_LABEL
from hydraudio.report.classification.callback import ClassificationReport, numpy_of
from hydraudio.report.tables import TableData, write_csv
from hydraudio.tasks.emotion.report import slices, tables
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES
from hydraudio.tasks.emotion.report.page import EmotionResults
from hydraudio.tasks.emotion.report.predictions import EmotionTable, to_rating
from hydraudio.tasks.emotion.report.submission import write_submissions

USUAL_GROUPS = {"mode": "explicit", "head": ("Happy", "Neutral"), "mid": ("Angry", "Sad")}
"""Frequent and rare classes as usual for MSP-PODCAST."""


class EmotionReport(ClassificationReport[EmotionTable]):
    """Collect what `test_step` returns and write the report at the end of the test.

    Beside what every classifier's report writes there are gender.csv, speakers.csv and submission files; details.json
    has the gaps between genders, too. Examples are chosen of categories and of attributes; speakers are resampled
    whole.

    Args:
        output_dir: folder of the report.
        min_items: slices and speakers with fewer items are suppressed.
        groups: which classes are head, middle and tail; None = `USUAL_GROUPS`.
        **report_arguments: see :class:`hydraudio.report.callback.Report`.
    """

    charts = {
        "Loss": ("train/loss", "val/loss"),
        "Validation: categories": ("val/macro_f1", "val/uar", "val/accuracy"),
        "Validation: CCC": ("val/ccc",),
    }
    kind = EmotionTable
    resampled = "speaker"

    def __init__(
        self,
        output_dir: str | Path,
        min_items: int = 30,
        groups: Mapping[str, Any] | None = None,
        **report_arguments: Any,
    ) -> None:
        super().__init__(output_dir, min_items, groups or USUAL_GROUPS, **report_arguments)

    def table(self, outputs: Mapping[str, Any], batch: Mapping[str, Any], corpus: object, task: Task) -> EmotionTable:
        """Everything about the items of a batch; heads that the network lacks have no columns."""
        class_names, attribute_names = (tuple(getattr(task, name)) for name in ("class_names", "attribute_names"))
        letters = tuple(getattr(corpus, "class_letters", ())) if class_names else ()
        n = len(batch["id"])
        metadata: list[Mapping[str, Any]] = batch["metadata"]
        nothing = np.zeros((n, 0))
        names = ("split", "podcast", "path", "speaker")
        text = {key: np.array([str(m.get(key) or "") for m in metadata]) for key in names}
        durations = [m.get("duration_s") for m in metadata]
        return EmotionTable(
            class_names=class_names,
            class_letters=letters,
            attribute_names=attribute_names,
            ids=np.array(batch["id"], dtype=np.str_),
            **text,
            gender=batch["gender"].cpu().numpy().astype(np.int64),
            duration_s=np.array([np.nan if d is None else d for d in durations], dtype=np.float64),
            labels=batch["label"].cpu().numpy().astype(np.int64) if class_names else np.full(n, NO_LABEL),
            logits=numpy_of(outputs["logits"]) if class_names else nothing,
            probabilities=numpy_of(outputs["probabilities"]) if class_names else nothing,
            votes=numpy_of(batch["votes"]) if class_names else nothing,
            attributes=numpy_of(outputs["attributes"]) if attribute_names else nothing,
            attribute_targets=numpy_of(batch["attributes"]) if attribute_names else nothing,
        )

    def example_scores(self, part: EmotionTable) -> dict[str, NDArray[np.float64]]:
        scores = super().example_scores(part)
        if part.attribute_names:
            errors = np.abs(to_rating(part.attributes) - to_rating(part.attribute_targets))
            worst = np.where(np.isnan(errors), -np.inf, errors).max(axis=1)
            scores[ATTRIBUTES] = np.where(part.rated, -worst, np.nan)
        return scores

    def notes(self, p: EmotionTable) -> list[str]:
        return write_submissions(self.output_dir, p)

    def results(self, p: EmotionTable, common: Mapping[str, Any]) -> EmotionResults:
        gaps, spread = slices.gender_gaps(p, self.options), slices.speaker_spread(p, self.options)
        return EmotionResults(**common, gaps=gaps, spread=spread)

    def write_tables(self, results: EmotionResults) -> None:
        super().write_tables(results)
        write_csv(self.output_dir / "gender.csv", slices.gap_rows(results.gaps))
        write_csv(self.output_dir / "speakers.csv", results.spread.rows, slices.SPEAKER_COLUMNS)

    def summary(self, results: EmotionResults) -> dict[str, Any]:
        return tables.summary(results.predictions, results.scores, results.slices, results.gaps, results.information)

    def printed_tables(self, results: EmotionResults) -> Iterator[tuple[str, TableData]]:
        yield from super().printed_tables(results)
        if results.n_rated:
            yield "Attributes, with 95 % intervals", results.score_tables[-1]
