"""Batches whose composition depends on nothing but (seed, epoch), and loaders that resume inside an epoch.

The sampler yields lists of ``(epoch, index)``. A dataset draws everything random about an item from (seed, epoch,
index), so neither the number of workers nor the number of devices nor a restart changes what is drawn.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hydraudio.core.parallel import end_with_parent

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Key = tuple[int, int]
"""(epoch, index) of an item."""

SPLITS = ("train", "val", "test")

_OVERFIT = "overfit_batches"  # an attribute of the trainer that Lightning does not declare
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LENGTH_JITTER = 0.05
"""Items are bucketed by a length that is drawn anew in every epoch from +-5 % around their own: less padding than a
loader pays for anyway, and yet other companions in every epoch."""


SAMPLINGS = {"natural": None, "sqrt": 0.5, "balanced": 0.0}
"""Name -> exponent: a class is drawn in proportion to (number of its items) ** exponent; None draws nothing, every item
occurs once."""


def sampling_weights(members: np.ndarray, sampling: str) -> np.ndarray | None:
    """Return (n,) weights of the draws of an epoch; None where every item occurs once.

    Args:
        members: (n, classes) bool, the classes of each item. An item of several has the sum of their weights; one of
            none keeps its natural share of the draws.
        sampling: one of `SAMPLINGS`.
    """
    exponent = SAMPLINGS[sampling]
    if exponent is None:
        return None
    known = members.any(axis=1)
    weights = np.ones(len(members))
    if known.any():
        sizes = np.maximum(members.sum(axis=0), 1).astype(np.float64)
        drawn = members[known] @ sizes ** (exponent - 1.0)
        weights[known] = drawn * (known.sum() / drawn.sum())
    return weights


def check_limits(train: int | None, val: int | None, test: int | None) -> dict[str, int | None]:
    """Split -> most items that take part, None for all.

    Raises:
        ValueError: a limit is below 1.
    """
    limits = dict(zip(SPLITS, (train, val, test), strict=True))
    for split, limit in limits.items():
        if limit is not None and limit < 1:
            raise ValueError(f"max_{split}_samples={limit} must be at least 1, or null for all")
    return limits


def nested_sample(n_items: int, limit: int | None, seed: int, split: str) -> np.ndarray:
    """(m,) ascending numbers of the items that take part: a random choice of `limit` of them, None for all.

    A smaller limit gives a part of what a larger one gives.
    """
    if limit is None or limit >= n_items:
        return np.arange(n_items)
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split)]))
    return np.sort(rng.permutation(n_items)[:limit])


def generator(*key: int) -> np.random.Generator:
    """Make random numbers that depend on the key alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


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
        lengths: (n_items,) in samples: batches are made of items of similar length, those of all ranks in one step,
            too. When shuffling, the batches come in random order, and the one that is not full may be any of them;
            without shuffling, the longest items come first. None: lengths play no part.
        batch_samples: budget of a padded batch (items x longest), in samples; needs `lengths`. A batch holds as many
            items as fit, at least one and at most `batch_size`; where the last would hold one alone, it takes another
            from the batch before. The sizes are cut once, from the sorted lengths, so
            that all epochs have equally many batches; by the jitter of the lengths a batch of training may exceed the
            budget by up to 2 * jitter / (1 - jitter); one of evaluation never does.
        weights: (n_items,) positive; an epoch of training is a draw of `n_items` items with replacement, in which an
            item occurs n_items * weight / (sum of weights) times, rounded up or down at random. With a budget the
            draw, too, may make a batch exceed it. None: every item once.
        jitter: items are bucketed by a length that is drawn in every epoch from +- this share around their own, in
            [0, 1). More of it makes for more padding and more exchange of companions.

    >>> sampler = EpochBatchSampler(n_items=5, batch_size=2, shuffle=False)
    >>> list(sampler)
    [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)]]
    >>> sampler.set_epoch(1)
    >>> list(sampler)[0]
    [(1, 0), (1, 1)]
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
        lengths: np.ndarray | None = None,
        batch_samples: int | None = None,
        weights: np.ndarray | None = None,
        jitter: float = LENGTH_JITTER,
    ) -> None:
        if n_items < 1:
            raise ValueError("the dataset is empty: nothing to draw batches from")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.n_items, self.batch_size, self.shuffle, self.seed = n_items, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.epoch, self.start_batch, self.frozen = epoch, start_batch, frozen
        self.lengths = None if lengths is None else _check_lengths(lengths, n_items)
        self.weights = None if weights is None else _check_weights(weights, n_items, shuffle)
        self._sizes: np.ndarray | None = None
        if not 0.0 <= jitter < 1.0:
            raise ValueError(f"jitter={jitter} must be in [0, 1): a share of the length")
        self.jitter = jitter
        if batch_samples is not None:
            _check_budget(batch_samples, self.lengths, drop_last)
            self._sizes = budget_sizes(self._planned_lengths(), batch_size, batch_samples)
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

    def _batches(self) -> list[np.ndarray]:
        """Indices of each of this rank's batches of the epoch."""
        if not self.shuffle or self.frozen:
            order = np.arange(self.n_items)
            if self.lengths is not None and not self.frozen:
                order = np.argsort(-self.lengths, kind="stable")
            return self._cut(self._extended(order))
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch]))
        order = self._extended(rng.permutation(self.n_items if self.weights is None else draw(self.weights, rng)))
        return self._cut(order) if self.lengths is None else self._bucketed(order, self.lengths, rng)

    def _extended(self, order: np.ndarray) -> np.ndarray:
        """The order, for training wrapped around so that it divides evenly among the ranks."""
        surplus = self.n_items % self.world_size
        return np.resize(order, self.n_items + self.world_size - surplus) if self.shuffle and surplus else order

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Every `world_size`-th item is this rank's; consecutive ones make a batch."""
        own = order[self.rank :: self.world_size]
        if self._sizes is not None:
            batches = np.split(own, np.cumsum(self._sizes)[:-1])
            return [batch for batch in batches if len(batch)]  # the last one of evaluation may be another rank's
        return [own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size)][: len(self)]

    def _bucketed(self, order: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Neighbours in length make a step of all ranks; the steps are shuffled."""
        jitter = rng.uniform(-self.jitter, self.jitter, len(order))
        order = order[np.argsort(lengths[order] * (1.0 + jitter), kind="stable")]
        if self._sizes is not None:
            batches = self._cut(order[::-1])
            return [batches[index] for index in rng.permutation(len(batches))]
        step = self.batch_size * self.world_size
        sizes = np.full(-(-len(order) // step), step)
        sizes[rng.integers(len(sizes))] -= sizes.sum() - len(order)
        steps = np.split(order, np.cumsum(sizes)[:-1])
        if self.drop_last:
            steps = [items for items in steps if len(items) == step]
        return [steps[index][self.rank :: self.world_size] for index in rng.permutation(len(steps))]

    def _planned_lengths(self) -> np.ndarray:
        """(n,) longest of the `world_size` items that take one slot of all ranks' batches, in the order of the cut."""
        assert self.lengths is not None
        if self.frozen:
            planned = self.lengths[self._extended(np.arange(self.n_items))]
        elif self.weights is None:
            planned = np.sort(self.lengths)[::-1]
        else:
            planned = _expected_lengths(self.lengths, self.weights)[::-1]
        if not self.frozen and self.shuffle:  # whatever the order wraps around to is not longer than the longest
            surplus = -self.n_items % self.world_size
            planned = np.concatenate([np.repeat(planned[:1], surplus), planned])
        return np.maximum.reduceat(planned, np.arange(0, len(planned), self.world_size))

    def _n_rank_items(self) -> int:
        if self.shuffle:
            return -(-self.n_items // self.world_size)
        return len(range(self.rank, self.n_items, self.world_size))

    def __len__(self) -> int:
        n = self._n_rank_items()
        if self._sizes is not None:
            return int((np.cumsum(self._sizes) - self._sizes < n).sum())
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = 0 if self.frozen else self.epoch
        for indices in self._batches()[self.start_batch :]:
            yield [(epoch, index) for index in indices.tolist()]

    def batch_sizes(self) -> list[int]:
        """Count the items of each of this rank's batches of the epoch."""
        return [len(batch) for batch in self._batches()]

    def padding_share(self) -> float:
        """Compute the share of this rank's samples in the whole epoch that is padding, in [0, 1).

        Raises:
            ValueError: the sampler knows no lengths.
        """
        if self.lengths is None:
            raise ValueError("the share of padding is known only to a sampler with lengths")
        return padding_share(self.lengths, self._batches())


class ResumableLoader(DataLoader):
    """A loader whose position needs no state of its own: the trainer's counters say where an epoch is to continue.

    ``state_dict`` and ``load_state_dict`` tell Lightning that it can be resumed inside an epoch.
    """

    def _get_iterator(self) -> Any:
        """Start the workers with stop signals held back, until :func:`_begin_worker` says what they do there."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            iterator = super()._get_iterator()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if self.num_workers > 0:  # else PyTorch and Python each send SIGTERM, at once, so that it counts as one
            atexit.register(_end_workers, weakref.ref(iterator))
        return iterator

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
    pin_memory: bool = False,
    **batches: Any,
) -> ResumableLoader:
    """Build a loader over ``dataset[(epoch, index)]``; ``batches`` are further arguments of :class:`EpochBatchSampler`.

    With a trainer that is resuming, the training loader (``shuffle=True``) begins at the epoch and batch at which the
    checkpoint was written. The loader has a generator of its own, so that it never consumes the global random state.

    Where several processes train, the workers are not forked from them but from a server without threads: a fork may
    come while a thread of the collectives holds the interpreter's lock of thread states, and before Python 3.12
    (cpython#112275) such a worker waits for that lock for ever.
    """
    assert isinstance(dataset, Sized), "a dataset that is addressed by index knows its length"
    sampler = EpochBatchSampler(
        len(dataset),
        batch_size,
        shuffle=shuffle,
        seed=seed,
        rank=trainer.global_rank if trainer else 0,
        world_size=trainer.world_size if trainer else 1,
        epoch=trainer.current_epoch if trainer and shuffle else 0,
        frozen=bool(trainer and getattr(trainer, _OVERFIT)),
        **batches,
    )
    if trainer and shuffle and trainer.fit_loop.is_resuming:
        sampler.start_batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed % len(sampler)
    from_server = num_workers > 0 and sampler.world_size > 1 and multiprocessing.get_start_method() == "fork"
    if from_server:
        multiprocessing.set_forkserver_preload([type(dataset).__module__])
    return ResumableLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        multiprocessing_context="forkserver" if from_server else None,
        collate_fn=collate_fn,
        worker_init_fn=_begin_worker,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def _end_workers(iterator: weakref.ref[Any]) -> None:
    """Let the workers of an iterator that still lives finish in an orderly way."""
    if (alive := iterator()) is not None:
        alive._shutdown_workers()


def _begin_worker(worker_id: int) -> None:
    """Leave Ctrl-C and SIGTERM, which a whole process group gets, to the training process: it ends its workers.

    A second SIGTERM acts; it is how Python ends a worker that hangs. When the training process is killed, PyTorch ends
    a worker that saw it alive; this one may have been started by a server and have come too late for that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    end_with_parent()


def padding_share(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Compute the share of the samples of padded batches that is padding, in [0, 1).

    Args:
        lengths: (n_items,) in samples.
        batches: indices of the items of each batch.
    """
    n_samples = sum(int(lengths[indices].sum()) for indices in batches)
    n_slots = sum(len(indices) * int(lengths[indices].max()) for indices in batches)
    return 1.0 - n_samples / n_slots


def budget_sizes(lengths: np.ndarray, batch_size: int, batch_samples: int) -> np.ndarray:
    """Cut (n_batches,) sizes of consecutive batches, each as large as its padded size stays within the budget.

    The last takes an item from the one before, rather than to hold one alone.

    Args:
        lengths: (n,) in samples, in the order of the cut.
        batch_size: at most so many items; at least one item is taken whatever its length.
        batch_samples: the budget of items x longest.
    """
    sizes, size, longest = [], 0, 0
    for length in lengths.tolist():
        longest = max(longest, length)
        if size and (size == batch_size or (size + 1) * longest > batch_samples):
            sizes.append(size)
            size, longest = 0, length
        size += 1
    sizes.append(size)
    if sizes[-1] == 1 and len(sizes) > 1 and sizes[-2] > 2:
        sizes[-2:] = [sizes[-2] - 1, 2]
    return np.array(sizes)


def draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw (n,) indices with replacement: systematic sampling, each index n * weight / sum times, up or down to 1.

    Items of equal weight are neighbours in the draw, so that their total is exact to 1, too.
    """
    n = len(weights)
    order = np.lexsort((rng.random(n), weights))
    stops = np.cumsum(weights[order] * (n / weights.sum()))
    stops[-1] = n
    counts = np.diff(np.floor(stops + rng.random()), prepend=0.0).astype(np.int64)
    return np.repeat(order, counts)


def _expected_lengths(lengths: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,) lengths in ascending order that a draw with these weights has on average: quantiles."""
    order = np.argsort(lengths, kind="stable")
    stops = np.cumsum(weights[order]) / weights.sum()
    wanted = (np.arange(len(lengths)) + 0.5) / len(lengths)
    return lengths[order][np.minimum(np.searchsorted(stops, wanted), len(lengths) - 1)]


def _check_budget(batch_samples: int, lengths: np.ndarray | None, drop_last: bool) -> None:
    if batch_samples < 1:
        raise ValueError(f"batch_samples must be at least 1, got {batch_samples}")
    if lengths is None:
        raise ValueError("a budget of samples per batch needs the lengths of the items: give lengths, too")
    if drop_last:
        raise ValueError("drop_last=true leaves out a batch that is not full; with a budget none ever is: use false")


def _check_weights(weights: np.ndarray, n_items: int, shuffle: bool) -> np.ndarray:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_items,) or not (np.isfinite(weights).all() and weights.min() > 0):
        raise ValueError(f"weights must be {n_items} positive numbers, one per item; got {weights.shape}")
    if not shuffle:
        raise ValueError("weights are for training: without shuffling every item is taken once")
    return weights


def _check_lengths(lengths: np.ndarray, n_items: int) -> np.ndarray:
    lengths = np.asarray(lengths)
    if lengths.shape != (n_items,) or lengths.min() < 1:
        raise ValueError(f"lengths must be {n_items} positive numbers of samples, one per item; got {lengths.shape}")
    return lengths
