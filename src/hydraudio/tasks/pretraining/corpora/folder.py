"""Any collection of sounds: a tree of files, or a table that names them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hydraudio.audio.io import SUFFIXES, resample, write_audio
from hydraudio.core.defects import Defect
from hydraudio.core.files import sha256_of
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.sampling import SPLITS, generator
from hydraudio.tasks.pretraining.corpora.base import ClipDataModule
from hydraudio.tasks.pretraining.corpora.clips import Clip, Parsed
from hydraudio.tasks.pretraining.corpora.esc50 import EVENT_OF, FILE_RATE, recorded_event
from hydraudio.tasks.pretraining.corpora.tables import (
    LabelledClip,
    Meaning,
    numbered,
    read_any,
    read_class_table,
    read_clips,
    sorted_names,
)

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Ours -> names of a split in tables, letters of either case."""


class AudioFolderDataModule(ClipDataModule):
    """Clips of a folder, with classes or without.

    Without a table every audio file below the root is a clip, its class is the name of the root's folder that it lies
    in, and files of one folder below that (`class/source/file`) stay together when the clips are divided. With a table
    the columns say all that; without a column of a split or a fold the groups are divided at random.

    Args:
        table: a .csv, .parquet, .json (AST) or .tsv (fairseq), or a mapping of train, val and test to one each; paths
            relative to the root. None takes the tree.
        column_mapping: meaning -> name of a column; the keys are those of
            :data:`hydraudio.tasks.pretraining.corpora.tables.NAMES`. The others are found by their names.
        class_table: AST's `class_labels_indices.csv`, which names the labels of the table and orders the classes.
        audio_dir: folder of the table's relative paths, itself relative to the root; a fairseq manifest names its own.
        multilabel: a clip may have several classes; a cell separates them by commas or semicolons.
        labelled: False pays no heed to classes; the files of each folder then stay together.
        fold: where the table has folds, the number of the one to test on, counted from 1 in their order; the next one
            validates.
        val_share: of the groups of every class, where the table has neither splits nor folds; likewise `test_share`.
        test_share: may be 0, as may `val_share`.
        split_seed: of that division, apart from `seed`, so that runs with other seeds keep the test set.
        **common: see :class:`hydraudio.tasks.pretraining.corpora.base.ClipDataModule`.
    """

    corpus: ClassVar[str] = "sounds"
    layout: ClassVar[str] = "a folder of sounds"

    def __init__(
        self,
        table: str | Mapping[str, str] | None = None,
        column_mapping: Mapping[str, str] | None = None,
        class_table: str | None = None,
        audio_dir: str | None = None,
        multilabel: bool = False,
        labelled: bool = True,
        fold: int = 1,
        val_share: float = 0.1,
        test_share: float = 0.2,
        split_seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if isinstance(table, Mapping) and not set(table) <= set(SPLITS):
            raise ValueError(f"table has the keys {', '.join(table)}; they may be {', '.join(SPLITS)}")
        if not (val_share >= 0 and test_share >= 0 and val_share + test_share < 1):
            raise ValueError(f"val_share={val_share} and test_share={test_share} must leave something for training")
        self.table, self.column_mapping, self.class_table = table, dict(column_mapping or {}), class_table
        self.audio_dir, self.labelled, self.fold = audio_dir or "", labelled, fold
        self._multilabel = multilabel
        self.val_share, self.test_share, self.split_seed = val_share, test_share, split_seed

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedFolder]:
        return EmbeddedFolder

    @property
    def protocol(self) -> str:
        """How the clips are divided, in a word."""
        if self.folds:
            return f"fold {self.fold}"
        return "splits" if any(clip.part for clip in self.parsed.clips) else "random groups"

    @property
    def folds(self) -> list[str]:
        parts = {clip.part for clip in self.parsed.clips}
        return [] if parts == {""} or _known_splits(parts) else sorted(parts, key=_by_value)

    def parse(self) -> Parsed:
        """Read the tree or the tables."""
        clips, defects = self._read_tables() if self.table else self._read_tree()
        if not self.labelled:
            clips = [LabelledClip(each.clip, ()) for each in clips]
        names = list(dict.fromkeys(self._class_names.values())) if self.labelled else []
        names = names or sorted_names(clips)
        defects += _repeated(clips)
        return Parsed(numbered(clips, names), names, self._multilabel, defects)

    @cached_property
    def _class_names(self) -> dict[str, str]:
        return read_class_table(self.root / self.class_table) if self.class_table else {}

    def _read_tables(self) -> tuple[list[LabelledClip], list[Defect]]:
        meaning = Meaning(self.column_mapping, self.root / self.audio_dir, self._class_names, self._multilabel)
        tables = self.table if isinstance(self.table, Mapping) else {"": str(self.table)}
        clips, defects = [], []
        for part, name in tables.items():
            found, wrong = read_clips(read_any(self.root / name), self.root / name, meaning, part)
            clips += found
            defects += wrong
        return clips, defects

    def _read_tree(self) -> tuple[list[LabelledClip], list[Defect]]:
        clips = []
        for path in sorted(self.root.rglob("*")):
            place = path.relative_to(self.root)
            if path.suffix.lower() not in SUFFIXES or any(part[0] == "." for part in place.parts):
                continue
            folders = place.parts[:-1]
            if self.labelled and not folders:
                message = f"{path}: lies in no folder that names its class; move it, or set data.labelled=false"
                return [], [Defect("no_class", message)]
            stay_together = len(folders) > (1 if self.labelled else 0)
            group = "/".join(folders) if stay_together else str(place)
            clip = Clip(id=str(place), path=path, group=group)
            clips.append(LabelledClip(clip, folders[:1] if self.labelled else ()))
        if not clips:
            message = f"{self.root}: holds no audio file ({', '.join(SUFFIXES)}); check data.root"
            return [], [Defect("missing_root", message)]
        return clips, []

    def split_of(self, clip: Clip) -> str | None:
        """Return the split of a clip, by its column, its fold or its group."""
        return self._splits.get(clip.part if clip.part else clip.group)

    @cached_property
    def _splits(self) -> dict[str, str]:
        """Part (of a table with splits or folds) or group -> train, val or test."""
        clips = self.parsed.clips
        parts = {clip.part for clip in clips}
        if parts == {""}:
            return divide(clips, self.val_share, self.test_share, self.split_seed)
        if "" in parts:
            raise ValueError(f"{self.root}: some rows of the table name a split or fold, others none; fill all in")
        return _known_splits(parts) or _fold_splits(sorted(parts, key=_by_value), self.fold)


