"""Report of the test of a classifier of clips: the blocks of every classifier, with recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from hydraudio.core.corpus import corpus_of
from hydraudio.core.task import Task
from hydraudio.report.classification.callback import ClassificationReport, numpy_of
from hydraudio.report.classification.predictions import PredictionTable


@dataclass(frozen=True, kw_only=True)
class ClipTable(PredictionTable):
    """Clips of a test, n of them. source: (n,) recording that a clip is of; "" is not known."""

    source: NDArray[np.str_]

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(n,) what is resampled whole: the recording; else the clip."""
        return np.where(self.source != "", np.char.add("source ", self.source), np.char.add("clip ", self.ids))


class ClassifierReport(ClassificationReport[ClipTable]):
    """Collect what `test_step` returns and write the report at the end of the test; recordings are resampled whole.

    Args:
        output_dir: folder of the report.
        **report_arguments: see :class:`hydraudio.report.classification.callback.ClassificationReport`.
    """

    kind = ClipTable
    resampled = "source"

    def begin(self, trainer: Trainer, task: Task) -> None:
        super().begin(trainer, task)
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
            labels=batch["label"].cpu().numpy().astype(np.int64),
            logits=numpy_of(outputs["logits"]),
            probabilities=numpy_of(outputs["probabilities"]),
            source=np.array([getattr(clip, "group", "") for clip in clips], dtype=np.str_),
        )
