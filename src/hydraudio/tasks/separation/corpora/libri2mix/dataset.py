"""Items of a Libri2Mix subset, cropped or whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hydraudio.audio.io import read_audio
from hydraudio.core.sampling import generator
from hydraudio.tasks.separation.corpora.libri2mix.index import PARTS_OF, SOURCES_OF, MixtureIndex
from hydraudio.tasks.separation.corpora.mixtures import is_silent, level_db, silence_message

_N_CROP_DRAWS = 8


class Libri2MixDataset(Dataset):
    """Items of one or several subsets, addressed by (epoch, index).

    Args:
        indices: the subsets' rows.
        rows: of each index, (m,) row numbers that take part.
        sample_rate: that all files must have, in Hz.
        lengths: (n,) samples of every item's files, in the order of `rows`.
        segment: samples of a random crop; shorter items stay whole. None takes all items whole.
        seed: of the crops.
        metadata: add the dict of levels and talkers.
    """

    def __init__(
        self,
        indices: list[MixtureIndex],
        rows: list[np.ndarray],
        *,
        sample_rate: int,
        lengths: np.ndarray,
        segment: int | None = None,
        seed: int = 0,
        metadata: bool = False,
    ) -> None:
        self.indices, self.sample_rate, self.file_lengths = indices, sample_rate, lengths
        self.segment, self.seed, self.metadata = segment, seed, metadata
        self.subsets = np.repeat(np.arange(len(indices)), [len(chosen) for chosen in rows])
        self.rows = np.concatenate(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) samples of every item as it is given out."""
        return self.file_lengths if self.segment is None else np.minimum(self.file_lengths, self.segment)

    @property
    def items(self) -> list[tuple[str, str]]:
        """(id, variant) of every item, in order; no audio is read."""
        chosen = ((self.indices[subset], row) for subset, row in zip(self.subsets, self.rows, strict=True))
        return [(str(index.ids[row]), index.problem) for index, row in chosen]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        index, row = self.indices[self.subsets[number]], int(self.rows[number])
        mixture, target = self._read(index, row, int(self.file_lengths[number]), epoch, number)
        item = {
            "mixture": mixture,
            "target": target,
            "id": str(index.ids[row]),
            "variant": index.problem,
            "degenerate": False,
        }
        if self.metadata:
            item["metadata"] = self._metadata(index, row, mixture, target)
        return item

    def _read(
        self, index: MixtureIndex, row: int, length: int, epoch: int, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(time,) mixture and (n_sources, time) targets; a crop begins where all targets are audible."""
        sources = SOURCES_OF[index.problem]
        if self.segment is None or length <= self.segment:
            target = np.stack([read_whole(index, row, part, self.sample_rate, length) for part in sources])
            _require_audible(index, row, dict(zip(sources, target, strict=True)))
            return read_whole(index, row, index.problem, self.sample_rate, length), target
        rng = generator(self.seed, epoch, number)
        for start in rng.integers(0, length - self.segment + 1, _N_CROP_DRAWS).tolist():
            target = np.stack([self._read_crop(index, row, part, start) for part in sources])
            if not any(is_silent(signal) for signal in target):
                break
        else:  # a talker may pause for a crop, but not throughout
            whole = {part: read_whole(index, row, part, self.sample_rate, length) for part in sources}
            _require_audible(index, row, whole)
        return self._read_crop(index, row, index.problem, start), target

    def _read_crop(self, index: MixtureIndex, row: int, part: str, start: int) -> np.ndarray:
        path = index.path(row, part)
        return read_audio(path, sample_rate=self.sample_rate, start=start, n_samples=self.segment)

    def _metadata(self, index: MixtureIndex, row: int, mixture: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        known: dict[str, Any] = {"talkers": " ".join(index.talkers(row)[: len(target)])}
        sexes = [sex for sex in index.sexes[row].tolist() if sex][: len(target)]
        if sexes:
            known["sexes"] = "+".join(sorted(sexes))
        levels = {f"source_{k}_snr_db": level_db(source, mixture - source) for k, source in enumerate(target, start=1)}
        if len(target) > 1:
            levels["ssr_db"] = level_db(target[0], target[1])
        if "noise" in PARTS_OF[index.problem]:
            speech = target.sum(axis=0)
            levels["noise_db"] = level_db(mixture - speech, speech)
        return known | {key: level for key, level in levels.items() if level is not None}


def read_whole(index: MixtureIndex, row: int, part: str, sample_rate: int, length: int) -> np.ndarray:
    """Return (time,) float32 in [-1, 1]: a whole file, which must have the length of its row."""
    path = index.path(row, part)
    waveform = read_audio(path, sample_rate=sample_rate)
    if len(waveform) != length:
        source = index.where(row) if index.table_lengths[row] else f"{index.path(row, index.problem)}"
        raise ValueError(
            f"{path}: has {len(waveform)} samples, expected {length} as {source} says; write the files of this row "
            "again or remove it"
        )
    return waveform


def _require_audible(index: MixtureIndex, row: int, signals: dict[str, np.ndarray]) -> None:
    for part, signal in signals.items():
        if is_silent(signal):
            raise ValueError(silence_message(str(index.path(row, part)), part))
