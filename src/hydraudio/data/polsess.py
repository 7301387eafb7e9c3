"""PolSESS: Polish speech with scenes, events and reverberation, for enhancement and separation.

Tasks and variants are those of MM-IPC (see `hydraudio.data.mm_ipc`). Training draws one variant per item
and epoch, validation gives every item a fixed one, testing expands every item into all variants that fit it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from hydraudio.audio.packing import is_pack
from hydraudio.data import mm_ipc
from hydraudio.data.polsess_check import find_defects
from hydraudio.data.polsess_dataset import FixedPlans, PolSESSDataset, TrainingPlans, collate
from hydraudio.data.polsess_index import (
    CorpusIndex,
    Defect,
    corpus_fingerprint,
    missing_files,
    raise_defect,
    read_index,
)
from hydraudio.data.polsess_store import open_store
from hydraudio.data.sampling import build_loader

_SUBSET_NUMBERS = {"train": 0, "val": 1, "test": 2}
_STAGE_SUBSETS = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": (),
    None: ("train", "val", "test"),
}
_METADATA_COMPONENTS = {"event", "sp1", "sp2"}


class PolSESSDataModule(pl.LightningDataModule):
    """Speech enhancement and separation on a corpus in PolSESS layout.

    Kleć, Szklanny and Wieczorkowska, "A Solution for Developing Corpora for Polish Speech Enhancement in
    Complex Acoustic Environments", 2024.

    Args:
        root: the corpus, as WAV files or as written by `scripts/pack_data.py`; None makes the embedded one.
        embedded: called with the folder to write the embedded corpus into.
        data_dir: where the embedded corpus goes.
        task: ES (enhance speaker 1), EB (enhance both) or SB (separate both).
        sample_rate: in Hz, that all files must have.
        allowed_variants: one variant or a list of them, None for all that fit a row; rows that none fits are
            left out.
        val_variants: the same for validation, None for `allowed_variants`.
        test_variants: the same for testing, None for all that fit a row.
        variant_weights: relative frequencies in training; a variant that is not named counts 1.
        max_train_samples: size of a random subset of the rows, None for all.
        max_val_samples: the same for validation.
        max_test_samples: the same for testing, in rows (each gives an item per variant).
        swap_talkers: probability that speaker 1 and 2 change places in training (ES; EB and SB use both
            alike).
        gain_db: [lowest, highest] of a random level change of input and target in training.
        flip_polarity: probability that input and target are inverted in training.
        segment_s: length of a random crop in training, None for whole clips.
        construction: "auto" reads the fewest files; "subtract" and "add" force one form.
        batch_size: of training.
        eval_batch_size: of validation and testing, None for `batch_size`.
        num_workers: of every loader.
        pin_memory: of every loader.
        seed: of everything random here.

    Attributes:
        n_sources: targets per item.
    """

    def __init__(
        self,
        root: str | None = None,
        embedded: Callable[..., Any] | None = None,
        data_dir: str = "data",
        task: str = "ES",
        sample_rate: int = 8000,
        allowed_variants: str | Sequence[str] | None = None,
        val_variants: str | Sequence[str] | None = None,
        test_variants: str | Sequence[str] | None = None,
        variant_weights: Mapping[str, float] | None = None,
        max_train_samples: int | None = None,
        max_val_samples: int | None = None,
        max_test_samples: int | None = None,
        swap_talkers: float = 0.0,
        gain_db: Sequence[float] | None = None,
        flip_polarity: float = 0.0,
        segment_s: float | None = None,
        construction: str = "auto",
        batch_size: int = 4,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.task = mm_ipc.check_task(task)
        self.construction = mm_ipc.check_construction(construction)
        self.n_sources = mm_ipc.n_sources(task)
        self.sample_rate = sample_rate
        allowed = mm_ipc.check_variants(allowed_variants, "allowed_variants")
        self.variant_weights = _check_weights(variant_weights, allowed)
        self.variants = {
            "train": _without_zero_weight(allowed, self.variant_weights),
            "val": mm_ipc.check_variants(val_variants, "val_variants") or allowed,
            "test": mm_ipc.check_variants(test_variants, "test_variants"),
        }
        limits = {"train": max_train_samples, "val": max_val_samples, "test": max_test_samples}
        self.max_samples = {subset: _check_limit(subset, limit) for subset, limit in limits.items()}
        # EB and SB use both talkers alike
        self.swap_talkers = _check_probability("swap_talkers", swap_talkers) if task == "ES" else 0.0
        self.flip_polarity = _check_probability("flip_polarity", flip_polarity)
        self.gain_db = _check_range("gain_db", gain_db)
        self.segment_s = _check_segment(segment_s)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.pin_memory, self.seed = num_workers, pin_memory, seed
        self._embedded = embedded if root is None else None
        if root is not None:
            self.root = Path(root)
        elif embedded is not None:
            self.root = _embedded_folder(Path(data_dir), embedded)
        else:
            raise ValueError("either root (a corpus folder) or embedded (what writes one) must be given")
        self._fingerprint: str | None = None
        self.datasets: dict[str, PolSESSDataset] = {}

    @property
    def fingerprint(self) -> str:
        """sha256 over the corpus's tables (hex); known once the corpus exists."""
        if self._fingerprint is None:
            self._require_root()
            self._fingerprint = corpus_fingerprint(self.root)
        return self._fingerprint

    def prepare_data(self) -> None:
        """Writes the embedded corpus where it does not exist yet."""
        if self._embedded is not None and not self.root.is_dir():
            _write_once(self.root, self._embedded)
        self._require_root()

    def setup(self, stage: str | None = None) -> None:
        """Reads the tables of the stage and looks for the files that it needs."""
        self._require_root()
        for subset in _STAGE_SUBSETS[stage]:
            if subset not in self.datasets:
                self.datasets[subset] = self._make_dataset(subset)

    def train_dataloader(self) -> DataLoader:
        """Shuffled items with variants drawn per epoch."""
        return self._loader("train", shuffle=True, batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader:
        """Every row with its fixed variant."""
        return self._loader("val", shuffle=False, batch_size=self.eval_batch_size)

    def test_dataloader(self) -> DataLoader:
        """Every row with every variant, the variants of a row next to each other."""
        return self._loader("test", shuffle=False, batch_size=self.eval_batch_size)

    def check(self, n_processes: int = 1, on_row: Callable[[int, int], None] | None = None) -> list[Defect]:
        """Reads the whole corpus and returns every defect; `on_row` is told (rows done, rows in all)."""
        if self._embedded is not None:
            self.prepare_data()
        return find_defects(self.root, self.sample_rate, n_processes=n_processes, on_row=on_row)

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{self.root}: no such corpus folder; set data.root to a folder that holds train, "
                "val and test, "
                "or to null for the embedded corpus"
            )

    def _make_dataset(self, subset: str) -> PolSESSDataset:
        index = read_index(self.root, subset)
        rows = self._select_rows(index, subset)
        training = subset == "train"
        if not is_pack(self.root):
            self._require_files(index, rows, subset)
        store = open_store(self.root, index, self.sample_rate)
        n_samples = self._segment_samples(store.n_samples, index) if training else store.n_samples
        plans: TrainingPlans | FixedPlans = (
            self._training_plans(index, rows, store.n_samples - n_samples)
            if training
            else FixedPlans(self._evaluation_pairs(index, rows, subset))
        )
        return PolSESSDataset(
            index,
            store,
            plans,
            task=self.task,
            construction=self.construction,
            n_samples=n_samples,
            metadata=not training,
        )

    def _select_rows(self, index: CorpusIndex, subset: str) -> np.ndarray:
        """(m,) rows with an allowed variant, at most `max_samples` of them: a random choice, in the table's
        order.

        A smaller number gives a subset of what a larger number gives.
        """
        rooms = [room for room in (False, True) if mm_ipc.compatible_variants(room, self.variants[subset])]
        rows = np.flatnonzero(np.isin(index.indoor, rooms))
        if len(rows) == 0:
            place = "indoor" if index.indoor.any() else "outdoor"
            raise ValueError(
                f"{index.table}: none of the variants {list(self.variants[subset] or ())} fits any row: all rows are "
                f"{place}, which takes {', '.join(mm_ipc.compatible_variants(place == 'indoor'))}"
            )
        limit = self.max_samples[subset]
        if limit is None or limit >= len(rows):
            return rows
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _SUBSET_NUMBERS[subset]]))
        return np.sort(rng.permutation(rows)[:limit])

    def _require_files(self, index: CorpusIndex, rows: np.ndarray, subset: str) -> None:
        needed = {}
        for room in (False, True):
            variants = mm_ipc.compatible_variants(room, self.variants[subset])
            exchangeable = subset == "train" and self.swap_talkers > 0
            needed[room] = mm_ipc.needed_components(self.task, variants, room, self.construction, exchangeable) | (
                _METADATA_COMPONENTS if subset != "train" else set()
            )
        defects = missing_files(index, rows, needed)
        if defects:
            raise_defect(defects[0])

    def _segment_samples(self, clip_samples: int, index: CorpusIndex) -> int:
        if self.segment_s is None:
            return clip_samples
        n_samples = round(self.segment_s * self.sample_rate)
        if not 0 < n_samples <= clip_samples:
            raise ValueError(
                f"segment_s={self.segment_s} is {n_samples} samples, but the clips of {index.folder} have "
                f"{clip_samples}; choose at most {clip_samples / self.sample_rate:g} s"
            )
        return n_samples

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
        )

    def _evaluation_pairs(self, index: CorpusIndex, rows: np.ndarray, subset: str) -> list[tuple[int, str]]:
        """(row, variant): one per row for validation; for testing all of a row, next to each other, so that
        a batch reads the components that they share once."""
        pairs = []
        for row in rows.tolist():
            variants = mm_ipc.compatible_variants(bool(index.indoor[row]), self.variants[subset])
            if subset == "val":
                variants = (mm_ipc.stable_variant(str(index.files["mix"][row]), variants),)
            pairs += [(row, variant) for variant in variants]
        return pairs

    def _loader(self, subset: str, *, shuffle: bool, batch_size: int) -> DataLoader:
        return build_loader(
            self.datasets[subset],
            batch_size=batch_size,
            shuffle=shuffle,
            seed=self.seed,
            num_workers=self.num_workers,
            trainer=self.trainer,
            collate_fn=collate,
            pin_memory=self.pin_memory,
        )


