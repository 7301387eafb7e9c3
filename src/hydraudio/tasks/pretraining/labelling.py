"""Classes of audio files of any length: a table of all files, and the probabilities of each as a JSON file.

A file is read, mixed to mono, resampled and embedded in windows of the encoder's grid; the mean of the windows,
weighted by their time, is classified, as in a test. ``classes.csv`` has a row per file: ``file``, ``duration_s``, the
most probable ``class``, its ``probability`` and that of every class; ``<stem>.json`` holds the same.
"""

from __future__ import annotations

import collections
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hydraudio.audio.files import FilePredictor, Job, OnProgress
from hydraudio.core.files import csv_text, inert_cell, write_json, write_text
from hydraudio.tasks.pretraining.predict import embed_recording, read_recording

if TYPE_CHECKING:
    from hydraudio.tasks.pretraining.classification import ClassificationTask

log = logging.getLogger(__name__)

TABLE = "classes.csv"
DIGITS = 6
"""Decimals of probabilities in files."""


class ClassPredictor(FilePredictor["ClassificationTask"]):
    """Classifies a file, or every audio file below a folder.

    Args:
        batch_size: windows of a file that go through the network together.
    """

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__(batch_size)

    def targets(self, task: ClassificationTask, folder: Path, stem: str) -> tuple[Path, ...]:
        return (folder / f"{stem}.json",)

    def process(self, task: ClassificationTask, job: Job, on_progress: OnProgress) -> None:
        waveform = read_recording(task, job, on_progress)
        embedding, _ = embed_recording(task, waveform, task.net.pooling, self.batch_size)
        with torch.inference_mode():
            probabilities = task.probabilities(task.net.classify(embedding[None]))[0].tolist()
        named = {name: round(p, DIGITS) for name, p in zip(task.class_names, probabilities, strict=True)}
        best = max(named, key=named.__getitem__)
        content = {
            "duration_s": round(waveform.shape[1] / task.sample_rate, 3),
            "class": best,
            "probability": named[best],
        }
        write_json(job.targets[-1], {"file": job.name, **content, "probabilities": named}, indent=1)

    def summarise(self, task: ClassificationTask, jobs: list[Job], output: Path) -> dict[Path, str]:
        """Writes the table, also of results that were there already."""
        rows: list[list[Any]] = []
        failed: dict[Path, str] = {}
        for job in jobs:
            try:
                found = read_result(job.targets[-1], task.class_names)
            except ValueError as error:
                failed[job.source] = str(error)
                continue
            first = [inert_cell(job.name), found["duration_s"], inert_cell(found["class"]), found["probability"]]
            rows.append([*first, *found["probabilities"].values()])
        header = ["file", "duration_s", "class", "probability", *map(inert_cell, task.class_names)]
        write_text(output / TABLE, csv_text(header, rows))
        counts = collections.Counter(row[2] for row in rows).most_common()
        log.info("%s has %d files: %s", TABLE, len(rows), ", ".join(f"{name} {n}" for name, n in counts) or "none")
        return failed


def read_result(path: Path, class_names: Sequence[str]) -> dict[str, Any]:
    """Read what was written of a file.

    Raises:
        ValueError: it is damaged, or comes from a network with other classes.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = list(found["probabilities"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a result of this program ({error!r}); say overwrite=true") from error
    if names != list(class_names):
        raise ValueError(f"{path}: the result of a network with other classes; say overwrite=true")
    return found
