"""Talkers in noise in the layout of WHAM!, ``{tr,cv,tt}/{mix_single,s1}/NAME.wav``, and a miniature of it.

Wichern et al., "WHAM!: Extending Speech Separation to Noisy Environments", Interspeech 2019. With
``MIXTURES, SOURCES = "mix_both", ("s1", "s2")`` two talkers are separated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch.utils.data import Dataset

from hydraudio.audio.io import read_audio, read_info, write_audio
from hydraudio.core.corpus import CorpusDataModule
from hydraudio.core.defects import Defect, raise_first
from hydraudio.core.files import sha256_of_json
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.sampling import ResumableLoader, generator
from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.scenes import INDOOR_SCENES, OUTDOOR_SCENES, make_scene
from hydraudio.sounds.talkers import make_talker
from hydraudio.tasks.separation.corpora.mixtures import collate, is_silent, silence_message

FOLDERS = {"train": "tr", "val": "cv", "test": "tt"}
MIXTURES, SOURCES = "mix_single", ("s1",)


class NoisySpeech(CorpusDataModule):
    """A talker in noise in each file.

    Args:
        sample_rate: that all files must have, in Hz.
        segment_s: length of a random crop in training, in seconds; shorter files stay whole. None takes all whole.
        **common: see :class:`hydraudio.core.corpus.CorpusDataModule`.
    """

    corpus: ClassVar[str] = "my_project"
    layout: ClassVar[str] = "the folder that holds tr, cv and tt"
    n_sources = len(SOURCES)

    def __init__(self, sample_rate: int = 8000, segment_s: float | None = 2.0, **common: Any) -> None:
        super().__init__(**common)
        self.sample_rate = sample_rate
        self.segment = None if segment_s is None else round(segment_s * sample_rate)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the names and the lengths of the files."""
        files = sorted(path for folder in FOLDERS.values() for path in (self.root / folder / MIXTURES).glob("*.wav"))
        return sha256_of_json([[str(path.relative_to(self.root)), read_info(path).n_samples] for path in files])

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        """Missing files, other rates, unequal lengths, silence."""
        defects = []
        for split, folder in FOLDERS.items():
            found = missing_files(self.root / folder)
            defects += found
            if found:
                continue
            dataset = MixtureDataset(self.root / folder, self.sample_rate)
            for number in range(len(dataset)):
                try:
                    dataset[0, number]
                except ValueError as error:
                    defects.append(Defect(f"bad_{split}", str(error)))
        return defects

    @classmethod
    def embedded_corpus(cls) -> type[Miniature]:
        return Miniature

    def _make_dataset(self, split: str) -> MixtureDataset:
        folder = self.root / FOLDERS[split]
        raise_first(missing_files(folder))
        return MixtureDataset(folder, self.sample_rate, self.segment if split == "train" else None, self.seed)

    def _loader(self, split: str) -> ResumableLoader:
        dataset = self.datasets[split]
        return self._build_loader(dataset, training=split == "train", trainer=self.trainer, collate_fn=collate)


class MixtureDataset(Dataset):
    """The mixtures of a folder, addressed by (epoch, index): a crop depends on nothing but (seed, epoch, index).

    Args:
        folder: holds mix_single and s1.
        sample_rate: that all files must have, in Hz.
        segment: samples of a random crop; None takes all items whole.
        seed: of the crops.
    """

    def __init__(self, folder: Path, sample_rate: int, segment: int | None = None, seed: int = 0) -> None:
        self.folder, self.sample_rate, self.segment, self.seed = folder, sample_rate, segment, seed
        self.items = sorted(path.stem for path in (folder / MIXTURES).glob("*.wav"))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        name = self.items[index]
        n_samples = read_info(self.folder / MIXTURES / f"{name}.wav").n_samples
        length = n_samples if self.segment is None else min(self.segment, n_samples)
        rng = generator(self.seed, epoch, index)
        for start in rng.integers(0, n_samples - length + 1, 8).tolist():  # a talker may pause for a crop
            target = np.stack([self._read(part, name, start, length) for part in SOURCES])
            if not any(is_silent(talker) for talker in target):
                break
        else:
            raise ValueError(silence_message(str(self.folder / SOURCES[0] / f"{name}.wav"), "a talker"))
        mixture = self._read(MIXTURES, name, start, length)
        return {"mixture": mixture, "target": target, "id": name, "variant": MIXTURES, "degenerate": False}

    def _read(self, part: str, name: str, start: int, length: int) -> np.ndarray:
        """(time,) float32 in [-1, 1]."""
        path = self.folder / part / f"{name}.wav"
        return read_audio(path, sample_rate=self.sample_rate, start=start, n_samples=length)


def missing_files(folder: Path) -> list[Defect]:
    """Say what a folder lacks of the layout."""
    names = sorted(path.name for path in (folder / MIXTURES).glob("*.wav"))
    if not names:
        return [Defect("missing_root", f"{folder / MIXTURES}: no mixtures; set data.root to {NoisySpeech.layout}")]
    paths = [folder / part / name for part in SOURCES for name in names]
    return [Defect("missing_file", f"{path}: there is a mixture of this name") for path in paths if not path.is_file()]


@dataclass(frozen=True, kw_only=True)
class Miniature(EmbeddedCorpus):
    """A corpus of synthetic talkers and scenes in the real layout; the talkers of the test are heard nowhere else.

    Attributes:
        n_train: mixtures of tr. Likewise `n_val` of cv and `n_test` of tt.
        sample_rate: in Hz.
    """

    n_train: int = 72
    n_val: int = 12
    n_test: int = 12
    sample_rate: int = 8000

    version = 1  # raise it whenever the same attributes give other files

    def write(self, root: Path) -> None:
        scenes = sorted({**INDOOR_SCENES, **OUTDOOR_SCENES})
        for number, (split, n_items) in enumerate(zip(FOLDERS, (self.n_train, self.n_val, self.n_test), strict=True)):
            for item in range(n_items):
                rng = generator(self.seed, number, item)
                n_samples = round(rng.uniform(2.0, 3.0) * self.sample_rate)
                talker = make_talker(10 * number + int(rng.integers(10)), self.seed)
                speech = speak(talker, n_samples, self.sample_rate, rng)
                noise = make_scene(str(rng.choice(scenes)), n_samples, self.sample_rate, rng)
                snr_db = rng.uniform(-2.0, 6.0)
                noise = noise * np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
                gain = 0.5 / np.abs(speech + noise).max()
                for part, signal in ((MIXTURES, speech + noise), (SOURCES[0], speech)):
                    path = root / FOLDERS[split] / part / f"{split}{item:03d}.wav"
                    write_audio(path, (gain * signal).astype(np.float32), self.sample_rate)
