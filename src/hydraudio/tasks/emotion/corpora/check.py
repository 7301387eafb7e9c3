"""Finds every defect of the audio of an emotion corpus in one pass.

Reading errors carry the words of the functions that training reads with, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hydraudio.audio.io import channels_cancel, missing_text, mixed_down
from hydraudio.core.defects import Defect, RowResult, check_rows, digest_of
from hydraudio.tasks.emotion.corpora.audio import is_member, read_native, stored_in
from hydraudio.tasks.emotion.corpora.utterances import Utterance, missing_splits, shared_speakers, without

AUDIO_ENDINGS = (".wav", ".flac")

FULL_SCALE = 1.0 - 1.5 / 32768
"""From here on a sample of 16 bits is at the end of its range."""

MAX_SHARE_AT_FULL_SCALE = 1e-3
"""A turn with more of its samples there is called clipped; scaling to the peak leaves a few."""


def split_defects(root: Path, rows: Sequence[Utterance], splits: Mapping[str, Sequence[str]]) -> list[Defect]:
    """Splits that the corpus does not have, and speakers that are heard in two of ours."""
    every = [name for names in splits.values() for name in names]
    defects = [Defect("missing_split", text) for text in missing_splits(rows, every)]
    parts = {split: [row for row in rows if row.split in names] for split, names in splits.items()}
    return defects + [Defect("shared_speaker", f"{root}: {text}", "warning") for text in shared_speakers(parts)]


def corpus_defects(
    root: Path,
    rows: Sequence[Utterance],
    splits: Mapping[str, Sequence[str]],
    *,
    exclude: Collection[str],
    may_be_absent: Collection[str],
    **audio: Any,
) -> list[Defect]:
    """Return everything that is wrong beyond the label files: names of excluded files, splits, speakers and audio.

    Args:
        root: the corpus folder.
        rows: of all splits.
        splits: split -> the splits that make it up.
        exclude: names of files that are left out.
        may_be_absent: those of them that need not exist.
        **audio: see :func:`audio_defects`.
    """
    if not rows:
        return []
    excluded = [row.path for row in rows if row.file_name in exclude]
    defects = []
    try:
        rows = without(rows, exclude, may_be_absent)
    except ValueError as error:
        defects.append(Defect("bad_exclude", f"{root}: {error}"))
    return defects + split_defects(root, rows, splits) + audio_defects(rows, excluded=excluded, **audio)


def audio_defects(
    rows: Sequence[Utterance],
    *,
    sample_rate: int,
    excluded: Collection[Path | str] = (),
    n_processes: int = 1,
    on_row: Callable[[int, int], None] | None = None,
) -> list[Defect]:
    """Return every defect of the audio of the rows, and audio files beside them that no row names.

    Args:
        rows: of all splits.
        sample_rate: that the files of the corpus have, in Hz; another one is worth a warning.
        excluded: files that are left out on purpose.
        n_processes: utterances are read in parallel.
        on_row: called with (rows done, rows in all).
    """
    paths = [row.path for row in rows]
    defects, same = check_rows(_check_audio, sample_rate, paths, n_processes, on_row)
    for group in same:
        message = f"{', '.join(map(str, group))}: hold the same samples; keep one of these rows"
        defects.append(Defect("duplicate_audio", message, "warning"))
    return defects + _unreferenced_files([*paths, *excluded])


def _check_audio(sample_rate: int, path: Path | str) -> RowResult:
    result = RowResult()
    if not stored_in(path).is_file():
        result.defects.append(Defect("missing_file", missing_text(path)))
        return result
    try:
        waveform, file_rate = read_native(path)
    except (ValueError, FileNotFoundError) as error:
        result.defects.append(Defect("bad_audio", str(error)))
        return result
    result.digest = digest_of(waveform)
    result.defects += _form_defects(path, waveform, file_rate, sample_rate) + _level_defects(path, waveform)
    return result


def _form_defects(path: Path | str, waveform: np.ndarray, file_rate: int, sample_rate: int) -> list[Defect]:
    defects = []
    if file_rate != sample_rate:
        message = (
            f"{path}: sample rate is {file_rate} Hz, that of the corpus {sample_rate} Hz; it is resampled whenever"
        )
        defects.append(Defect("other_rate", f"{message} it is read: check where the file comes from", "warning"))
    if len(waveform) > 1:
        message = f"{path}: has {len(waveform)} channels; their average is taken: check that one is not another talker"
        defects.append(Defect("channels", message, "warning"))
    return defects


def _level_defects(path: Path | str, waveform: np.ndarray) -> list[Defect]:
    level = np.abs(waveform)
    if not level.any():
        return [Defect("silent", f"{path}: is silent throughout; remove the row or fetch the file again")]
    if channels_cancel(float(np.square(waveform).mean()), float(np.square(mixed_down(waveform)).mean())):
        message = f"{path}: its {len(waveform)} channels cancel each other in their mix; keep one channel of it"
        return [Defect("cancelled", message)]
    share = float((level >= FULL_SCALE).mean())
    if share > MAX_SHARE_AT_FULL_SCALE:
        message = f"{path}: is clipped: {100 * share:.2f} % of the samples are at full scale; remove the row if that"
        return [Defect("clipping", f"{message} matters", "warning")]
    return []


def _unreferenced_files(paths: Sequence[Path | str]) -> list[Defect]:
    named = {Path(path) for path in paths if not is_member(path)}
    folders = sorted({path.parent for path in named})
    left_over = [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in AUDIO_ENDINGS and not path.name.startswith(".") and path not in named
    ]
    return [
        Defect("unreferenced_file", f"{path}: no row of the labels names this file; it plays no part", "warning")
        for path in left_over
    ]
