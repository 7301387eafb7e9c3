"""Finds every defect of a PolSESS corpus in one pass: tables, files, samples, and the relation between them.

Reading errors carry the words of the functions that training reads with, so both say the same.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hydraudio.audio.packing import Pack, is_pack
from hydraudio.core.defects import Defect, RowResult, check_rows, digest_of
from hydraudio.tasks.separation.corpora.mixtures import (
    broken_samples,
    duplicate_defects,
    shared_talkers,
    silence_defects,
)
from hydraudio.tasks.separation.corpora.polsess.index import (
    CorpusIndex,
    Store,
    list_files,
    missing_files,
    open_store,
    parse_index,
    talker_keys,
)
from hydraudio.tasks.separation.corpora.polsess.layout import COLUMN_OF, FOLDER_OF, SUBSETS
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import parts_of

LIMITER_LEVEL = 0.998
"""The original generator limits speech and reverbs at +-0.999 after the sum was formed: above this,
samples may differ."""

_MUST_SOUND = ("mix", "sp1", "sp2")


def find_defects(
    root: Path, sample_rate: int, *, n_processes: int = 1, on_row: Callable[[int, int], None] | None = None
) -> list[Defect]:
    """Return every defect of a corpus (WAV files or a pack).

    Args:
        root: the corpus.
        sample_rate: in Hz, that the files should have.
        n_processes: rows are read in parallel.
        on_row: called with (rows done, rows in all).
    """
    defects = _pack_defects(root)
    indices = []
    for subset in SUBSETS:
        index, found = parse_index(root, subset)
        defects += found
        if index is not None:
            indices.append(index)
    for index in indices:
        defects += _table_defects(index, packed=is_pack(root))
    defects += _split_defects(root, indices)
    defects += _audio_defects(root, indices, sample_rate, n_processes, on_row)
    return defects


def _pack_defects(root: Path) -> list[Defect]:
    if not is_pack(root):
        return []
    try:
        return [Defect("changed_shard", message) for message in Pack(root).verify()]
    except (ValueError, FileNotFoundError) as error:
        return [Defect("bad_pack", str(error))]


def _table_defects(index: CorpusIndex, *, packed: bool) -> list[Defect]:
    defects = _duplicate_files(index) + _same_talker(index)
    if packed:
        return defects
    rows = np.arange(len(index))
    everything = {room: ("mix", *parts_of(room)) for room in (False, True)}
    return missing_files(index, rows, everything) + _unreferenced_files(index) + defects


def _duplicate_files(index: CorpusIndex) -> list[Defect]:
    """Files that serve twice: a mix in two rows is a repeated row, any other file ties two rows together."""
    used: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for component, names in index.files.items():
        for row, name in enumerate(names.tolist()):
            if name:
                used[FOLDER_OF[component], name].append((row, COLUMN_OF[component]))
    defects = []
    for (folder, name), places in used.items():
        if len(places) > 1:
            kind = "duplicate_row" if folder == "mix" else "duplicate_file"
            listed = ", ".join(f"line {index.lines[row]} ({column})" for row, column in places)
            message = f"{index.table}: {folder}/{name} is used {len(places)} times: {listed}; keep one of these rows"
            defects.append(Defect(kind, message))
    return defects


def _same_talker(index: CorpusIndex) -> list[Defect]:
    keys = talker_keys(index.sources.ravel().tolist())
    return [
        Defect(
            "same_talker",
            f"{index.where(row)}: both talkers are probably the same person ({first!r}, by the source "
            "paths), so that separating them is ill-posed; remove the row",
            "warning",
        )
        for row, (first, second) in enumerate(zip(keys[::2], keys[1::2], strict=True))
        if first is not None and first == second
    ]


def _unreferenced_files(index: CorpusIndex) -> list[Defect]:
    defects = []
    for folder in dict.fromkeys(FOLDER_OF.values()):
        components = [component for component, place in FOLDER_OF.items() if place == folder]
        named = {name for component in components for name in index.files[component].tolist()}
        for name in sorted(list_files(index.folder / folder) - named):
            message = f"{index.folder / folder / name}: no row of {index.table.name} names this file; remove it"
            defects.append(Defect("unreferenced_file", message, "warning"))
    return defects


def _split_defects(root: Path, indices: list[CorpusIndex]) -> list[Defect]:
    """Talkers that are heard in two subsets."""
    flat = [path for index in indices for path in index.sources.ravel().tolist()]
    keys = iter(talker_keys(flat))
    talkers = {index.subset: {key for key in itertools.islice(keys, 2 * len(index)) if key} for index in indices}
    return shared_talkers(root, talkers, known_by="by the source paths: ")


def _audio_defects(
    root: Path,
    indices: list[CorpusIndex],
    sample_rate: int,
    n_processes: int,
    on_row: Callable[[int, int], None] | None,
) -> list[Defect]:
    defects: list[Defect] = []
    stores: list[tuple[CorpusIndex, Store]] = []
    for index in indices:
        try:
            stores.append((index, open_store(root, index, sample_rate)))
        except (ValueError, FileNotFoundError) as error:
            defects.append(Defect("unreadable", str(error)))
    jobs = [(number, row) for number, (index, _) in enumerate(stores) for row in range(len(index))]
    found, same = check_rows(_check_row, stores, jobs, n_processes, on_row)
    defects += found
    paths = ([stores[number][0].path(row, "mix") for number, row in group] for group in same)
    return defects + duplicate_defects(paths)


def _check_row(stores: list[tuple[CorpusIndex, Store]], job: tuple[int, int]) -> RowResult:
    (index, store), row = stores[job[0]], job[1]
    result = RowResult()
    signals: dict[str, np.ndarray] = {}
    for component in ("mix", *parts_of(bool(index.indoor[row]))):
        try:
            signals[component] = store.read(row, component).astype(np.float32) * np.float32(store.scale)
        except FileNotFoundError:
            continue  # listed already, by `missing_files`
        except ValueError as error:
            result.defects.append(Defect("bad_audio", str(error)))
    result.defects += silence_defects(signals, lambda component: index.path(row, component), _MUST_SOUND)
    if "mix" in signals:
        result.digest = digest_of(signals["mix"])
    if len(signals) == 1 + len(parts_of(bool(index.indoor[row]))):
        result.defects += _relation_defects(index, row, signals)
    return result


def _relation_defects(index: CorpusIndex, row: int, signals: dict[str, np.ndarray]) -> list[Defect]:
    """mix = sum of the parts up to rounding; a difference where a limiter was at work is clipping."""
    parts = [signals[name] for name in parts_of(bool(index.indoor[row]))]
    broken, figures = broken_samples(signals["mix"], parts)
    if not broken.any():
        return []
    limited = np.abs(signals["sp1"] + signals["sp2"]) >= LIMITER_LEVEL
    for part in [*parts, signals["mix"]]:
        limited |= np.abs(part) >= LIMITER_LEVEL
    if np.all(limited | ~broken):
        message = (
            f"{index.path(row, 'mix')}: differs from the sum of its parts where a signal is clipped: "
            f"{figures}; use construction=add or remove the row"
        )
        return [Defect("clipping", message, "warning")]
    message = (
        f"{index.path(row, 'mix')}: is not the sum of its parts: {figures}; {index.where(row)}: "
        "write the row's files again or remove the row"
    )
    return [Defect("broken_relation", message)]
