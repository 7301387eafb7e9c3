"""PolSESS: Polish speech with scenes, events and reverberation, for enhancement and separation.

Problems and variants are those of MM-IPC (see `mm_ipc.py`). Training draws one variant per item
and epoch, validation gives every item a fixed one, testing expands every item into all variants that fit it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from hydraudio.audio.packing import is_pack
from hydraudio.core.corpus import CorpusDataModule
from hydraudio.core.defects import Defect, or_raise, raise_first
from hydraudio.core.download import Source
from hydraudio.core.options import check_choice, check_positive, check_probability, check_range
from hydraudio.core.sampling import ResumableLoader
from hydraudio.tasks.separation.corpora.mixtures import collate
from hydraudio.tasks.separation.corpora.polsess import mm_ipc
from hydraudio.tasks.separation.corpora.polsess.check import find_defects
from hydraudio.tasks.separation.corpora.polsess.dataset import FixedPlans, PolSESSDataset, TrainingPlans
from hydraudio.tasks.separation.corpora.polsess.dynamic_mixing import Mixer, check_mixing, voices_of
from hydraudio.tasks.separation.corpora.polsess.embedded import EmbeddedPolSESS
from hydraudio.tasks.separation.corpora.polsess.index import (
    CorpusIndex,
    corpus_fingerprint,
    missing_files,
    open_store,
    parse_index,
)
from hydraudio.tasks.separation.corpora.polsess.speed import check_speed

_METADATA_COMPONENTS = {"event", "sp1", "sp2"}


class PolSESSDataModule(CorpusDataModule):
    """Speech enhancement and separation on a corpus in PolSESS layout.

    Kleć, Szklanny and Wieczorkowska, "A Solution for Developing Corpora for Polish Speech Enhancement in
    Complex Acoustic Environments", 2024.

    Args:
        problem: ES (enhance speaker 1), EB (enhance both) or SB (separate both).
        sample_rate: in Hz, that all files must have.
        allowed_variants: one variant or a list of them, None for all that fit a row; rows that none fits are
            left out.
        val_variants: the same for validation, None for `allowed_variants`.
        test_variants: the same for testing, None for all that fit a row.
        variant_weights: relative frequencies in training; a variant that is not named counts 1.
        swap_talkers: probability that speaker 1 and 2 change places in training (ES; EB and SB use both
            alike).
        gain_db: [lowest, highest] of a random level change of input and target in training.
        flip_polarity: probability that input and target are inverted in training.
        segment_s: length of a random crop in training, None for whole clips.
        dynamic_mixing: settings (see `dynamic_mixing.MixingSettings`; {} for its defaults) with which training draws
            the components of an item from different rows; None keeps the rows of the table.
        speed: [lowest, highest] factor by which each talker of a training item is faster, its reverberation too. The
            crop must leave room for the longer excerpts that this reads.
        speed_noises: change scene and event as well, each with a factor of its own.
        construction: "auto" reads the fewest files; "subtract" and "add" force one form.
        common: see `CorpusDataModule`; the limits count rows, each of which gives an item per variant in testing.
            `root` holds WAV files, or what `scripts/separation/pack_polsess.py` wrote.

    Attributes:
        n_sources: targets per item.
        problems: number of targets of every problem.
    """

    corpus: ClassVar[str] = "polsess"
    layout: ClassVar[str] = "a folder that holds train, val and test"
    source: ClassVar[Source] = Source(
        by_hand="PolSESS has no public address that is known here: ask its authors, or build a corpus of its form from "
        "recordings of your own with scripts/separation/build_polsess.py."
    )
    problems: ClassVar[dict[str, int]] = {problem: mm_ipc.n_sources(problem) for problem in mm_ipc.PROBLEMS}

    def __init__(
        self,
        *,
        problem: Literal["ES", "EB", "SB"] = "ES",
        sample_rate: int = 8000,
        allowed_variants: str | Sequence[str] | None = None,
        val_variants: str | Sequence[str] | None = None,
        test_variants: str | Sequence[str] | None = None,
        variant_weights: Mapping[str, float] | None = None,
        swap_talkers: float = 0.0,
        gain_db: Sequence[float] | None = None,
        flip_polarity: float = 0.0,
        segment_s: float | None = None,
        dynamic_mixing: Mapping[str, Any] | None = None,
        speed: Sequence[float] | None = None,
        speed_noises: bool = False,
        construction: Literal["auto", "subtract", "add"] = "auto",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.problem = mm_ipc.check_problem(problem)
        self.construction = check_choice("construction", construction, mm_ipc.CONSTRUCTIONS)
        self.n_sources = mm_ipc.n_sources(problem)
        self.sample_rate = sample_rate
        allowed = mm_ipc.check_variants(allowed_variants, "allowed_variants")
        self.variant_weights = _check_weights(variant_weights, allowed)
        self._training_variants = _without_zero_weight(allowed, self.variant_weights)
        self.variants = {
            "train": self._training_variants,
            "val": mm_ipc.check_variants(val_variants, "val_variants") or allowed,
            "test": mm_ipc.check_variants(test_variants, "test_variants"),
        }
        # EB and SB use both talkers alike
        self.swap_talkers = check_probability("swap_talkers", swap_talkers) if problem == "ES" else 0.0
        self.flip_polarity = check_probability("flip_polarity", flip_polarity)
        self.gain_db = check_range("gain_db", gain_db)
        self.segment_s = check_positive("segment_s", segment_s)
        self.dynamic_mixing, self.speed = check_mixing(dynamic_mixing), check_speed(speed, speed_noises)
        self._voices: np.ndarray | None = None

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedPolSESS]:
        return EmbeddedPolSESS

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the corpus's tables (hex); known once the corpus exists."""
        self._require_root()
        return corpus_fingerprint(self.root)

    def set_training_variants(self, variants: str | Sequence[str] | None) -> None:
        """Restricts training to some of the allowed variants, None for all of them.

        Rows that none of them fits are left out. It applies to loaders that are made afterwards; those that exist,
        and the workers that they have, stay as they are. Validation and testing do not change.
        """
        names = mm_ipc.check_variants(variants, "variants")
        if names is not None and self._training_variants is not None:
            outside = [name for name in names if name not in self._training_variants]
            if outside:
                raise ValueError(
                    f"variants {', '.join(outside)} are not among those that data.allowed_variants and "
                    f"data.variant_weights leave: {', '.join(self._training_variants)}"
                )
        chosen = self._training_variants if names is None else names
        if chosen != self.variants["train"]:
            self.variants["train"] = chosen
            if "train" in self.datasets:
                self.datasets["train"] = self._make_dataset("train")

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        return find_defects(self.root, self.sample_rate, n_processes=n_processes, on_row=on_row)

    def _make_dataset(self, split: str) -> PolSESSDataset:
        known = self.datasets.get(split)
        index = known.index if known else or_raise(parse_index(self.root, split))
        rows = self._select_rows(index, split)
        training = split == "train"
        if not is_pack(self.root):
            self._require_files(index, rows, split)
        store = known.store if known else open_store(self.root, index, self.sample_rate)
        n_samples = self._segment_samples(store.n_samples, index) if training else store.n_samples
        plans: TrainingPlans | FixedPlans = (
            self._training_plans(index, rows, store.n_samples - self._excerpt_samples(n_samples))
            if training
            else FixedPlans(self._evaluation_pairs(index, rows, split))
        )
        return PolSESSDataset(
            index,
            store,
            plans,
            problem=self.problem,
            construction=self.construction,
            n_samples=n_samples,
            metadata=not training,
        )

    def _select_rows(self, index: CorpusIndex, split: str) -> np.ndarray:
        """(m,) rows with an allowed variant, as many of them as take part, in the table's order."""
        rooms = [room for room in (False, True) if mm_ipc.compatible_variants(room, self.variants[split])]
        rows = np.flatnonzero(np.isin(index.indoor, rooms))
        if len(rows) == 0:
            place = "indoor" if index.indoor.any() else "outdoor"
            raise ValueError(
                f"{index.table}: none of the variants {list(self.variants[split] or ())} fits any row: all rows are "
                f"{place}, which takes {', '.join(mm_ipc.compatible_variants(place == 'indoor'))}"
            )
        return rows[self._chosen(len(rows), split)]

    def _require_files(self, index: CorpusIndex, rows: np.ndarray, split: str) -> None:
        needed = {room: self._needed_components(room, split) for room in (False, True)}
        raise_first(missing_files(index, rows, needed))

    def _needed_components(self, room: bool, split: str) -> set[str]:
        """Everything that a row of that place may be asked for."""
        variants = mm_ipc.compatible_variants(room, self.variants[split])
        if split != "train":
            return mm_ipc.needed_components(self.problem, variants, room, self.construction) | _METADATA_COMPONENTS
        mixing, exchangeable = self.dynamic_mixing, self.swap_talkers > 0
        needed = set()
        if mixing is None or mixing.probability < 1:
            construction = "add" if self.speed else self.construction
            needed |= mm_ipc.needed_components(self.problem, variants, room, construction, exchangeable)
        if mixing is not None:  # either talker of a row can become either talker of an item
            needed |= mm_ipc.needed_components(self.problem, variants, room, "add", exchangeable=True) | {"sp1", "sp2"}
        if mixing is not None and mixing.reverb == "new" and mixing.probability == 1:
            needed -= {"sp1_reverb", "sp2_reverb", "ev_reverb"}
        return needed

    def _segment_samples(self, clip_samples: int, index: CorpusIndex) -> int:
        n_samples = clip_samples if self.segment_s is None else round(self.segment_s * self.sample_rate)
        if not 0 < n_samples <= clip_samples:
            raise ValueError(
                f"segment_s={self.segment_s} is {n_samples} samples, but the clips of {index.folder} have "
                f"{clip_samples}; choose at most {clip_samples / self.sample_rate:g} s"
            )
        if self._excerpt_samples(n_samples) > clip_samples:
            assert self.speed is not None
            longest_s = int(100 * clip_samples / self.sample_rate / self.speed.high) / 100
            raise ValueError(
                f"speed up to {self.speed.high:g} reads excerpts of {self._excerpt_samples(n_samples)} samples, but "
                f"the clips of {index.folder} have {clip_samples}; set data.segment_s to at most {longest_s:g}"
            )
        return n_samples

    def _excerpt_samples(self, n_samples: int) -> int:
        """Largest number of samples of a clip that an item of n_samples is made from."""
        return n_samples if self.speed is None else self.speed.longest_excerpt(n_samples)

    def _training_plans(self, index: CorpusIndex, rows: np.ndarray, last_start: int) -> TrainingPlans:
        return TrainingPlans(
            rows,
            index.indoor[rows],
            seed=self.seed,
            allowed=self.variants["train"],
            weights=self.variant_weights,
            swap_talkers=self.swap_talkers,
            gain_db=self.gain_db,
            flip_polarity=self.flip_polarity,
            last_start=last_start,
            speed=self.speed,
            mixer=self._mixer(index, rows),
        )

    def _mixer(self, index: CorpusIndex, rows: np.ndarray) -> Mixer | None:
        if self.dynamic_mixing is None:
            return None
        if self._voices is None:
            self._voices = voices_of(index, self.dynamic_mixing.distinct)
        return Mixer(index, rows, self.dynamic_mixing, self.seed, self._voices)

    def _evaluation_pairs(self, index: CorpusIndex, rows: np.ndarray, split: str) -> list[tuple[int, str]]:
        """(row, variant): one per row for validation; for testing all of a row, next to each other, so that
        a batch reads the components that they share once."""
        pairs = []
        for row in rows.tolist():
            variants = mm_ipc.compatible_variants(bool(index.indoor[row]), self.variants[split])
            if split == "val":
                variants = (mm_ipc.stable_variant(str(index.files["mix"][row]), variants),)
            pairs += [(row, variant) for variant in variants]
        return pairs

    def _loader(self, split: str) -> ResumableLoader:
        return self._build_loader(
            self.datasets[split], training=split == "train", trainer=self.trainer, collate_fn=collate
        )


def _check_weights(weights: Mapping[str, float] | None, allowed: tuple[str, ...] | None) -> dict[str, float] | None:
    """Relative frequencies of variants, which `allowed` (None: all) must hold."""
    if weights is None:
        return None
    mm_ipc.check_variants(weights, "variant_weights")
    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"variant_weights[{name}]={weight} must be a number that is not negative")
        if allowed is not None and name not in allowed:
            raise ValueError(f"variant_weights names {name}, which allowed_variants {list(allowed)} leaves out")
    return dict(weights)


def _without_zero_weight(
    allowed: tuple[str, ...] | None, weights: Mapping[str, float] | None
) -> tuple[str, ...] | None:
    """The variants that training can draw; a weight of 0 forbids one."""
    if weights is None:
        return allowed
    kept = tuple(name for name in allowed or mm_ipc.VARIANTS if weights.get(name, 1.0) > 0)
    if not kept:
        raise ValueError(f"variant_weights {dict(weights)} gives no allowed variant a positive weight")
    return kept
