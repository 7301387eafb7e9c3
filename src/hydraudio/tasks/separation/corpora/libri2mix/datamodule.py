"""Libri2Mix: two talkers of LibriSpeech, clean or with noise of WHAM!, for separation and enhancement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from hydraudio.core.corpus import CorpusDataModule
from hydraudio.core.defects import Defect, or_raise, raise_first
from hydraudio.core.download import Source
from hydraudio.core.options import check_choice, check_positive
from hydraudio.core.sampling import ResumableLoader
from hydraudio.tasks.separation.corpora.libri2mix.check import find_defects
from hydraudio.tasks.separation.corpora.libri2mix.dataset import Libri2MixDataset
from hydraudio.tasks.separation.corpora.libri2mix.embedded import EmbeddedLibri2Mix
from hydraudio.tasks.separation.corpora.libri2mix.index import (
    MODES,
    SOURCES_OF,
    MixtureIndex,
    Place,
    index_fingerprint,
    missing_files,
    parse_index,
)
from hydraudio.tasks.separation.corpora.mixtures import collate

log = logging.getLogger(__name__)

SAMPLE_RATES = (8000, 16000)


class Libri2MixDataModule(CorpusDataModule):
    """Separation of two talkers, or enhancement of one, on a corpus that the LibriMix generator wrote.

    Cosentino, Pariente, Cornell, Deleforge and Vincent, "LibriMix: An Open-Source Dataset for Generalizable Speech
    Separation", 2020.

    Args:
        problem: mix_clean (separate two talkers), mix_both (two talkers in noise) or mix_single (enhance one in noise).
        sample_rate: 8000 or 16000 Hz.
        mode: "min" (mixtures end with the shorter utterance) or "max" (with the longer one).
        train_subsets: folder or folders of the training set.
        val_subsets: likewise for validation.
        test_subsets: likewise for testing.
        segment_s: length of a random crop in training; shorter utterances stay whole. None trains on whole ones.
        min_length_s: shorter mixtures do not take part in training.
        bucketing: make batches of mixtures of similar length, in training and evaluation.
        common: see `CorpusDataModule`. `root` is the folder `Libri2Mix`, which holds `wav8k` or `wav16k`.

    Attributes:
        n_sources: targets per item.
        problems: number of targets of every problem.
    """

    corpus: ClassVar[str] = "libri2mix"
    layout: ClassVar[str] = "the folder Libri2Mix, which holds wav8k or wav16k"
    source: ClassVar[Source] = Source(
        by_hand="Libri2Mix is written, not fetched: the generator of https://github.com/JorisCos/LibriMix makes it "
        "from LibriSpeech and WHAM!; set data.root to the folder Libri2Mix that it writes."
    )
    problems: ClassVar[dict[str, int]] = {problem: len(sources) for problem, sources in SOURCES_OF.items()}

    def __init__(
        self,
        *,
        problem: Literal["mix_clean", "mix_both", "mix_single"] = "mix_clean",
        sample_rate: int = 8000,
        mode: Literal["min", "max"] = "min",
        train_subsets: str | Sequence[str] = "train-100",
        val_subsets: str | Sequence[str] = "dev",
        test_subsets: str | Sequence[str] = "test",
        segment_s: float | None = None,
        min_length_s: float | None = None,
        bucketing: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.problem, self.mode = check_choice("problem", problem, SOURCES_OF), check_choice("mode", mode, MODES)
        self.sample_rate = check_choice("sample_rate", sample_rate, SAMPLE_RATES)
        self.n_sources = len(SOURCES_OF[problem])
        given = {"train": train_subsets, "val": val_subsets, "test": test_subsets}
        self.subsets = {stage: _subset_names(stage, names) for stage, names in given.items()}
        self.segment_s = check_positive("segment_s", segment_s)
        self.min_length_s = check_positive("min_length_s", min_length_s)
        self.bucketing = bucketing

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedLibri2Mix]:
        return EmbeddedLibri2Mix

    @property
    def place(self) -> Place:
        """Where the audio of this mode and sample rate lies."""
        return Place(self.root, self.sample_rate, self.mode)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the rows of all subsets that are there (hex); known once the corpus exists."""
        self._require_root()
        names = dict.fromkeys(name for names in self.subsets.values() for name in names)
        indices = [parse_index(self.place, name, self.problem)[0] for name in names]
        return index_fingerprint(self.place, [index for index in indices if index is not None])

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        """Of all subsets named here."""
        return find_defects(self.place, self.subsets, self.problem, n_processes=n_processes, on_row=on_row)

    def _make_dataset(self, split: str) -> Libri2MixDataset:
        training = split == "train"
        indices = [or_raise(parse_index(self.place, name, self.problem)) for name in self.subsets[split]]
        rows = self._limited(indices, split)
        for index, chosen in zip(indices, rows, strict=True):
            raise_first(missing_files(index, chosen, (self.problem, *SOURCES_OF[self.problem])))
        lengths = [index.lengths(chosen) for index, chosen in zip(indices, rows, strict=True)]
        if training and self.min_length_s is not None:
            rows, lengths = self._without_short(rows, lengths)
        return Libri2MixDataset(
            indices,
            rows,
            sample_rate=self.sample_rate,
            lengths=np.concatenate(lengths),
            segment=round(self.segment_s * self.sample_rate) if training and self.segment_s is not None else None,
            seed=self.seed,
            metadata=not training,
        )

    def _limited(self, indices: list[MixtureIndex], split: str) -> list[np.ndarray]:
        """Of each index (m,) rows, as many in all as take part, in the table's order."""
        counts = [len(index) for index in indices]
        chosen = self._chosen(sum(counts), split)
        stops = np.cumsum(counts)
        return [
            chosen[(chosen >= stop - count) & (chosen < stop)] - (stop - count)
            for stop, count in zip(stops, counts, strict=True)
        ]

    def _without_short(
        self, rows: list[np.ndarray], lengths: list[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        assert self.min_length_s is not None
        kept = [each >= round(self.min_length_s * self.sample_rate) for each in lengths]
        n_kept, n_rows = sum(int(each.sum()) for each in kept), sum(len(each) for each in kept)
        if n_kept == 0:
            longest_s = max(int(each.max()) for each in lengths) / self.sample_rate
            raise ValueError(
                f"min_length_s={self.min_length_s} leaves no training mixture in {self.place.folder}: the longest has "
                f"{longest_s:g} s; choose less"
            )
        if n_kept < n_rows:
            log.info("%d of %d training mixtures are shorter than %g s", n_rows - n_kept, n_rows, self.min_length_s)
        pairs = zip(rows, lengths, kept, strict=True)
        short_free = [(each[mask], length[mask]) for each, length, mask in pairs]
        return [each for each, _ in short_free], [length for _, length in short_free]

    def _loader(self, split: str) -> ResumableLoader:
        dataset, training = self.datasets[split], split == "train"
        unequal = (self.batch_size if training else self.eval_batch_size) > 1 and len(np.unique(dataset.lengths)) > 1
        return self._build_loader(
            dataset,
            training=training,
            trainer=self.trainer,
            collate_fn=collate,
            lengths=dataset.lengths if self.bucketing and unequal else None,
        )


def _subset_names(stage: str, names: str | Sequence[str]) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{stage}_subsets={list(names)} must name at least one folder, and none twice")
    return names
