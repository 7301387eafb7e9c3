"""Finds every defect of a Libri2Mix corpus in one pass: tables, files, samples, and the relation between them.

Reading errors carry the words of the functions that training reads with, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hydraudio.core.defects import Defect, RowResult, check_rows, digest_of
from hydraudio.tasks.separation.corpora.libri2mix.dataset import read_whole
from hydraudio.tasks.separation.corpora.libri2mix.index import (
    PARTS_OF,
    SOURCES_OF,
    MixtureIndex,
    Place,
    missing_files,
    parse_index,
)
from hydraudio.tasks.separation.corpora.mixtures import (
    ROUNDING_TOLERANCE,
    broken_samples,
    duplicate_defects,
    list_files,
    shared_talkers,
    silence_defects,
)


def find_defects(
    place: Place,
    subsets: Mapping[str, Sequence[str]],
    problem: str,
    *,
    n_processes: int = 1,
    on_row: Callable[[int, int], None] | None = None,
) -> list[Defect]:
    """Return every defect of the subsets that are used.

    Args:
        place: the audio of one sample rate and mode.
        subsets: split (train, val, test) -> its folders; no talker should be in folders of two splits.
        problem: folder of the mixtures.
        n_processes: rows are read in parallel.
        on_row: called with (rows done, rows in all).
    """
    defects, indices = [], {}
    for name in dict.fromkeys(name for names in subsets.values() for name in names):
        index, found = parse_index(place, name, problem)
        defects += found
        if index is not None:
            indices[name] = index
    for index in indices.values():
        defects += missing_files(index, np.arange(len(index)), (problem, *_parts(index)))
        defects += _unreferenced_files(index) + _same_talker(index)
    defects += _shared_talkers(place, subsets, indices)
    defects += _audio_defects(place, list(indices.values()), n_processes, on_row)
    return defects


def _parts(index: MixtureIndex) -> tuple[str, ...]:
    """What the mixture is the sum of; the noise only where it was kept."""
    sources = SOURCES_OF[index.problem]
    return tuple(part for part in PARTS_OF[index.problem] if part in sources or (index.folder / part).is_dir())


def _unreferenced_files(index: MixtureIndex) -> list[Defect]:
    if index.table is None:
        return []
    named = {f"{name}.wav" for name in index.ids.tolist()}
    left_over = sorted(list_files(index.folder / index.problem) - named)
    return [
        Defect(
            "unreferenced_file",
            f"{index.folder / index.problem / name}: no row of {index.table.name} names this file; remove it",
            "warning",
        )
        for name in left_over
    ]


def _same_talker(index: MixtureIndex) -> list[Defect]:
    defects = []
    for row in range(len(index)):
        talkers = index.talkers(row)
        if len(talkers) != len(set(talkers)):
            message = f"{index.where(row)}: both talkers are the same person ({talkers[0]}); remove the row"
            defects.append(Defect("same_talker", message, "warning"))
    return defects


def _shared_talkers(
    place: Place, subsets: Mapping[str, Sequence[str]], indices: Mapping[str, MixtureIndex]
) -> list[Defect]:
    """Talkers that are heard in folders of two splits."""
    heard: dict[str, set[str]] = {}
    for split, names in subsets.items():
        found = [indices[name] for name in names if name in indices]
        heard[split] = {talker for index in found for row in range(len(index)) for talker in index.talkers(row)}
    return shared_talkers(place.folder, heard)


def _audio_defects(
    place: Place, indices: list[MixtureIndex], n_processes: int, on_row: Callable[[int, int], None] | None
) -> list[Defect]:
    jobs = [(number, row) for number, index in enumerate(indices) for row in range(len(index))]
    defects, same = check_rows(_check_row, (place.sample_rate, indices), jobs, n_processes, on_row)
    paths = ([indices[number].path(row, indices[number].problem) for number, row in group] for group in same)
    return defects + duplicate_defects(paths)


def _check_row(shared: tuple[int, list[MixtureIndex]], job: tuple[int, int]) -> RowResult:
    (sample_rate, indices), (number, row) = shared, job
    index, result = indices[number], RowResult()
    parts, signals = _parts(index), {}
    for part in (index.problem, *parts):
        try:
            length = int(index.lengths(np.array([row]))[0])
            signals[part] = read_whole(index, row, part, sample_rate, length)
        except FileNotFoundError:
            continue  # listed already, by `missing_files`
        except ValueError as error:
            if index.path(row, part).is_file() and index.path(row, index.problem).is_file():
                result.defects.append(Defect("bad_audio", str(error)))
    result.defects += silence_defects(signals, lambda part: index.path(row, part), (index.problem, "s1", "s2"))
    if index.problem in signals:
        result.digest = digest_of(signals[index.problem])
    if parts == PARTS_OF[index.problem] and len(signals) == 1 + len(parts):
        result.defects += _relation_defects(index, row, signals)
    return result


def _relation_defects(index: MixtureIndex, row: int, signals: dict[str, np.ndarray]) -> list[Defect]:
    """mixture = sum of the parts up to rounding; a difference at full scale is clipping."""
    mixture, parts = signals[index.problem], [signals[part] for part in PARTS_OF[index.problem]]
    broken, figures = broken_samples(mixture, parts)
    if not broken.any():
        return []
    path = index.path(row, index.problem)
    limited = np.any(np.abs([mixture, *parts]) >= 1.0 - 2 * ROUNDING_TOLERANCE, axis=0)
    if np.all(limited | ~broken):
        message = f"{path}: differs from the sum of its parts where a signal is clipped: {figures}"
        return [Defect("clipping", f"{message}; remove the row if that matters", "warning")]
    message = f"{path}: is not the sum of {', '.join(PARTS_OF[index.problem])}: {figures}; write the row's files again"
    return [Defect("broken_relation", message)]
