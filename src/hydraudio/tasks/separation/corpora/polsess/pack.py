"""Packing a PolSESS corpus: its WAV files as memory-mapped shards of 16-bit codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from hydraudio.audio.packing import FULL_SCALE, Group, write_pack
from hydraudio.core.defects import or_raise, raise_first
from hydraudio.tasks.separation.corpora.polsess.index import (
    CorpusIndex,
    clip_length,
    corpus_fingerprint,
    group_name,
    missing_files,
    parse_index,
    read_clip,
)
from hydraudio.tasks.separation.corpora.polsess.layout import SUBSETS
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import parts_of


def pack_corpus(
    root: Path,
    target: Path,
    sample_rate: int,
    *,
    rows_per_shard: int = 256,
    n_processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Pack every subset of a PolSESS corpus of 16-bit WAV files; the tables are copied along."""
    present = [subset for subset in SUBSETS if (root / subset).is_dir()]
    if not present:
        raise FileNotFoundError(f"{root}: holds none of the folders {', '.join(SUBSETS)}; check the path")
    indices = [or_raise(parse_index(root, subset)) for subset in present]
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
        Group(group_name(index.subset, room), _fields(room), n_rows, n_samples, rows_per_shard)
        for room, n_rows in counts.items()
        if n_rows
    ]


@lru_cache(maxsize=8)
def _cached_index(root: str, subset: str, fingerprint: str) -> tuple[CorpusIndex, dict[bool, np.ndarray]]:
    """Table and the rows of each group, read once per process (the fingerprint keeps apart what has changed)."""
    index = or_raise(parse_index(Path(root), subset))
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


def _fields(indoor: bool) -> tuple[str, ...]:
    return ("mix", *parts_of(indoor))
