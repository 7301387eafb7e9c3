"""What the listening page needs to know about emotions: windows of long recordings, ratings, what was heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hydraudio.core.task import Task
from hydraudio.report.listen.listening import Listening, Numbers, OnProgress
from hydraudio.report.tables import EN_DASH, Cell, TableData, TableRow, number
from hydraudio.tasks.emotion.predict import HIGHEST, LOWEST, recognise
from hydraudio.tasks.emotion.task import EmotionTask


class EmotionListening(Listening):
    """One emotion network."""

    task: EmotionTask

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        if not isinstance(task, EmotionTask):
            raise ValueError(f"{type(task).__name__} is no EmotionTask; say in its specification how it is heard")
        self.class_names, self.attribute_names = task.class_names, task.attribute_names

    def corpus_settings(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the classes and attributes of the network, where it has such heads."""
        wanted = {"classes": self.class_names, "attributes": self.attribute_names}
        return super().corpus_settings(data) | {name: names for name, names in wanted.items() if names and name in data}

    def process(self, waveform: Tensor, on_progress: OnProgress | None = None) -> dict[str, Tensor]:
        """Recognise a recording as `src/predict.py` does, in windows."""
        found = recognise(self.task, waveform, self.task.sample_rate)
        attributes = (found.attributes - LOWEST) / (HIGHEST - LOWEST)
        given = {"probabilities": found.probabilities, "attributes": attributes}
        return {name: torch.from_numpy(values)[None] for name, values in given.items() if len(values)}

    def scores(self, batch: Mapping[str, Any], result: Mapping[str, Tensor]) -> tuple[TableData | None, list[str]]:
        """Return the category that the raters heard and the network's, and how probable it held the true one."""
        if not self.class_names:
            return None, []
        probabilities, label = result["probabilities"][0].cpu(), int(batch["label"][0])
        cells = [Cell(self.class_names[int(probabilities.argmax())])]
        if label >= 0:
            nll = -float(probabilities[label].log())
            cells += [Cell(self.class_names[label]), Cell(f"{number(nll, 2)} nats")]
        else:
            cells += [Cell(EN_DASH), Cell(EN_DASH)]
        columns = ("", "Recognised", "Label", "Negative log-likelihood")
        return TableData(columns, (TableRow((Cell(""), *cells)),)), []

    def details(self, batch: Mapping[str, Any]) -> list[str]:
        about = batch["metadata"][0]
        speaker = f"speaker {about['speaker']}" if about["speaker"] else "speaker unknown"
        return [about["split"], speaker, about["gender"].lower()]

    def numbers(self, name: str, names: tuple[str, ...], output: np.ndarray, reference: np.ndarray | None) -> Numbers:
        """Return the attributes on the raters' scale; targets that are all zero are none."""
        if name == "attributes":
            scaled = [None if x is None else LOWEST + (HIGHEST - LOWEST) * x for x in (output, reference)]
            assert scaled[0] is not None
            return Numbers("Attributes, from 1 to 7", names, scaled[0], scaled[1])
        known = reference if reference is not None and reference.any() else None
        return super().numbers(name, names, output, known)
