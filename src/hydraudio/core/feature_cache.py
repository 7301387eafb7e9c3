"""What is expensive to compute of files, kept on disk: keyed by what they are, locked, whole or absent.

Smaller things (lengths, hashes, statistics) are single files, named by a hash over the sizes and times of what they
come from (`stat_digest`, `kept_array`). Features of a frozen network are computed once and read from disk ever after:

    <cache_dir>/features/<hash of what and key>/
        about.json          what and key in words
        <number>.npy        float16: the arrays of some items, one after the other; read through a memory map
        <number>.json       where each of them begins, and its shape, by the identity of the item's audio

A shard counts from the moment its JSON file exists, which is written last: after a kill, complete shards are kept. The
identity of the audio is a hash of its content, so that copies, other splits and other selections share what is there.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset

from hydraudio.audio.io import missing_text, read_info
from hydraudio.core.files import locked, remove_dead_partials, sha256_of, sha256_of_json, whole_file, write_json
from hydraudio.core.parallel import map_in_threads

log = logging.getLogger(__name__)

SHARD_VALUES = 128 * 2**20
"""Values per shard: 256 MiB as float16."""

Compute = Callable[[dict[str, Any]], list[np.ndarray]]
"""Batch -> one array per item."""


def stat_digest(paths: Sequence[Path | str], file_of: Callable[[Path | str], Path] = Path) -> str:
    """Hash path, size and time of change of every file, in their order: sha256 (hex).

    Args:
        paths: of files, or of what lies in files.
        file_of: path -> the file that it lies in.

    Raises:
        FileNotFoundError: one of the files does not exist.
    """
    files = list(dict.fromkeys(file_of(path) for path in paths))
    states = dict(zip(files, map_in_threads(_state, files), strict=True))
    return sha256_of("".join(f"{path}\0{states[file_of(path)]}\n" for path in paths))


def _state(file: Path) -> tuple[int, int]:
    if not file.is_file():
        raise FileNotFoundError(missing_text(file))
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def kept_array(path: Path, shape: tuple[int, ...], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Compute an array where `path` does not exist yet, else read it; of several processes one computes.

    Raises:
        ValueError: the file is damaged.
    """
    with locked(path.parent / path.parent.name):
        if not path.is_file():
            remove_dead_partials(path.parent)
            with whole_file(path) as file:
                np.save(file, compute())
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: the cache is damaged here ({error}); delete it, it is made again") from error
    if array.shape != shape:
        raise ValueError(f"{path}: holds {array.shape} instead of {shape}; delete it, it is made again")
    return array


def kept_headers(files: Sequence[Path], cache_dir: Path) -> np.ndarray:
    """Return (n, 2) int64: samples and rate in Hz of audio files.

    The headers are read once, in threads, and kept under `cache_dir` for as long as no file of the list changes its
    size or time.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a header is not readable, or there is no audio behind it.
    """
    cache = cache_dir / "audio_headers" / f"{stat_digest(files)[:32]}.npy"
    return kept_array(cache, (len(files), 2), lambda: np.array(map_in_threads(read_info, files), dtype=np.int64))


