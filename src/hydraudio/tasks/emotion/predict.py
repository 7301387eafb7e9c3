"""Emotions of audio files and folders, as tables.

`emotions.csv` has a row per file: ``file`` (path below the input folder), ``duration_s``, the most probable
``emotion`` and its ``probability``, the probability of every class, and every attribute on the raters' scale, 1 to 7.
Per file there is ``<stem>.json`` with the same and the windows that it was computed from, in a tree that mirrors the
input. Files may have any sample rate, length and number of channels (see `hydraudio.tasks.emotion.recognition`). A file
appears under its name when it is complete, not before.
"""

from __future__ import annotations

import collections
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hydraudio.audio.files import (
    Job,
    OnProgress,
    plan_jobs,
    process_files,
    read_blocks,
    report_failures,
)
from hydraudio.audio.io import open_audio
from hydraudio.core.files import csv_text, whole_file, write_json, write_text
from hydraudio.tasks.emotion.recognition import (
    Recognition,
    class_frequencies,
    recognise,
    recognise_blocks,
    window_sizes,
)

__all__ = ["EmotionPredictor", "Recognition", "recognise"]

log = logging.getLogger(__name__)

TABLE = "emotions.csv"
DIGITS = 6
"""Decimals of probabilities and attributes in files."""


class EmotionPredictor:
    """Recognises the emotion of a file, or of every audio file below a folder.

    Args:
        window_s: files up to this length are recognised in one piece, longer ones in windows of it.
        hop_s: from window to window, at most `window_s`.
        batch_size: windows of a file that go through the network together.
        embedding: also write the embedding of every file, (dim,) float32, as ``<stem>.npy``.
        priors: class name -> how frequent the class is where the network is used: all classes, positive, with sum 1.
            For networks trained with balanced softmax or logit adjustment, whose logits stand for equally frequent
            classes; see `hydraudio.tasks.emotion.recognition`. None: the network's probabilities as they are, which are
            also what reports score.
    """

    def __init__(
        self,
        window_s: float = 12.0,
        hop_s: float = 6.0,
        batch_size: int = 8,
        embedding: bool = False,
        priors: Mapping[str, float] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.window_s, self.hop_s, self.batch_size, self.embedding = window_s, hop_s, batch_size, embedding
        self.priors = priors

    def run(
        self,
        task: Any,
        input: str | Path,
        output: str | Path,
        *,
        device: str | torch.device = "cpu",
        overwrite: bool = False,
    ) -> dict[Path, str]:
        """Recognises a file or a folder.

        Args:
            task: as for `recognise`; it is moved to `device` and put into evaluation mode.
            input: file, or folder that is searched recursively (names that begin with a dot excepted).
            output: folder, made if needed; must not be the input folder.
            device: where the network runs.
            overwrite: replace existing results; otherwise a file is skipped when its results exist, and its row of
                the table comes from there.

        Returns:
            The input files that failed, with the reasons, which are also logged; all others are in the table.

        Raises:
            FileNotFoundError: no such input.
            ValueError: nothing to do, or settings out of range.
        """
        window_sizes(task.sample_rate, self.window_s, self.hop_s)
        if self.priors is not None:
            class_frequencies(self.priors, task.class_names)
        jobs, failed = plan_jobs(input, output, self._targets)
        task.to(device).eval()
        failed |= process_files(jobs, lambda job, progress: self._recognise_file(task, job, progress), overwrite)
        names = (list(task.class_names), list(task.attribute_names))
        results = []
        for job in jobs:
            if job.source not in failed:
                try:
                    results.append({**read_result(job.targets[-1], *names), "file": job.name})
                except ValueError as error:
                    failed[job.source] = str(error)
        write_text(Path(output) / TABLE, table(results, *names))
        report_failures(failed)
        found = collections.Counter(result["emotion"] for result in results if "emotion" in result).most_common()
        counts = ", ".join(f"{emotion} {count}" for emotion, count in found)
        log.info("%s has %d files%s", TABLE, len(results), f": {counts}" if counts else "")
        return failed

    def _targets(self, folder: Path, stem: str) -> tuple[Path, ...]:
        """The last one is the JSON file, which is written last."""
        targets = (folder / f"{stem}.npy",) if self.embedding else ()
        return (*targets, folder / f"{stem}.json")

    def _recognise_file(self, task: Any, job: Job, on_progress: OnProgress) -> None:
        with open_audio(job.source) as file:
            blocks = read_blocks(file, on_progress, mono=True, sample_rate=task.sample_rate)
            recognition = recognise_blocks(
                task,
                blocks,
                window_s=self.window_s,
                hop_s=self.hop_s,
                batch_size=self.batch_size,
                priors=self.priors,
            )
        if self.embedding:
            with whole_file(job.targets[0]) as file:
                np.save(file, recognition.embedding.astype(np.float32))
        write_json(job.targets[-1], {"file": job.name, **described(recognition)}, indent=1)


def described(recognition: Recognition) -> dict[str, Any]:
    """A recognition as plain data for JSON, without what the network has no head for."""
    classes, attributes = recognition.class_names, recognition.attribute_names
    most_probable: dict[str, Any] = {}
    if recognition.probability is not None:
        most_probable = {"emotion": recognition.emotion, "probability": round(recognition.probability, DIGITS)}
    return {
        "duration_s": round(recognition.duration_s, 3),
        **most_probable,
        "probabilities": _named(classes, recognition.probabilities),
        "attributes": _named(attributes, recognition.attributes),
        "windows": [
            {
                "start_s": round(window.start_s, 3),
                "end_s": round(window.end_s, 3),
                "probabilities": _named(classes, window.probabilities),
                "attributes": _named(attributes, window.attributes),
            }
            for window in recognition.windows
        ],
    }


def _named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), DIGITS) for name, value in zip(names, values, strict=True)}


def read_result(path: Path, class_names: list[str], attribute_names: list[str]) -> dict[str, Any]:
    """What `described` gave, from its file.

    Raises:
        ValueError: it is damaged, or comes from a network with other classes or attributes.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        names = (list(result["probabilities"]), list(result["attributes"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a result of this program ({error!r}); say overwrite=true") from error
    if names != (class_names, attribute_names):
        raise ValueError(f"{path}: the result of a network with other classes or attributes; say overwrite=true")
    return result


def table(results: list[dict[str, Any]], class_names: list[str], attribute_names: list[str]) -> str:
    """CSV text with a row per result of `read_result`."""
    most_probable = ["emotion", "probability"] if class_names else []
    first = ["file", "duration_s", *most_probable]
    rows = [
        [*(result[name] for name in first), *result["probabilities"].values(), *result["attributes"].values()]
        for result in results
    ]
    return csv_text([*first, *class_names, *attribute_names], rows)
