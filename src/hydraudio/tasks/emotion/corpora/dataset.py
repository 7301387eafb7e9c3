"""Utterances with their labels, as items and as batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hydraudio.core.feature_cache import FeatureCache
from hydraudio.core.options import check_choice
from hydraudio.core.sampling import generator
from hydraudio.tasks.emotion.corpora.audio import audio_digests, read_waveform
from hydraudio.tasks.emotion.corpora.labels import (
    KINDS,
    EmotionClasses,
    label_of_target,
    make_target,
    vote_distribution,
)
from hydraudio.tasks.emotion.corpora.utterances import ATTRIBUTE_RANGE, ATTRIBUTES, GENDERS, Utterance


@dataclass(frozen=True)
class Labelling:
    """How labels become tensors.

    Attributes:
        classes: in the order of the class index.
        attributes: names, in the order of the columns.
        targets: kind of the category target, one of `labels.KINDS`.
        merge_weights: of the kind "merged".
        smoothing: of the targets in training.
    """

    classes: EmotionClasses
    attributes: tuple[str, ...]
    targets: str = "hard"
    merge_weights: tuple[float, float] = (0.9, 0.1)
    smoothing: float = 0.0

    @classmethod
    def of(
        cls,
        classes: int | str | Sequence[str],
        attributes: Sequence[str],
        targets: str,
        merge_weights: Sequence[float],
        smoothing: float,
    ) -> Labelling:
        """Make what a configuration asks for.

        Raises:
            ValueError: something unknown, given twice or out of range.
        """
        if len(set(attributes)) < len(attributes) or not set(attributes) <= set(ATTRIBUTES):
            raise ValueError(f"attributes={list(attributes)}: choose from {', '.join(ATTRIBUTES)}, each at most once")
        check_choice("targets", targets, KINDS)
        if len(merge_weights) != 2 or min(merge_weights) < 0 or sum(merge_weights) <= 0:
            raise ValueError(f"merge_weights={list(merge_weights)}: give two weights from 0, e.g. [0.9, 0.1]")
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing={smoothing}: must be from 0 to below 1, e.g. 0.05")
        primary, mentions = merge_weights
        return cls(EmotionClasses.of(classes), tuple(attributes), targets, (primary, mentions), smoothing)

    def target(self, utterance: Utterance, *, training: bool) -> np.ndarray | None:
        """Return (C,) float32 that sums to 1, smoothed in training; None where the utterance has no such target."""
        smoothing = self.smoothing if training else 0.0
        return make_target(utterance, self.classes, self.targets, self.merge_weights, smoothing)

    def ratings(self, utterance: Utterance) -> np.ndarray:
        """Return (A,) float32: attributes from 1 to 7 scaled to [0, 1], NaN where missing."""
        low, high = ATTRIBUTE_RANGE
        given = [utterance.attributes.get(name, np.nan) for name in self.attributes]
        return ((np.array(given, dtype=np.float64) - low) / (high - low)).astype(np.float32)


class EmotionDataset(Dataset):
    """Utterances addressed by (epoch, index).

    Args:
        utterances: in their order.
        lengths: (n,) samples of every utterance at `sample_rate`.
        labelling: how labels become tensors.
        sample_rate: of the items, in Hz.
        max_samples: longer utterances are cut to their beginning, or to a random part of this length; None takes all
            whole.
        random_crop: cut at a random place, drawn from (seed, epoch, index).
        training: smooth the targets.
        seed: of the places.

    Attributes:
        features: a cache that holds the features of all utterances: items have these instead of waveforms.
        identities: names of the utterances in that cache.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        lengths: np.ndarray,
        labelling: Labelling,
        *,
        sample_rate: int,
        max_samples: int | None = None,
        random_crop: bool = False,
        training: bool = False,
        seed: int = 0,
    ) -> None:
        self.utterances, self.file_lengths, self.labelling = list(utterances), np.asarray(lengths), labelling
        self.sample_rate, self.max_samples, self.random_crop = sample_rate, max_samples, random_crop
        self.training, self.seed = training, seed
        self.features: FeatureCache | None = None
        self.identities: list[str] = []

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) samples of every item as it is given out."""
        return self.file_lengths if self.max_samples is None else np.minimum(self.file_lengths, self.max_samples)

    @property
    def items(self) -> list[str]:
        """Names of the files, in order; no audio is read."""
        return [utterance.file_name for utterance in self.utterances]

    def audio_identities(self, cache_dir: Path) -> list[str]:
        """Name what is heard of each item: the hash of its audio file, the sample rate and the length."""
        digests = audio_digests([each.path for each in self.utterances], cache_dir)
        lengths = self.lengths.tolist()
        return [f"{digest}_{self.sample_rate}_{n}" for digest, n in zip(digests, lengths, strict=True)]

    def strata(self) -> np.ndarray:
        """Return (n,) indices of the class to balance by: the consensus, else the largest share, else -1."""
        return np.array([self._stratum(each) for each in self.utterances], dtype=np.int64)

    def _stratum(self, utterance: Utterance) -> int:
        label = self.labelling.classes.label_of(utterance.letter)
        target = self.labelling.target(utterance, training=False) if label < 0 else None
        return label if target is None else label_of_target(target)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        utterance = self.utterances[number]
        return self._signal(epoch, number) | self._labels(utterance) | {"metadata": self._metadata(number)}

    def _signal(self, epoch: int, number: int) -> dict[str, Any]:
        if self.features is not None:
            features = self.features[self.identities[number]]
            return {"features": features, "frame_lengths": features.shape[1] if features.ndim == 3 else 1}
        waveform = self._read(number)
        if self.max_samples is not None and len(waveform) > self.max_samples:
            start = self._start(epoch, number) if self.random_crop else 0
            waveform = waveform[start : start + self.max_samples]
        return {"waveform": waveform, "lengths": len(waveform)}

    def _read(self, number: int) -> np.ndarray:
        path, expected = self.utterances[number].path, int(self.file_lengths[number])
        waveform = read_waveform(path, self.sample_rate)
        if len(waveform) != expected:
            raise ValueError(
                f"{path}: has {len(waveform)} samples at {self.sample_rate} Hz, its header or index says {expected}; "
                "the file is damaged or was changed, write it again"
            )
        return waveform

    def _start(self, epoch: int, number: int) -> int:
        assert self.max_samples is not None
        rng = generator(self.seed, epoch, number)
        return int(rng.integers(0, int(self.file_lengths[number]) - self.max_samples + 1))

    def _labels(self, utterance: Utterance) -> dict[str, Any]:
        classes = self.labelling.classes
        target = self.labelling.target(utterance, training=self.training)
        return {
            "label": classes.label_of(utterance.letter),
            "target": np.zeros(len(classes), dtype=np.float32) if target is None else target,
            "votes": vote_distribution(utterance, classes),
            "attributes": self.labelling.ratings(utterance),
            "gender": utterance.gender,
            "id": utterance.file_name,
        }

    def _metadata(self, number: int) -> dict[str, Any]:
        utterance = self.utterances[number]
        return {
            "speaker": utterance.speaker,
            "podcast": utterance.podcast or None,
            "gender": GENDERS[utterance.gender],
            "split": utterance.split,
            "duration_s": int(self.file_lengths[number]) / self.sample_rate,
            "letter": utterance.letter,
            "path": str(utterance.path),
        }


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack items, shorter ones padded with zeros at their end.

    Returns:
        waveform (batch, time) float32, lengths (batch,) int64 samples and padded (bool: the lengths differ), or, with
        cached features, features (batch, layers, frames, dimensions) or (batch, layers, 2 * dimensions) float32 and
        frame_lengths (batch,) int64 (all 1 for the latter); label (batch,) int64, -1 where there is none; target
        (batch, classes) float32, rows sum to 1 or are zero; votes (batch, classes) float32, rows sum to 1 or are NaN;
        attributes (batch, attributes) float32 in [0, 1], NaN where missing; gender (batch,) int64 (`GENDERS`); id (list
        of file names) and metadata (list of dicts).
    """
    batch: dict[str, Any] = _stack_features(items) if "features" in items[0] else _stack_waveforms(items)
    for name in ("target", "votes", "attributes"):
        batch[name] = torch.from_numpy(np.stack([item[name] for item in items]))
    for name in ("label", "gender"):
        batch[name] = torch.tensor([item[name] for item in items], dtype=torch.int64)
    for name in ("id", "metadata"):
        batch[name] = [item[name] for item in items]
    return batch


def _stack_waveforms(items: list[dict[str, Any]]) -> dict[str, Any]:
    lengths = [item["lengths"] for item in items]
    waveform = torch.zeros(len(items), max(lengths))
    for row, item in zip(waveform, items, strict=True):
        row[: item["lengths"]] = torch.from_numpy(item["waveform"])
    return {"waveform": waveform, "lengths": torch.tensor(lengths), "padded": min(lengths) < max(lengths)}


def _stack_features(items: list[dict[str, Any]]) -> dict[str, Any]:
    lengths = [item["frame_lengths"] for item in items]
    if items[0]["features"].ndim == 2:
        features = torch.from_numpy(np.stack([item["features"] for item in items]))
    else:
        n_layers, _, size = items[0]["features"].shape
        features = torch.zeros(len(items), n_layers, max(lengths), size)
        for row, item in zip(features, items, strict=True):
            row[:, : item["frame_lengths"]] = torch.from_numpy(item["features"])
    return {"features": features, "frame_lengths": torch.tensor(lengths)}