class FeatureCache:
    """Arrays of items under one key.

    Args:
        cache_dir: folder of all caches.
        key: says which network, layers and normalisation computed the features.
        what: kind of the arrays, such as frames or statistics.
        n_axes: that every array of this kind has.
        shard_values: values (of 2 bytes) after which a shard is closed.
    """

    def __init__(self, cache_dir: Path, key: str, what: str, n_axes: int, shard_values: int = SHARD_VALUES) -> None:
        self.key, self.what, self.n_axes, self.shard_values = key, what, n_axes, shard_values
        name = sha256_of_json([what, key])[:16]
        self.folder = Path(cache_dir) / "features" / name
        self._places: dict[str, tuple[str, int, tuple[int, ...]]] = {}
        self._read_shards: set[str] = set()
        self._maps: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory maps, which a worker process opens for itself."""
        return {**vars(self), "_maps": {}}

    def __contains__(self, identity: str) -> bool:
        return identity in self._places

    def __getitem__(self, identity: str) -> np.ndarray:
        """The array of an item, float32.

        Raises:
            ValueError: its shard is damaged.
        """
        shard, start, shape = self._places[identity]
        if shard not in self._maps:
            self._maps[shard] = self._open(shard)
        return self._maps[shard][start : start + math.prod(shape)].reshape(shape).astype(np.float32)

    def refresh(self) -> None:
        """Look for shards that were completed since.

        Raises:
            ValueError: an index is damaged.
        """
        for index in sorted(self.folder.glob("*.json")):
            if index.stem not in self._read_shards and index.name != "about.json":
                self._places |= self._read_index(index)
                self._read_shards.add(index.stem)

    def lock(self) -> AbstractContextManager[bool]:
        """Keep other processes from computing features under this key, as a context manager."""
        return locked(self.folder / "features")

    def write(self, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """Add arrays, given as (identity, array); to be called while holding the lock.

        Raises:
            ValueError: wrong number of axes, or a value that is NaN or beyond the range of float16.
        """
        self._remove_incomplete()
        write_json(self.folder / "about.json", {"what": self.what, "key": self.key})
        pending: dict[str, np.ndarray] = {}
        n_values = 0
        for identity, array in arrays:
            if identity in self or identity in pending:
                continue  # the same audio under two names
            pending[identity] = self._checked(identity, np.asarray(array))
            n_values += pending[identity].size
            if n_values >= self.shard_values:
                self._write_shard(pending)
                pending, n_values = {}, 0
        if pending:
            self._write_shard(pending)
        self.refresh()

    def _checked(self, identity: str, array: np.ndarray) -> np.ndarray:
        if array.ndim != self.n_axes or array.size == 0:
            raise ValueError(f"features ({self.what}) of {identity} have the shape {array.shape}")
        limit = np.finfo(np.float16).max
        if not (np.abs(array) <= limit).all():
            raise ValueError(
                f"features of the audio with the hash {identity} are NaN or beyond {limit:g}: the network is broken, "
                "or its features cannot be kept as float16; train with model.cache_features=null"
            )
        return array.astype(np.float16)

    def _write_shard(self, arrays: dict[str, np.ndarray]) -> None:
        number = f"{1 + max((int(path.stem) for path in self.folder.glob('*.npy')), default=-1):06d}"
        sizes = [array.size for array in arrays.values()]
        starts = np.cumsum([0, *sizes])[:-1].tolist()
        with whole_file(self.folder / f"{number}.npy") as file:
            np.save(file, np.concatenate([array.ravel() for array in arrays.values()]))
        places = {name: [start, *array.shape] for (name, array), start in zip(arrays.items(), starts, strict=True)}
        write_json(self.folder / f"{number}.json", {"n_values": sum(sizes), "arrays": places}, indent=None)

    def _remove_incomplete(self) -> None:
        remove_dead_partials(self.folder)
        for shard in self.folder.glob("*.npy"):
            if not shard.with_suffix(".json").is_file():
                shard.unlink()

    def _read_index(self, index: Path) -> dict[str, tuple[str, int, tuple[int, ...]]]:
        try:
            content = json.loads(index.read_bytes())
            places = {name: (index.stem, int(place[0]), tuple(place[1:])) for name, place in content["arrays"].items()}
            sound = all(
                len(shape) == self.n_axes and 0 <= start <= content["n_values"] - math.prod(shape)
                for _, start, shape in places.values()
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise self._damaged(index, error) from error
        if not sound:
            raise self._damaged(index, "an array lies outside of its shard")
        shard = self._open(index.stem)
        if shard.shape != (content["n_values"],) or shard.dtype != np.float16:
            raise self._damaged(index.with_suffix(".npy"), f"holds {shard.dtype} {shard.shape}")
        return places

    def _open(self, shard: str) -> np.ndarray:
        path = self.folder / f"{shard}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, reason: object) -> ValueError:
        return ValueError(
            f"{path}: the cache of features is damaged ({reason}); delete the folder {self.folder}, the features are "
            "computed again"
        )


class Cacheable(Protocol):
    """A dataset whose features can be kept.

    Attributes:
        items: a name per item, as in `id` of a batch.
        lengths: (n,) samples of the items.
    """

    @property
    def items(self) -> list[str]: ...

    @property
    def lengths(self) -> np.ndarray: ...

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]: ...


class Rows(Dataset):
    """Some items of a dataset, addressed by (epoch, position)."""

    def __init__(self, dataset: Cacheable, rows: np.ndarray) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.dataset[(key[0], int(self.rows[key[1]]))]


def fill_cache(
    cache: FeatureCache,
    dataset: Cacheable,
    identities: Sequence[str],
    compute: Compute,
    make_loader: Callable[[Dataset, np.ndarray], DataLoader],
    name: str,
) -> None:
    """Compute what the cache lacks.

    Of several processes one computes, and the others wait and find everything there. After a kill, complete shards are
    there.

    Args:
        cache: of one network, its layers and its normalisation.
        dataset: gives waveforms.
        identities: a name per item that says what is heard.
        compute: batch -> one array per item.
        make_loader: items and their lengths -> batches of the dataset's items.
        name: of the dataset, for the progress bar.
    """
    with cache.lock():
        cache.refresh()
        rows = np.array([row for row, identity in enumerate(identities) if identity not in cache], dtype=np.int64)
        if len(rows):
            log.info("Computing features of %d of %d items of %s", len(rows), len(identities), name)
            identity_of = dict(zip(dataset.items, identities, strict=True))
            loader = make_loader(Rows(dataset, rows), dataset.lengths[rows])
            cache.write(_computed(identity_of, len(rows), loader, compute, name))


def _computed(
    identity_of: dict[str, str], n_rows: int, loader: DataLoader, compute: Compute, name: str
) -> Iterator[tuple[str, np.ndarray]]:
    columns = (TextColumn("features of {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(name, total=n_rows)
        for batch in loader:
            arrays = compute(batch)
            if len(arrays) != len(batch["id"]):
                raise ValueError(f"{len(arrays)} arrays of features for a batch of {len(batch['id'])} items")
            yield from zip((identity_of[each] for each in batch["id"]), arrays, strict=True)
            progress.advance(bar, len(arrays))
