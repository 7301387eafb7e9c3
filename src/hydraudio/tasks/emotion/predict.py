"""Emotions of recordings of any length, and of audio files and folders as tables.

A recording up to `window_s` long is one window; a longer one is cut into windows every `hop_s`, the last of which
ends where the recording ends. What is said of the whole is a mean over time: every moment has the mean of the windows
that cover it, and every moment counts the same. A window's weight is therefore the time that it covers, shared
equally with the windows that cover it too. Means are arithmetic, of probabilities, of attributes and of embeddings: the
probabilities of the whole sum to 1, and one window cannot veto a class as it could in a product.

Known frequencies of the classes (`priors`) multiply the odds in every window, before the mean: the network's
probability p_c becomes priors_c p_c / sum_k priors_k p_k, which is softmax(z + log priors) of its logits z. That is
the probability under those frequencies if the logits stand for equally frequent classes, as those of networks trained
with balanced softmax or logit adjustment do; plain cross entropy leaves the training frequencies in the logits.

`emotions.csv` has a row per file: ``file`` (path below the input folder), ``duration_s``, the most probable
``emotion`` and its ``probability``, the probability of every class, and every attribute on the raters' scale, 1 to 7.
Per file there is ``<stem>.json`` with the same and the windows that it was computed from, in a tree that mirrors the
input. A file appears under its name when it is complete, not before.
"""

from __future__ import annotations

import collections
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hydraudio.audio.files import FilePredictor, Job, OnProgress, read_blocks
from hydraudio.audio.io import open_audio, resample
from hydraudio.audio.overlap_add import Chunk, coverage_weights, cut_chunks, in_groups
from hydraudio.core.files import csv_text, inert_cell, whole_file, write_json, write_text
from hydraudio.metrics.calibration import adjust_logits

if TYPE_CHECKING:
    from hydraudio.tasks.emotion.task import EmotionTask

log = logging.getLogger(__name__)

TABLE = "emotions.csv"
DIGITS = 6
"""Decimals of probabilities and attributes in files."""
LOWEST, HIGHEST = 1.0, 7.0
"""Ends of the scale on which raters judge arousal, valence and dominance; networks give it as [0, 1]."""

ROUNDING = 0.02
"""How far the sum of frequencies that were rounded to two decimals may be from 1."""


