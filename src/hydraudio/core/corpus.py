"""What the datamodules of all corpora share: where the corpus lies, the datasets of a stage, the loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from hydraudio.core.generated import embedded_folder, write_once
from hydraudio.core.sampling import EpochBatchSampler, ResumableLoader, build_loader
from hydraudio.core.uses import USES_OF_STAGE

log = logging.getLogger(__name__)


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
        embedded: called with the folder to write the embedded corpus into.
        data_dir: where the embedded corpus goes.
        batch_size: of training.
        eval_batch_size: of validation and testing, None for `batch_size`.
        num_workers: of every loader.
        pin_memory: of every loader.
        seed: of everything random here.

    Attributes:
        datasets: use (train, val, test) -> its dataset, after `setup`.
    """

    corpus: ClassVar[str]
    """What the folder of the embedded corpus is called after."""
    layout: ClassVar[str] = "the folder of the corpus"
    """What `root` must be, for the message where it does not exist."""

    def __init__(
        self,
        root: str | None = None,
        embedded: Callable[..., Any] | None = None,
        data_dir: str = "data",
        batch_size: int = 4,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._embedded = embedded if root is None else None
        if root is not None:
            self.root = Path(root)
        elif embedded is not None:
            self.root = embedded_folder(Path(data_dir), self.corpus, embedded)
        else:
            raise ValueError("either root (a corpus folder) or embedded (what writes one) must be given")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.pin_memory, self.seed = num_workers, pin_memory, seed
        self.datasets: dict[str, Any] = {}

    def prepare_data(self) -> None:
        """Write the embedded corpus where it does not exist yet.

        Raises:
            FileNotFoundError: `root` is no folder.
        """
        if self._embedded is not None and not self.root.is_dir():
            write_once(self.root, self._embedded)
        self._require_root()

    def setup(self, stage: str | None = None) -> None:
        """Make the datasets of the stage: reads the tables and looks for the files that they need."""
        self._require_root()
        for use in USES_OF_STAGE[stage]:
            if use not in self.datasets:
                self.datasets[use] = self._make_dataset(use)

    def train_dataloader(self) -> DataLoader:
        """Load shuffled items, drawn anew in every epoch."""
        loader = self._loader("train")
        sampler = loader.batch_sampler
        if isinstance(sampler, EpochBatchSampler) and sampler.lengths is not None:
            log.info("Bucketing: %.1f %% of the training batches is padding", 100.0 * sampler.padding_share())
        return loader

    def val_dataloader(self) -> DataLoader:
        """Load every item of the validation set, the same in every epoch."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """Load every item of the test set."""
        return self._loader("test")

    def _make_dataset(self, use: str) -> Dataset:
        """The dataset of train, val or test, addressed by (epoch, index)."""
        raise NotImplementedError

    def _loader(self, use: str) -> ResumableLoader:
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
