"""Where the samples of a PolSESS subset come from: WAV files, or a pack that `pack_corpus` has written.

Both stores give `read(row, component, start, n_samples)`, a (time,) array, and `scale`, the factor that
brings its values to [-1, 1]. Sums of 16-bit codes are exact in float32, so both give the same bits after
the scaling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np

from hydraudio.audio.io import read_audio, read_info
from hydraudio.audio.packing import FULL_SCALE, Group, Pack, is_pack, write_pack
from hydraudio.core.defects import raise_first
from hydraudio.tasks.separation.corpora.polsess.index import CorpusIndex, corpus_fingerprint, missing_files, read_index
from hydraudio.tasks.separation.corpora.polsess.layout import SUBSETS
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import parts_of

_N_PROBES = 9


class Store(Protocol):
    """What the dataset needs of a subset's samples."""

    scale: float
    n_samples: int
    sample_rate: int

    def read(self, row: int, component: str, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """(time,) int16 or float32, to be multiplied by `scale`; n_samples None reads the whole clip."""
        ...


class WavStore:
    """Reads the WAV files of a subset (float32, scale 1)."""

    scale = 1.0

    def __init__(self, index: CorpusIndex, sample_rate: int) -> None:
        self.index, self.sample_rate = index, sample_rate
        self.n_samples = clip_length(index)

    def read(self, row: int, component: str, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """(time,) float32 in [-1, 1]."""
        path = self.index.path(row, component)
        if n_samples is not None and n_samples < self.n_samples:
            return read_audio(path, sample_rate=self.sample_rate, start=start, n_samples=n_samples)
        return read_clip(path, self.sample_rate, self.n_samples)


class PackedStore:
    """Reads a subset from a pack (int16 codes, scale 1/32768)."""

    scale = 1.0 / FULL_SCALE

    def __init__(self, index: CorpusIndex, pack: Pack, sample_rate: int) -> None:
        if pack.sample_rate != sample_rate:
            raise ValueError(
                f"{pack.folder}: packed at {pack.sample_rate} Hz, expected {sample_rate} Hz; "
                "set the sample rate to the pack's"
            )
        self.pack, self.sample_rate = pack, sample_rate
        self._group = {room: _group_name(index.subset, room) for room in (False, True)}
        self._indoor = index.indoor
        self._position = _positions(index.indoor)
        self.n_samples = pack.groups[self._group[bool(index.indoor[0])]].n_samples

    def read(self, row: int, component: str, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """(time,) int16, a view of the memory map."""
        group = self._group[bool(self._indoor[row])]
        return self.pack.read(group, int(self._position[row]), component, start, n_samples)


def open_store(root: Path, index: CorpusIndex, sample_rate: int) -> WavStore | PackedStore:
    """The store of a subset; a root with a pack's manifest is read as a pack."""
    if not is_pack(root):
        return WavStore(index, sample_rate)
    pack = Pack(root)
    for room in (False, True):
        name, n_rows = _group_name(index.subset, room), int((index.indoor == room).sum())
        n_packed = pack.groups[name].n_rows if name in pack.groups else 0
        if n_packed != n_rows:
            raise ValueError(
                f"{index.table}: {n_rows} rows of group {name}, but {n_packed} are packed; pack the corpus again"
            )
    return PackedStore(index, pack, sample_rate)


def read_clip(path: Path, sample_rate: int, n_samples: int) -> np.ndarray:
    """(time,) float32 in [-1, 1]: a whole file, which must have the corpus's rate and length."""
    waveform = read_audio(path, sample_rate=sample_rate)
    if len(waveform) != n_samples:
        raise ValueError(
            f"{path}: has {len(waveform)} samples, expected {n_samples} like the other clips; "
            "cut or write the file again, or remove its row"
        )
    return waveform


def clip_length(index: CorpusIndex) -> int:
    """Samples per clip: the median over the headers of up to nine mixes or talkers, spread over the subset.

    Unreadable files among them are passed over (they are reported when they are read) unless all are
    unreadable.
    """
    rows = np.linspace(0, len(index) - 1, min(_N_PROBES, len(index))).astype(int)
    paths = [index.path(int(row), component) for row in rows for component in ("mix", "sp1")]
    lengths = [length for path in paths if (length := _header_length(path)) is not None]
    if not lengths:
        read_audio(paths[0])
        raise ValueError(f"{index.folder}: none of the first files can be read; check the corpus")
    return int(np.sort(lengths)[len(lengths) // 2])


def pack_corpus(
    root: Path,
    target: Path,
    sample_rate: int,
    *,
    rows_per_shard: int = 256,
    n_processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Packs every subset of a PolSESS corpus of 16-bit WAV files; the tables are copied along."""
    present = [subset for subset in SUBSETS if (root / subset).is_dir()]
    if not present:
        raise FileNotFoundError(f"{root}: holds none of the folders {', '.join(SUBSETS)}; check the path")
    indices = [read_index(root, subset) for subset in present]
    groups = []
    for index in indices:
        raise_first(missing_files(index, np.arange(len(index)), {room: _fields(room) for room in (False, True)}))
        groups += _groups(index, rows_per_shard)
    fingerprint = corpus_fingerprint(root)
    lengths = {group.name: group.n_samples for group in groups}
    return write_pack(
        target,
        groups,
        partial(_read_packable, str(root), fingerprint, sample_rate, lengths),
        sample_rate=sample_rate,
        fingerprint=fingerprint,
        texts={f"{index.subset}/{index.table.name}": index.table.read_bytes() for index in indices},
        n_processes=n_processes,
        on_shard=on_shard,
    )


def _groups(index: CorpusIndex, rows_per_shard: int) -> list[Group]:
    n_samples = clip_length(index)
    counts = {room: int((index.indoor == room).sum()) for room in (True, False)}
    return [
        Group(_group_name(index.subset, room), _fields(room), n_rows, n_samples, rows_per_shard)
        for room, n_rows in counts.items()
        if n_rows
    ]


@lru_cache(maxsize=8)
def _cached_index(root: str, subset: str, fingerprint: str) -> tuple[CorpusIndex, dict[bool, np.ndarray]]:
    """Table and the rows of each group, read once per process (the fingerprint keeps apart what has changed)."""
    index = read_index(Path(root), subset)
    return index, {room: np.flatnonzero(index.indoor == room) for room in (False, True)}


def _read_packable(
    root: str, fingerprint: str, sample_rate: int, lengths: dict[str, int], group: str, position: int
) -> np.ndarray:
    """(fields, time) int16 codes of a row."""
    subset, room = group.split("/")
    index, rows = _cached_index(root, subset, fingerprint)
    indoor = room == "indoor"
    row = int(rows[indoor][position])
    paths = [index.path(row, component) for component in _fields(indoor)]
    return np.stack([_read_codes(path, sample_rate, lengths[group]) for path in paths])


def _read_codes(path: Path, sample_rate: int, n_samples: int) -> np.ndarray:
    waveform = read_clip(path, sample_rate, n_samples)
    codes = waveform * FULL_SCALE
    rounded = np.rint(codes)
    if not np.array_equal(codes, rounded) or rounded.max() >= FULL_SCALE:
        raise ValueError(f"{path}: holds more than 16 bits per sample; packs are 16-bit, use the files unpacked")
    return rounded.astype(np.int16)


def _header_length(path: Path) -> int | None:
    try:
        return read_info(path).n_samples
    except (ValueError, FileNotFoundError):
        return None


def _group_name(subset: str, indoor: bool) -> str:
    return f"{subset}/{'indoor' if indoor else 'outdoor'}"


def _fields(indoor: bool) -> tuple[str, ...]:
    return ("mix", *parts_of(indoor))


def _positions(indoor: np.ndarray) -> np.ndarray:
    """(n,) position of every row within its group."""
    return np.where(indoor, np.cumsum(indoor) - 1, np.cumsum(~indoor) - 1)
