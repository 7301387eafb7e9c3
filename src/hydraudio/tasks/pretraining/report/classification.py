"""Report of the test of a classifier of clips: the blocks of every classifier, with recordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from hydraudio.core.corpus import corpus_of
from hydraudio.core.task import Task
from hydraudio.metrics.classification import NO_LABEL
from hydraudio.report.callback import to_numpy
from hydraudio.report.classification.callback import ClassificationReport, numpy_of
from hydraudio.report.classification.page import ClassificationResults
from hydraudio.report.classification.predictions import PredictionTable
from hydraudio.report.classification.tables import DIGITS
from hydraudio.report.tables import Cell, TableData, TableRow, count, interval_cell
from hydraudio.tasks.pretraining.report.precision import precision_intervals


@dataclass(frozen=True, kw_only=True)
class ClipTable(PredictionTable):
    """Clips of a test, n of them.

    source: (n,) recording that a clip is of; "" is not known. target: (n, n_classes), 1 for every class of a clip.
    """

    source: NDArray[np.str_]
    target: NDArray[np.float64]

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(n,) what is resampled whole: the recording; else the clip."""
        return np.where(self.source != "", np.char.add("source ", self.source), np.char.add("clip ", self.ids))


@dataclass(frozen=True, kw_only=True)
class PrecisionResults(ClassificationResults):
    """Everything that the page shows of clips of several classes: the average precision of each."""

    predictions: ClipTable

    @property
    def score_tables(self) -> list[TableData]:
        found = self.scores.intervals.items()
        rows = [(name.partition("/")[2] or "mean of classes", interval) for name, interval in found]
        lines = [TableRow((Cell(name), interval_cell(i, DIGITS), Cell(count(i.n)))) for name, i in rows]
        return [TableData(("Class", "Average precision", "Clips"), tuple(lines))]

    @property
    def reading(self) -> list[str]:
        means = "The mean is over the classes that occur. Predictions of the whole set are scored once."
        return [means, self.resampling(f"{self.resampled}s")]


class ClassifierReport(ClassificationReport[ClipTable]):
    """Collect what `test_step` returns and write the report at the end of the test; recordings are resampled whole.

    Args:
        output_dir: folder of the report.
        **report_arguments: see :class:`hydraudio.report.classification.callback.ClassificationReport`.
    """

    kind = ClipTable
    resampled = "source"

    def results(self, p: ClipTable, common: Mapping[str, Any]) -> ClassificationResults:
        known = np.asarray(p.target.any(axis=1), dtype=np.bool_)
        if not (self._multilabel and known.any()):
            return super().results(p, common)
        chosen = p.select(known)
        intervals = precision_intervals(
            chosen.probabilities, chosen.target, chosen.clusters, p.class_names, self.bootstrap
        )
        found = {"n_labelled": len(chosen), "n_clusters": len(set(chosen.clusters.tolist())), "intervals": intervals}
        return PrecisionResults(**{**common, "scores": replace(common["scores"], **found)})

    def printed_tables(self, results: ClassificationResults) -> Iterator[tuple[str, TableData]]:
        if self._multilabel and results.scores.intervals:
            yield "Test, with 95 % intervals", results.score_tables[0]
        yield from super().printed_tables(results)

    def begin(self, trainer: Trainer, task: Task) -> None:
        super().begin(trainer, task)
        self._multilabel = bool(getattr(task, "multilabel", False))
        datasets: Mapping[str, Any] = getattr(corpus_of(trainer), "datasets", {})
        self._clips = {clip.id: clip for clip in getattr(datasets.get("test"), "clips", ())}

    def table(self, outputs: Mapping[str, Any], batch: Mapping[str, Any], corpus: object, task: Task) -> ClipTable:
        clips = [self._clips.get(name) for name in batch["id"]]
        return ClipTable(
            class_names=tuple(getattr(task, "class_names", ())),
            ids=np.array(batch["id"], dtype=np.str_),
            split=np.array([getattr(clip, "part", "") for clip in clips], dtype=np.str_),
            path=np.array([str(getattr(clip, "path", "")) for clip in clips], dtype=np.str_),
            duration_s=batch["lengths"].cpu().numpy() / task.sample_rate,
            labels=np.full(len(clips), NO_LABEL) if self._multilabel else to_numpy(batch["label"]).astype(np.int64),
            logits=numpy_of(outputs["logits"]),
            probabilities=numpy_of(outputs["probabilities"]),
            target=numpy_of(batch["target"]),
            source=np.array([getattr(clip, "group", "") for clip in clips], dtype=np.str_),
        )
