"""What may be wrong with the audio files of any corpus: missing, unreadable, silent, cancelled, clipped, repeated.

Reading errors carry the words of the functions that training reads with, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hydraudio.audio.io import channels_cancel, missing_text, mixed_down, read_audio_channels
from hydraudio.core.defects import Defect, RowResult, check_rows, digest_of

AUDIO_ENDINGS = (".wav", ".flac")

FULL_SCALE = 1.0 - 1.5 / 32768
"""From here on a sample of 16 bits is at the end of its range."""

MAX_SHARE_AT_FULL_SCALE = 1e-3
"""A recording with more of its samples there is called clipped; scaling to the peak leaves a few."""

Read = Callable[[Path | str], tuple[np.ndarray, int]]
"""Path -> (channels, time) float32 and the rate in Hz; a function of a module, as it runs in other processes."""


def file_defects(
    paths: Sequence[Path | str],
    read: Read = read_audio_channels,
    stored_in: Callable[[Path | str], Path] = Path,
    *,
    sample_rate: int | None = None,
    n_processes: int = 1,
    on_row: Callable[[int, int], None] | None = None,
) -> list[Defect]:
    """Return every defect of the recordings, and groups of them that hold the same samples.

    Args:
        paths: of files, or of what lies in files.
        read: what training reads with.
        stored_in: path -> the file that it lies in.
        sample_rate: that the files should have, in Hz; another one is worth a warning. None for any.
        n_processes: recordings are read in parallel.
        on_row: called with (recordings done, recordings in all).
    """
    defects, same = check_rows(_check_audio, (read, stored_in, sample_rate), paths, n_processes, on_row)
    for group in same:
        message = f"{', '.join(map(str, group))}: hold the same samples; keep one of these rows"
        defects.append(Defect("duplicate_audio", message, "warning"))
    return defects


def unreferenced_files(paths: Sequence[Path]) -> list[Defect]:
    """Return a warning per WAV or FLAC file that lies beside files that a corpus names, but is not named itself."""
    named = set(paths)
    left_over = [
        path
        for folder in sorted({path.parent for path in named})
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in AUDIO_ENDINGS and not path.name.startswith(".") and path not in named
    ]
    return [
        Defect("unreferenced_file", f"{path}: no row of the labels names this file; it plays no part", "warning")
        for path in left_over
    ]


def _check_audio(shared: tuple[Read, Callable[[Path | str], Path], int | None], path: Path | str) -> RowResult:
    read, stored_in, sample_rate = shared
    result = RowResult()
    if not stored_in(path).is_file():
        result.defects.append(Defect("missing_file", missing_text(path)))
        return result
    try:
        waveform, file_rate = read(path)
    except (ValueError, FileNotFoundError) as error:
        result.defects.append(Defect("bad_audio", str(error)))
        return result
    result.digest = digest_of(waveform)
    result.defects += _form_defects(path, waveform, file_rate, sample_rate) + _level_defects(path, waveform)
    return result


def _form_defects(path: Path | str, waveform: np.ndarray, file_rate: int, sample_rate: int | None) -> list[Defect]:
    defects = []
    if sample_rate is not None and file_rate != sample_rate:
        message = (
            f"{path}: sample rate is {file_rate} Hz, that of the corpus {sample_rate} Hz; it is resampled whenever"
        )
        defects.append(Defect("other_rate", f"{message} it is read: check where the file comes from", "warning"))
    if len(waveform) > 1:
        message = (
            f"{path}: has {len(waveform)} channels; their average is taken: check that one is not another recording"
        )
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
