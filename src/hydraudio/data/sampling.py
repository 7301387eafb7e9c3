"""Batches whose composition depends on nothing but (seed, epoch), and loaders that resume inside an epoch.

The sampler yields lists of ``(epoch, index)``. A dataset draws everything random about an item from (seed, epoch,
index), so neither the number of workers nor the number of devices nor a restart changes what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Key = tuple[int, int]
"""(epoch, index) of an item."""


class EpochBatchSampler(Sampler[list[Key]]):
    """Yield the batches of one epoch as lists of (epoch, index).

    Args:
        n_items: size of the dataset.
        batch_size: items per batch and device.
        shuffle: draw a new order in every epoch, from (seed, epoch) alone.
        seed: seed of the order.
        drop_last: leave out the last, smaller batch.
        rank: number of this process, in [0, world_size).
        world_size: number of processes. When shuffling, every rank gets equally many batches (the order wraps around
            where the items do not divide evenly); without shuffling nothing is repeated, so that no item of a
            validation or test set counts twice.
        epoch: epoch to begin with.
        start_batch: batches of that first epoch to leave out, because they were trained on before a restart.
        frozen: keep to the first epoch's draws for ever (overfitting a few batches on purpose).
    """

    def __init__(
        self,
        n_items: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start_batch: int = 0,
        frozen: bool = False,
    ) -> None:
        if n_items < 1:
            raise ValueError("the dataset is empty: nothing to draw batches from")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.n_items, self.batch_size, self.shuffle, self.seed = n_items, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.epoch, self.start_batch, self.frozen = epoch, start_batch, frozen
        if len(self) == 0:
            raise ValueError(
                f"{n_items} items give no batch of {batch_size} on {world_size} device(s): "
                "use a smaller batch_size or drop_last=false"
            )

    @property
    def sampler(self) -> EpochBatchSampler:
        """Itself: before every epoch Lightning calls ``batch_sampler.sampler.set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Move to another epoch."""
        if epoch != self.epoch:
            self.start_batch = 0
            self.epoch = epoch

    def _order(self) -> np.ndarray:
        """Indices of this rank, shape (n,), in the order of the epoch."""
        epoch = 0 if self.frozen else self.epoch
        if not self.shuffle or self.frozen:
            order = np.arange(self.n_items)
        else:
            order = np.random.default_rng(np.random.SeedSequence([self.seed, epoch])).permutation(self.n_items)
        if self.shuffle and self.n_items % self.world_size:
            order = np.concatenate([order, order[: self.world_size - self.n_items % self.world_size]])
        return order[self.rank :: self.world_size]

    def _n_rank_items(self) -> int:
        if self.shuffle:
            return -(-self.n_items // self.world_size)
        return len(range(self.rank, self.n_items, self.world_size))

    def __len__(self) -> int:
        n = self._n_rank_items()
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        order, epoch = self._order().tolist(), 0 if self.frozen else self.epoch
        for batch in range(self.start_batch, len(self)):
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, index) for index in indices]


class ResumableLoader(DataLoader):
    """A loader whose position needs no state of its own: the trainer's counters say where an epoch is to continue.

    The two methods tell Lightning that it can be resumed inside an epoch.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing: see :func:`build_loader`."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do: see :func:`build_loader`."""


def build_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    num_workers: int,
    trainer: Trainer | None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    drop_last: bool = False,
    pin_memory: bool = False,
) -> ResumableLoader:
    """Build a loader over ``dataset[(epoch, index)]``.

    With a trainer that is resuming, the training loader (``shuffle=True``) begins at the epoch and batch at which the
    checkpoint was written. The loader has a generator of its own, so that it never consumes the global random state.
    """
    sampler = EpochBatchSampler(
        len(dataset),  # type: ignore[arg-type]
        batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
        rank=trainer.global_rank if trainer else 0,
        world_size=trainer.world_size if trainer else 1,
        epoch=trainer.current_epoch if trainer and shuffle else 0,
        frozen=bool(trainer and trainer.overfit_batches),  # type: ignore[attr-defined]
    )
    if trainer and shuffle:
        sampler.start_batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed % len(sampler)
    return ResumableLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_fn,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )
