"""What all corpora of clips share: splits, crops, packed samples, batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import DataLoader

from hydraudio.audio.io import read_info
from hydraudio.core.audio_defects import file_defects, unreferenced_files
from hydraudio.core.corpus import SPLITS_OF_STAGE, CorpusDataModule
from hydraudio.core.defects import Defect, raise_first
from hydraudio.core.files import sha256_of_json
from hydraudio.core.options import check_choice, check_positive
from hydraudio.core.sampling import SAMPLINGS, SPLITS, ResumableLoader, nested_sample, sampling_weights
from hydraudio.tasks.pretraining.corpora.clips import (
    Clip,
    FileSamples,
    Parsed,
    Samples,
    Span,
    clip_lengths,
    missing_files,
    packed,
    read_spans,
)
from hydraudio.tasks.pretraining.corpora.dataset import ClipDataset, collate

log = logging.getLogger(__name__)


class ClipDataModule(CorpusDataModule):
    """Base of the corpora; a subclass implements :meth:`parse` and :meth:`split_of` and names itself in `corpus`.

    Args:
        cache_dir: where headers and packed samples are kept; never the corpus folder.
        sample_rate: in Hz; files of another rate are resampled.
        crop_s: seconds of a training item, at a place that (seed, epoch, index) decides; shorter clips are repeated
            until they fill it. None trains on whole clips.
        crops_per_clip: how often a clip is drawn in an epoch of training, each time with a crop of its own. Corpora of
            few or long clips thus have epochs that are worth a validation.
        eval_crop_s: seconds from the middle of a clip in validation and test, shorter ones repeated. None takes whole
            clips, padded with zeros at their end in a batch.
        pack: keep all clips resampled, as 16-bit samples, under `cache_dir`, so that a crop reads only its own samples.
            Otherwise each file is decoded whenever an item is read.
        sampling: natural trains on every clip once per epoch; sqrt and balanced draw as many with replacement, classes
            in proportion to the square root of their number of clips, or all equally.
        **common: see :class:`hydraudio.core.corpus.CorpusDataModule`.
    """

    def __init__(
        self,
        cache_dir: str = "data/cache",
        sample_rate: int = 16000,
        crop_s: float | None = 2.0,
        crops_per_clip: int = 1,
        eval_crop_s: float | None = None,
        pack: bool = True,
        sampling: Literal["natural", "sqrt", "balanced"] = "natural",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.sampling = check_choice("sampling", sampling, SAMPLINGS)
        self.cache_dir, self.sample_rate, self.pack = Path(cache_dir), sample_rate, pack
        self.crop_s = check_positive("crop_s", crop_s)
        if crops_per_clip < 1:
            raise ValueError(f"crops_per_clip={crops_per_clip} must be at least 1")
        self.crops_per_clip = crops_per_clip
        self.eval_crop_s = check_positive("eval_crop_s", eval_crop_s)

    def parse(self) -> Parsed:
        """Read tables and names of the corpus, whose folder exists."""
        raise NotImplementedError

    def split_of(self, clip: Clip) -> str | None:
        """Return train, val or test, or None for a clip that plays no part."""
        raise NotImplementedError

    @property
    def folds(self) -> list[str]:
        """Names of the folds (:attr:`Clip.part`) in their order; none where the corpus has splits instead."""
        return []

    def audio_defects(self, clips: Sequence[Clip], spans: Sequence[Span]) -> list[Defect]:
        """Return what is wrong with rate and length of the files, for a corpus that promises them."""
        return []

    @cached_property
    def parsed(self) -> Parsed:
        """The corpus without its audio.

        Raises:
            FileNotFoundError: no corpus folder, or no table in it.
            ValueError: the first defect of its tables.
        """
        self.prepare_data()
        parsed = self.parse()
        raise_first([defect for defect in parsed.defects if defect.severity == "error"])
        return parsed

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the class index; none where nothing is labelled."""
        return list(self.parsed.class_names)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.parsed.class_names)

    @property
    def class_counts(self) -> list[int]:
        """Training clips of each class."""
        clips = [self.parsed.clips[row] for row in self.chosen("train").tolist()]
        labels = np.array([label for clip in clips for label in clip.labels], dtype=np.int64)
        return np.bincount(labels, minlength=self.n_classes).tolist()

    @property
    def multilabel(self) -> bool:
        """True where a clip may have several classes."""
        return self.parsed.multilabel

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over everything that tables and names say of the clips, and their splits."""
        rows = [
            (clip.id, clip.labels, clip.group, self.split_of(clip), clip.start_s, clip.duration_s)
            for clip in self.parsed.clips
        ]
        return sha256_of_json([self.class_names, rows])

    def chosen(self, split: str) -> np.ndarray:
        """(n,) rows of `parsed.clips` that are in train, val or test and take part."""
        rows = np.array([row for row, own in enumerate(self._split_of_row) if own == split], dtype=np.int64)
        return rows[self._chosen(len(rows), split)]

    @cached_property
    def _split_of_row(self) -> list[str | None]:
        return [self.split_of(clip) for clip in self.parsed.clips]

    def setup(self, stage: str | None = None) -> None:
        """Read the tables and the headers of the files; pack the clips where that is wanted and not done yet.

        Raises:
            FileNotFoundError: the folder, a table or a file does not exist.
            ValueError: something is wrong with the tables or a file, or a split that is needed holds no clips.
        """
        self.prepare_data()
        for split in SPLITS_OF_STAGE[stage]:
            if split not in self.datasets and len(self.chosen(split)):
                self.datasets[split] = self._make_dataset(split)
            elif split != "val" and split not in self.datasets:
                raise ValueError(f"{self.root}: no clip is in {split}; {self._splits_text()}")
        if stage in ("fit", None):
            for sentence in self._warnings():
                log.warning("%s", sentence)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Load every item of the validation set; without one there are no loaders, and validation is left out."""
        return self._loader("val") if "val" in self.datasets else []

    def clip_loader(self, split: str, max_items: int | None = None) -> DataLoader:
        """Load whole clips of a split in a fixed order, e.g. to embed them: all, or a seeded sample of `max_items`."""
        rows = self.chosen(split)
        if max_items is not None:
            rows = rows[nested_sample(len(rows), max_items, self.seed, split)]
        dataset = self._dataset(rows, crop_s=None, random_crop=False)
        return self._build_loader(dataset, training=False, trainer=None, collate_fn=collate)

    @cached_property
    def _samples(self) -> tuple[Samples, np.ndarray]:
        """The samples of all clips, and (clips,) how many each has."""
        clips = self.parsed.clips
        raise_first(missing_files(clips))
        spans, defects = read_spans(clips, self.cache_dir)
        raise_first([*defects, *self.audio_defects(clips, spans)])
        lengths = clip_lengths(spans, self.sample_rate)
        if self.pack:
            return packed(clips, spans, self.sample_rate, self.cache_dir), lengths
        return FileSamples(clips, spans, self.sample_rate), lengths

    def _make_dataset(self, split: str) -> ClipDataset:
        if split != "train":
            return self._dataset(self.chosen(split), self.eval_crop_s, random_crop=False)
        return self._dataset(np.tile(self.chosen(split), self.crops_per_clip), self.crop_s, random_crop=True)

    def _dataset(self, rows: np.ndarray, crop_s: float | None, random_crop: bool) -> ClipDataset:
        samples, lengths = self._samples
        return ClipDataset(
            self.parsed.clips,
            rows,
            samples,
            lengths,
            n_classes=self.n_classes,
            crop=None if crop_s is None else max(1, round(crop_s * self.sample_rate)),
            random_crop=random_crop,
            seed=self.seed,
        )

    def _loader(self, split: str) -> ResumableLoader:
        """Items of similar length meet in a batch where the lengths differ."""
        dataset, training = self.datasets[split], split == "train"
        batch_size = self.batch_size if training else self.eval_batch_size
        unequal = batch_size > 1 and len(np.unique(dataset.lengths)) > 1
        return self._build_loader(
            dataset,
            training=training,
            trainer=self.trainer,
            collate_fn=collate,
            lengths=dataset.lengths if unequal else None,
            weights=sampling_weights(dataset.members, self.sampling) if training else None,
        )

    def _warnings(self) -> list[str]:
        """Return sentences about what is in order, but worth knowing before a training."""
        return [defect.message for defect in self.parsed.defects if defect.severity == "warning"]

    def _splits_text(self) -> str:
        counts = {split: len(self.chosen(split)) for split in SPLITS}
        return "the splits hold " + ", ".join(f"{split}: {count}" for split, count in counts.items())

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        """Of tables, names, headers and samples."""
        try:
            parsed = self.parse()
        except (ValueError, FileNotFoundError) as error:
            return [Defect("unusable", str(error))]
        paths = list(dict.fromkeys(clip.path for clip in parsed.clips))
        defects = [*parsed.defects, *file_defects(paths, n_processes=n_processes, on_row=on_row)]
        usable = {path for path in paths if _has_header(path)}
        if readable := [clip for clip in parsed.clips if clip.path in usable]:
            spans, beyond = read_spans(readable, self.cache_dir)
            defects += [*beyond, *self.audio_defects(readable, spans)]
        return defects + unreferenced_files(paths)


def _has_header(path: Path) -> bool:
    """Say whether length and rate of a file can be read; where not, reading its samples says why."""
    try:
        read_info(path)
    except (FileNotFoundError, ValueError):
        return False
    return True
