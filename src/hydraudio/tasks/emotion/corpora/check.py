"""Finds every defect of the audio of an emotion corpus in one pass.

Reading errors carry the words of the functions that training reads with, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydraudio.core.audio_defects import file_defects, unreferenced_files
from hydraudio.core.defects import Defect
from hydraudio.tasks.emotion.corpora.audio import is_member, read_native, stored_in
from hydraudio.tasks.emotion.corpora.utterances import Utterance, missing_splits, shared_speakers, without


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
    defects = file_defects(
        paths, read_native, stored_in, sample_rate=sample_rate, n_processes=n_processes, on_row=on_row
    )
    return defects + unreferenced_files([Path(path) for path in (*paths, *excluded) if not is_member(path)])