def divide(clips: Sequence[Clip], val_share: float, test_share: float, seed: int) -> dict[str, str]:
    """Divide groups at random, of every class the same share: group -> split.

    A group's place depends on (seed, group) alone, so that clips that are added leave most others where they are.
    """
    strata = defaultdict(set)
    stratum_of: dict[str, tuple[int, ...]] = {}
    for clip in clips:
        strata[stratum_of.setdefault(clip.group, clip.labels[:1])].add(clip.group)
    splits = {}
    for groups in strata.values():
        order = sorted(groups, key=lambda group: sha256_of(f"{seed}\0{Path(group).as_posix()}"))
        n_test, n_val = (math.floor(share * len(order) + 0.5) for share in (test_share, val_share))
        for number, group in enumerate(order):
            splits[group] = "test" if number < n_test else "val" if number < n_test + n_val else "train"
    return splits


def _known_splits(parts: set[str]) -> dict[str, str]:
    """Name in the table -> split, if all names are known."""
    known = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    found = {part: known.get(part.lower(), "") for part in parts}
    return found if all(found.values()) else {}


def _fold_splits(folds: Sequence[str], fold: int) -> dict[str, str]:
    """Name of a fold -> split."""
    if len(folds) < 3 or not 1 <= fold <= len(folds):
        raise ValueError(
            f"data.fold={fold}: the table has the folds or splits {', '.join(folds)}; there must be three folds at "
            f"least, or splits called {', '.join(SPLITS)}"
        )
    splits = dict.fromkeys(folds, "train")
    splits[folds[fold - 1]] = "test"
    splits[folds[fold % len(folds)]] = "val"
    return splits


def _by_value(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (0, name)


def _repeated(clips: Sequence[LabelledClip]) -> list[Defect]:
    seen: dict[str, Clip] = {}
    defects = []
    for each in clips:
        clip = each.clip
        if clip.id in seen:
            message = f"{clip.id} stands in {seen[clip.id].where or seen[clip.id].path}, too; keep one of the rows"
            defects.append(Defect("duplicate_row", clip.described(message)))
        seen.setdefault(clip.id, clip)
    return defects


# --- the miniature ---


@dataclass(frozen=True, kw_only=True)
class EmbeddedFolder(EmbeddedCorpus):
    """`class/source/take.wav` or `.flac` of 0.5 to 5 s, at 16, 22.05 and 44.1 kHz.

    Attributes:
        n_classes: 1 to 16, those of the miniature of ESC-50.
        n_sources: of each class.
    """

    n_classes: int = 4
    n_sources: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.n_classes <= len(EVENT_OF) or self.n_sources < 1:
            raise ValueError(
                f"n_classes is {self.n_classes} and n_sources {self.n_sources}; there are 1 to "
                f"{len(EVENT_OF)} classes, and at least one source"
            )

    def write(self, root: Path) -> None:
        for number, category in enumerate(list(EVENT_OF)[: self.n_classes]):
            for source in range(self.n_sources):
                rate = (16000, 22050, FILE_RATE)[source % 3]
                for take in range(1 + source % 2):
                    keys = (self.seed, 33, number, source)
                    sound = recorded_event(category, generator(*keys), generator(*keys, take))
                    sound = resample(sound, FILE_RATE, rate)
                    path = root / category / f"source_{source:03d}" / f"take_{take}.{'wav' if source % 2 else 'flac'}"
                    write_audio(path, sound / np.float32(max(1.0, np.abs(sound).max())), rate)
