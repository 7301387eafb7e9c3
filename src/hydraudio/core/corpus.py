"""What the datamodules of all corpora share: where the corpus lies, the datasets of a stage, the loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, Dataset

from hydraudio.core.defects import Defect
from hydraudio.core.download import Source
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.sampling import (
    SPLITS,
    EpochBatchSampler,
    ResumableLoader,
    build_loader,
    check_limits,
    nested_sample,
)

log = logging.getLogger(__name__)

SPLITS_OF_STAGE = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": (), None: SPLITS}
"""Stage of `LightningDataModule.setup` -> the splits whose datasets it makes."""


class Corpus(Protocol):
    """What checkpoints and reports read of any datamodule; what a task must agree with is in its specification."""

    @property
    def root(self) -> Path:
        """The folder of the corpus."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with the corpus."""
        ...


def corpus_of(trainer: pl.Trainer) -> Corpus | None:
    """Return the datamodule of a run, which Lightning keeps without declaring it; None where there are only loaders."""
    return vars(trainer).get("datamodule")


class CorpusDataModule(pl.LightningDataModule):
    """Read a corpus in a folder, or an embedded one; a subclass implements :meth:`_make_dataset` and :meth:`_loader`.

    Args:
        root: the corpus folder; None makes the embedded corpus.
        embedded: attributes of what writes the embedded corpus (:meth:`embedded_corpus`).
        data_dir: where the embedded corpus goes.
        batch_size: of training.
        eval_batch_size: of validation and testing, None for `batch_size`.
        num_workers: of every loader.
        pin_memory: of every loader.
        seed: of everything random here.
        max_train_samples: size of a random subset of the items (where an item gives several, of these), None for all. A
            smaller one is part of a larger one.
        max_val_samples: the same for validation.
        max_test_samples: the same for testing.

    Attributes:
        datasets: split (train, val, test) -> its dataset, after `setup`.
    """

    corpus: ClassVar[str]
    """What the folder of the embedded corpus is called after."""
    layout: ClassVar[str] = "the folder of the corpus"
    """What `root` must be, for the message where it does not exist."""
    source: ClassVar[Source] = Source(by_hand="There is nothing to fetch: set data.root to a folder of your own.")
    """Where the corpus comes from, for `scripts/data/download.py`."""

    def __init__(
        self,
        root: str | None = None,
        embedded: Mapping[str, Any] | None = None,
        data_dir: str = "data",
        batch_size: int = 4,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        max_train_samples: int | None = None,
        max_val_samples: int | None = None,
        max_test_samples: int | None = None,
    ) -> None:
        super().__init__()
        self._embedded: EmbeddedCorpus | None = None
        if root is not None:
            self.root = Path(root)
        elif embedded is not None:
            self._embedded = _made(self.embedded_corpus(), embedded)
            self.root = self._embedded.folder(Path(data_dir), self.corpus)
        else:
            raise ValueError("either root (a corpus folder) or embedded (what is written into one) must be given")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.pin_memory, self.seed = num_workers, pin_memory, seed
        self.max_items = check_limits(max_train_samples, max_val_samples, max_test_samples)
        self.datasets: dict[str, Any] = {}

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedCorpus]:
        """What writes the embedded corpus; no configuration names it."""
        raise NotImplementedError(f"{cls.__name__} has no embedded corpus: set data.root")

    def prepare_data(self) -> None:
        """Write the embedded corpus where it does not exist yet.

        Raises:
            FileNotFoundError: `root` is no folder.
        """
        if self._embedded is not None and not self.root.is_dir():
            self._embedded(self.root)
        self._require_root()

    def setup(self, stage: str | None = None) -> None:
        """Make the datasets of the stage: reads the tables and looks for the files that they need."""
        self._require_root()
        for split in SPLITS_OF_STAGE[stage]:
            if split not in self.datasets:
                self.datasets[split] = self._make_dataset(split)

    def check(self, n_processes: int = 1, on_row: Callable[[int, int], None] | None = None) -> list[Defect]:
        """Every defect of the corpus, once each, as `_find_defects` finds them.

        Args:
            n_processes: rows are read in parallel.
            on_row: called with (rows done, rows in all).
        """
        if self._embedded is not None:
            self.prepare_data()
        if not self.root.is_dir():
            return [Defect("missing_root", f"{self.root}: no such corpus folder; check data.root")]
        return list(dict.fromkeys(self._find_defects(n_processes, on_row)))

    def train_dataloader(self) -> DataLoader:
        """Load shuffled items, drawn anew in every epoch."""
        loader = self._loader("train")
        sampler = loader.batch_sampler
        if isinstance(sampler, EpochBatchSampler) and sampler.lengths is not None:
            log.info("Bucketing: %.1f %% of the training batches is padding", 100.0 * sampler.padding_share())
        return loader

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Load every item of the validation set, the same in every epoch; no loaders where there is no such set."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """Load every item of the test set."""
        return self._loader("test")

    def _make_dataset(self, split: str) -> Dataset:
        """The dataset of train, val or test, addressed by (epoch, index)."""
        raise NotImplementedError

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        """Every defect of a corpus whose folder exists; here that with which `setup` stops."""
        try:
            self.setup()
        except (FileNotFoundError, ValueError) as error:
            return [Defect("unusable", str(error))]
        return []

    def _chosen(self, n_items: int, split: str) -> np.ndarray:
        """(m,) ascending numbers of the items of a split that take part."""
        return nested_sample(n_items, self.max_items[split], self.seed, split)

    def _loader(self, split: str) -> ResumableLoader:
        """The loader of a dataset, by :meth:`_build_loader`."""
        raise NotImplementedError

    def _build_loader(self, dataset: Dataset, *, training: bool, **options: Any) -> ResumableLoader:
        """A loader with the settings of this datamodule; the other options of `build_loader` are given here."""
        return build_loader(
            dataset,
            batch_size=self.batch_size if training else self.eval_batch_size,
            shuffle=training,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            **options,
        )

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{self.root}: no such corpus folder; set data.root to {self.layout}, or to null for the embedded "
                "corpus"
            )


def _made(kind: type[EmbeddedCorpus], attributes: Mapping[str, Any]) -> EmbeddedCorpus:
    names = [field.name for field in fields(kind)]
    unknown = [name for name in attributes if name not in names]
    if unknown:
        raise ValueError(f"embedded: {kind.__name__} has no {unknown[0]!r}; it has {', '.join(names)}")
    return kind(**attributes)
