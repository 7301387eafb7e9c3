"""Items of a split: a waveform and its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hydraudio.core.defects import digest_of
from hydraudio.core.sampling import generator
from hydraudio.tasks.pretraining.corpora.clips import Clip, Samples


class ClipDataset(Dataset):
    """Clips of one split, addressed by (epoch, index).

    Args:
        clips: of all splits, in the order of the rows of `samples`.
        rows: (n,) of those that take part.
        samples: of all clips.
        clip_lengths: (clips,) samples of all clips.
        n_classes: columns of the target.
        crop: samples of a crop; shorter clips are repeated until they fill it. None gives whole clips.
        random_crop: take the crop at a place that (seed, epoch, index) decides, else in the middle.
        seed: of the places.

    Attributes:
        clips: (n,) of this split, with all that is known of them.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        rows: np.ndarray,
        samples: Samples,
        clip_lengths: np.ndarray,
        *,
        n_classes: int,
        crop: int | None,
        random_crop: bool,
        seed: int,
    ) -> None:
        self.clips = [clips[row] for row in rows.tolist()]
        self.rows, self.samples, self.n_classes = rows, samples, n_classes
        self.clip_lengths = clip_lengths[rows]
        self.crop, self.random_crop, self.seed = crop, random_crop, seed

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) samples of every item as it is given out."""
        return self.clip_lengths if self.crop is None else np.full(len(self), self.crop)

    @property
    def items(self) -> list[str]:
        """Name of every item, in order; no audio is read."""
        return [clip.id for clip in self.clips]

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class index; -1 where a clip has no class, or several."""
        return np.array([_single(clip.labels) for clip in self.clips], dtype=np.int64)

    @property
    def members(self) -> np.ndarray:
        """(n, classes) bool: the classes of each clip."""
        found = np.zeros((len(self), self.n_classes), dtype=bool)
        for row, clip in zip(found, self.clips, strict=True):
            row[list(clip.labels)] = True
        return found

    def identities(self) -> list[str]:
        """Name what is heard: a hash of every item's samples, for caches of features.

        Raises:
            ValueError: the places of crops are random, so that an item is another in every epoch.
        """
        if self.random_crop and self.crop is not None:
            raise ValueError("features cannot be cached for random crops: set data.crop_s=null")
        return [digest_of(self._waveform(0, number)) for number in range(len(self))]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        clip = self.clips[number]
        target = np.zeros(self.n_classes, dtype=np.float32)
        target[list(clip.labels)] = 1.0
        return {
            "waveform": self._waveform(epoch, number),
            "label": _single(clip.labels),
            "target": target,
            "id": clip.id,
        }

    def _waveform(self, epoch: int, number: int) -> np.ndarray:
        """(time,) float32."""
        row, length = int(self.rows[number]), int(self.clip_lengths[number])
        if self.crop is None:
            return self.samples.read(row)
        if length < self.crop:
            start = int(self._rng(epoch, number).integers(length)) if self.random_crop else 0
            return np.resize(np.roll(self.samples.read(row), -start), self.crop)
        latest = length - self.crop
        start = int(self._rng(epoch, number).integers(latest + 1)) if self.random_crop else latest // 2
        return self.samples.read(row, start, self.crop)

    def _rng(self, epoch: int, number: int) -> np.random.Generator:
        return generator(self.seed, epoch, number)


def _single(labels: tuple[int, ...]) -> int:
    return labels[0] if len(labels) == 1 else -1


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack items, shorter ones padded with zeros at their end.

    Returns:
        waveform (batch, time) float32 in [-1, 1], lengths (batch,) int64, padded (whether they differ), label (batch,)
        int64, target (batch, classes) float32, id (list).
    """
    lengths = [len(item["waveform"]) for item in items]
    waveform = torch.zeros(len(items), max(lengths))
    for row, item, length in zip(waveform, items, lengths, strict=True):
        row[:length] = torch.from_numpy(item["waveform"])
    return {
        "waveform": waveform,
        "lengths": torch.tensor(lengths),
        "padded": min(lengths) < max(lengths),
        "label": torch.tensor([item["label"] for item in items]),
        "target": torch.from_numpy(np.stack([item["target"] for item in items])),
        "id": [item["id"] for item in items],
    }
