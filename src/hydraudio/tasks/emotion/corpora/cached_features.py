"""Fills a cache with the features of a dataset, and lets the dataset give them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset

from hydraudio.tasks.emotion.corpora.audio import audio_digests
from hydraudio.tasks.emotion.corpora.dataset import EmotionDataset
from hydraudio.tasks.emotion.corpora.feature_cache import FeatureCache

log = logging.getLogger(__name__)

Compute = Callable[[dict[str, Any]], list[np.ndarray]]
"""Batch -> one array per item."""


class Rows(Dataset):
    """Some items of a dataset, addressed by (epoch, position)."""

    def __init__(self, dataset: EmotionDataset, rows: np.ndarray) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.dataset[(key[0], int(self.rows[key[1]]))]


def use_features(
    dataset: EmotionDataset,
    cache: FeatureCache,
    compute: Compute,
    make_loader: Callable[[Dataset, np.ndarray], DataLoader],
    *,
    name: str,
    cache_dir: Path,
) -> None:
    """Computes what the cache lacks; from then on the dataset gives features instead of waveforms.

    Of several processes one computes, and the others wait and find everything there. After a kill, complete shards are
    there.

    Args:
        dataset: gives waveforms.
        cache: of one network, its layers and its normalisation.
        compute: batch -> one array per item.
        make_loader: items and their lengths -> batches of `dataset.collate`.
        name: of the dataset, for the progress bar.
        cache_dir: where hashes of the audio files are kept.
    """
    identities = identities_of(dataset, cache_dir)
    with cache.lock():
        cache.refresh()
        rows = np.array([row for row, identity in enumerate(identities) if identity not in cache], dtype=np.int64)
        if len(rows):
            log.info("Computing features of %d of %d utterances of %s", len(rows), len(dataset), name)
            loader = make_loader(Rows(dataset, rows), dataset.lengths[rows])
            cache.write(_computed(dataset, identities, loader, compute, name))
    dataset.features, dataset.identities = cache, identities


def identities_of(dataset: EmotionDataset, cache_dir: Path) -> list[str]:
    """A name per item that says what is heard: the hash of its audio file, the sample rate and the length."""
    digests = audio_digests([each.path for each in dataset.utterances], cache_dir)
    lengths = dataset.lengths.tolist()
    return [f"{digest}_{dataset.sample_rate}_{n}" for digest, n in zip(digests, lengths, strict=True)]


def _computed(
    dataset: EmotionDataset, identities: list[str], loader: DataLoader, compute: Compute, name: str
) -> Iterator[tuple[str, np.ndarray]]:
    identity_of = dict(zip(dataset.items, identities, strict=True))
    columns = (TextColumn("features of {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(name, total=len(loader.dataset))  # type: ignore[arg-type]
        for batch in loader:
            arrays = compute(batch)
            if len(arrays) != len(batch["id"]):
                raise ValueError(f"{len(arrays)} arrays of features for a batch of {len(batch['id'])} items")
            yield from zip((identity_of[each] for each in batch["id"]), arrays, strict=True)
            progress.advance(bar, len(arrays))