class EmotionPredictor(FilePredictor["EmotionTask"]):
    """Recognises the emotion of a file, or of every audio file below a folder.

    Args:
        window_s: files up to this length are recognised in one piece, longer ones in windows of it.
        hop_s: from window to window, at most `window_s`.
        batch_size: windows of a file that go through the network together.
        embedding: also write the embedding of every file, (dim,) float32, as ``<stem>.npy``.
        priors: class name -> how frequent the class is where the network is used: all classes, positive, with sum 1.
            For networks trained with balanced softmax or logit adjustment, whose logits stand for equally frequent
            classes (see the head of this file). None: the network's probabilities as they are, which are also what
            reports score.
    """

    def __init__(
        self,
        window_s: float = 12.0,
        hop_s: float = 6.0,
        batch_size: int = 8,
        embedding: bool = False,
        priors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(batch_size)
        self.window_s, self.hop_s, self.embedding, self.priors = window_s, hop_s, embedding, priors

    def check(self, task: EmotionTask) -> None:
        window_sizes(task.sample_rate, self.window_s, self.hop_s)
        if self.priors is not None:
            class_frequencies(self.priors, task.class_names)

    def summarise(self, task: EmotionTask, jobs: list[Job], output: Path) -> dict[Path, str]:
        """Writes the table, from the files of the results: also of those that were there already."""
        names = (list(task.class_names), list(task.attribute_names))
        results, failed = [], {}
        for job in jobs:
            try:
                results.append({**read_result(job.targets[-1], *names), "file": job.name})
            except ValueError as error:
                failed[job.source] = str(error)
        write_text(output / TABLE, table(results, *names))
        found = collections.Counter(result["emotion"] for result in results if "emotion" in result).most_common()
        counts = ", ".join(f"{emotion} {count}" for emotion, count in found)
        log.info("%s has %d files%s", TABLE, len(results), f": {counts}" if counts else "")
        return failed

    def targets(self, task: EmotionTask, folder: Path, stem: str) -> tuple[Path, ...]:
        embedding = (folder / f"{stem}.npy",) if self.embedding else ()
        return (*embedding, folder / f"{stem}.json")

    def process(self, task: EmotionTask, job: Job, on_progress: OnProgress) -> None:
        with open_audio(job.source) as file:
            blocks = read_blocks(file, on_progress, mono=True, sample_rate=task.sample_rate)
            recognition = recognise_blocks(
                task, blocks, window_s=self.window_s, hop_s=self.hop_s, batch_size=self.batch_size, priors=self.priors
            )
        if self.embedding:
            with whole_file(job.targets[0]) as file:
                np.save(file, recognition.embedding.astype(np.float32))
        write_json(job.targets[-1], {"file": job.name, **described(recognition)}, indent=1)


def described(recognition: Recognition) -> dict[str, Any]:
    """Return a recognition as plain data for JSON, without what the network has no head for."""
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
    """Read what `described` gave, from its file.

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
        [*(_cell(result[name]) for name in first), *result["probabilities"].values(), *result["attributes"].values()]
        for result in results
    ]
    return csv_text([*first, *map(inert_cell, [*class_names, *attribute_names])], rows)


def _cell(value: Any) -> Any:
    return inert_cell(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Window:
    """What the network says of one window; empty arrays for a head that it does not have.

    Attributes:
        start_s: of the window, in seconds of the recording.
        end_s: likewise.
        probabilities: (n_classes,), summing to 1.
        attributes: (n_attributes,) on the raters' scale, 1 to 7.
        embedding: (dim,), what the heads see.
    """

    start_s: float
    end_s: float
    probabilities: np.ndarray
    attributes: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Recognition:
    """What the network says of a recording; empty arrays for a head that it does not have.

    Attributes:
        duration_s: length of the recording.
        class_names: of the emotions.
        probabilities: (n_classes,), summing to 1.
        attribute_names: such as arousal, valence, dominance.
        attributes: (n_attributes,) on the raters' scale, 1 to 7.
        embedding: (dim,).
        windows: the parts that these are means of.
    """

    duration_s: float
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    attribute_names: tuple[str, ...]
    attributes: np.ndarray
    embedding: np.ndarray
    windows: tuple[Window, ...]

    @property
    def emotion(self) -> str | None:
        """The most probable class; None for a network without classes."""
        return self.class_names[int(self.probabilities.argmax())] if self.class_names else None

    @property
    def probability(self) -> float | None:
        """That of `emotion`."""
        return float(self.probabilities.max()) if self.class_names else None


def recognise(
    task: EmotionTask,
    waveform: np.ndarray | Tensor,
    sample_rate: int,
    *,
    window_s: float = 12.0,
    hop_s: float = 6.0,
    batch_size: int = 8,
    priors: Mapping[str, float] | None = None,
) -> Recognition:
    """Recognise the emotion of a recording.

    Args:
        task: in evaluation mode.
        waveform: (time,) or (channels, time), in [-1, 1]; channels are mixed down to one.
        sample_rate: of the waveform in Hz; it is resampled to that of the task.
        window_s: longest part that the network sees at once.
        hop_s: from window to window, at most `window_s`.
        batch_size: windows that go through the network together.
        priors: how frequent each class is where the recording comes from, for a network whose logits stand for equally
            frequent classes; all classes, positive, with sum 1. None: the network's probabilities as they are.

    Raises:
        ValueError: a wrong shape, NaN, a recording shorter than one sample of the task, or settings out of range.
    """
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise ValueError(f"waveform has shape {samples.shape}, expected (time,) or (channels, time), not empty")
    if not np.isfinite(samples).all():
        raise ValueError("the waveform holds NaN or infinite samples")
    mono = np.atleast_2d(samples).mean(axis=0, keepdims=True)
    blocks = [resample(mono, sample_rate, task.sample_rate)]
    return recognise_blocks(task, blocks, window_s=window_s, hop_s=hop_s, batch_size=batch_size, priors=priors)


def recognise_blocks(
    task: EmotionTask,
    blocks: Iterable[np.ndarray],
    *,
    window_s: float,
    hop_s: float,
    batch_size: int,
    priors: Mapping[str, float] | None = None,
) -> Recognition:
    """Like `recognise` for a stream, in memory that does not grow with it but for the results.

    Args:
        blocks: pieces of the recording, each (1, time) float32 of any length, at the sample rate of the task.
    """
    window_samples, hop_samples = window_sizes(task.sample_rate, window_s, hop_s)
    frequencies = None if priors is None else class_frequencies(priors, task.class_names)
    chunks = cut_chunks((torch.from_numpy(block) for block in blocks), window_samples, hop_samples)
    groups = in_groups(chunks, batch_size)
    windows = [window for group in groups for window in _recognise_group(task, group, frequencies)]
    if not windows:
        raise ValueError(f"holds less than one sample at {task.sample_rate} Hz")
    starts, ends = (np.array([getattr(window, name) for window in windows]) for name in ("start_s", "end_s"))
    weights = coverage_weights(starts, ends)
    return Recognition(
        duration_s=windows[-1].end_s,
        class_names=tuple(task.class_names),
        probabilities=weights @ np.stack([window.probabilities for window in windows]),
        attribute_names=tuple(task.attribute_names),
        attributes=weights @ np.stack([window.attributes for window in windows]),
        embedding=weights @ np.stack([window.embedding for window in windows]),
        windows=tuple(windows),
    )


def window_sizes(sample_rate: int, window_s: float, hop_s: float) -> tuple[int, int]:
    """Return (samples of a window, samples from window to window), checked."""
    window_samples, hop_samples = round(window_s * sample_rate), round(hop_s * sample_rate)
    if not 1 <= hop_samples <= window_samples:
        raise ValueError(
            f"hop_s={hop_s} and window_s={window_s}: the hop must be longer than nothing and at most a window, or "
            "parts of the recording would be left out; try window_s=12 hop_s=6"
        )
    return window_samples, hop_samples


def class_frequencies(priors: Mapping[str, float], class_names: Sequence[str]) -> list[float]:
    """Frequencies given by name, checked, in the order of the classes.

    Raises:
        ValueError: no classes, one without a frequency, an unknown one, one that is not positive, or a sum that is not
            1 (to rounding).
    """
    if not class_names:
        raise ValueError("priors: the network has no categories; leave priors out (null)")
    if missing := [name for name in class_names if name not in priors]:
        raise ValueError(f"priors: no frequency for {', '.join(missing)}; name every class of the network")
    if unknown := [str(name) for name in priors if name not in class_names]:
        raise ValueError(f"priors: the network has no class {', '.join(unknown)}; it has {', '.join(class_names)}")
    frequencies = [float(priors[name]) for name in class_names]
    if wrong := [f"{name}={value:g}" for name, value in zip(class_names, frequencies, strict=True) if not value > 0]:
        raise ValueError(f"priors must be positive, found {', '.join(wrong)}; give a rare class a small frequency")
    if abs(sum(frequencies) - 1) > ROUNDING:
        raise ValueError(f"priors have the sum {sum(frequencies):g}; frequencies have the sum 1")
    return frequencies


@torch.inference_mode()
def _recognise_group(task: EmotionTask, group: list[Chunk], frequencies: list[float] | None) -> list[Window]:
    """Windows of one length."""
    result = task.predict_waveform(torch.cat([chunk for _, chunk in group]).to(task.device))
    probabilities = _rows(result, "probabilities", len(group))
    if frequencies is not None:
        probabilities = adjust_logits(torch.from_numpy(probabilities).log(), frequencies).softmax(-1).numpy()
    attributes = (LOWEST + (HIGHEST - LOWEST) * _rows(result, "attributes", len(group))).clip(LOWEST, HIGHEST)
    embedding = _rows(result, "embedding", len(group))
    rate = task.sample_rate
    return [
        Window(start / rate, (start + chunk.shape[-1]) / rate, probabilities[i], attributes[i], embedding[i])
        for i, (start, chunk) in enumerate(group)
    ]


def _rows(result: dict[str, Tensor], name: str, n_rows: int) -> np.ndarray:
    """(n_rows, n) float64; n is 0 for what the task does not give."""
    if name not in result:
        return np.zeros((n_rows, 0))
    values = result[name].double().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"the network gave NaN or infinite {name}")
    return values
