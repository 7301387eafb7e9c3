"""Features of a frozen network, computed once and read from disk ever after.

    <cache_dir>/features/<hash of what and key>/
        about.json          what and key in words
        <number>.npy        float16: the arrays of some utterances, one after the other; read through a memory map
        <number>.json       where each of them begins, and its shape, by the identity of the utterance's audio

A shard counts from the moment its JSON file exists, which is written last: after a kill, complete shards are kept. The
identity of the audio is a hash of its content, so that copies, other splits and other selections share what is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hydraudio.core.files import sha256_of_json, whole_file, write_json
from hydraudio.core.options import check_choice
from hydraudio.tasks.emotion.corpora.caching import locked

FeatureKind = Literal["frames", "statistics"]
"""frames: (layers, frames, dimensions) per utterance; statistics: (layers, 2 * dimensions), mean and deviation."""

SHARD_VALUES = 128 * 2**20
"""Values per shard: 256 MiB as float16."""

_N_AXES = {"frames": 3, "statistics": 2}


class FeatureCache:
    """Arrays of utterances under one key.

    Args:
        cache_dir: folder of all caches.
        key: says which network, layers and normalisation computed the features.
        what: kind of the arrays.
        shard_values: values (of 2 bytes) after which a shard is closed.
    """

    def __init__(self, cache_dir: Path, key: str, what: FeatureKind, shard_values: int = SHARD_VALUES) -> None:
        self.key, self.what, self.shard_values = key, check_choice("what", what, get_args(FeatureKind)), shard_values
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
        """The array of an utterance, float32.

        Raises:
            ValueError: its shard is damaged.
        """
        shard, start, shape = self._places[identity]
        if shard not in self._maps:
            self._maps[shard] = self._open(shard)
        return self._maps[shard][start : start + math.prod(shape)].reshape(shape).astype(np.float32)

    def refresh(self) -> None:
        """Looks for shards that were completed since.

        Raises:
            ValueError: an index is damaged.
        """
        for index in sorted(self.folder.glob("*.json")):
            if index.stem not in self._read_shards and index.name != "about.json":
                self._places |= self._read_index(index)
                self._read_shards.add(index.stem)

    def lock(self) -> Any:
        """Context manager: no other process computes features under this key meanwhile."""
        return locked(self.folder / "features")

    def write(self, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """Adds arrays, given as (identity, array); to be called while holding the lock.

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
        if array.ndim != _N_AXES[self.what] or array.size == 0:
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
        for shard in self.folder.glob("*.npy"):
            if not shard.with_suffix(".json").is_file():
                shard.unlink()

    def _read_index(self, index: Path) -> dict[str, tuple[str, int, tuple[int, ...]]]:
        try:
            content = json.loads(index.read_bytes())
            places = {name: (index.stem, int(place[0]), tuple(place[1:])) for name, place in content["arrays"].items()}
            sound = all(
                len(shape) == _N_AXES[self.what] and 0 <= start <= content["n_values"] - math.prod(shape)
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