def _write_once(folder: Path, write: Callable[..., Any]) -> None:
    """Writes a corpus beside its place and moves it there, so that it is complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(scratch / folder.name)
        if not folder.is_dir():
            os.replace(scratch / folder.name, folder)
    finally:
        shutil.rmtree(scratch)


def _embedded_folder(data_dir: Path, embedded: Callable[..., Any]) -> Path:
    """`<data_dir>/polsess_embedded_<hash of the generator, its version and its arguments>`."""
    call = embedded if isinstance(embedded, functools.partial) else functools.partial(embedded)
    version = importlib.import_module(call.func.__module__).GENERATOR_VERSION
    name = f"{call.func.__module__}.{call.func.__qualname__}"
    # how many processes write does not change what is written
    arguments = {key: value for key, value in call.keywords.items() if key != "n_processes"}
    text = json.dumps([name, version, call.args, arguments], sort_keys=True)
    return data_dir / f"polsess_embedded_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _check_weights(weights: Mapping[str, float] | None, allowed: tuple[str, ...] | None) -> dict[str, float] | None:
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


def _check_limit(subset: str, limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ValueError(f"max_{subset}_samples={limit} must be at least 1, or null for all")
    return limit


def _check_probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must be a probability from 0 to 1")
    return value


def _check_range(name: str, limits: Sequence[float] | None) -> tuple[float, float] | None:
    if limits is None:
        return None
    if len(limits) != 2 or not np.isfinite(limits).all() or limits[0] > limits[1]:
        raise ValueError(f"{name}={list(limits)} must be [lowest, highest] in dB, or null")
    return float(limits[0]), float(limits[1])


def _check_segment(segment_s: float | None) -> float | None:
    if segment_s is not None and not segment_s > 0:
        raise ValueError(f"segment_s={segment_s} must be positive, or null for whole clips")
    return segment_s
