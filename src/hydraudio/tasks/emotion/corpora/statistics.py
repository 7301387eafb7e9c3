"""Mean and standard deviation of the samples of a training set, for the normalisation of waveforms."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hydraudio.core.feature_cache import locked, stat_digest
from hydraudio.core.files import write_json
from hydraudio.core.parallel import map_in_processes
from hydraudio.tasks.emotion.corpora.audio import read_waveform, stored_in
from hydraudio.tasks.emotion.corpora.utterances import Utterance, manifest_fingerprint

log = logging.getLogger(__name__)

_UTTERANCES_PER_JOB = 32


@dataclass(frozen=True)
class WaveformStatistics:
    """Of all samples together: mean = sum x / n, std = sqrt(sum x^2 / n - mean^2), accumulated in float64."""

    mean: float
    std: float
    n_samples: int


def waveform_statistics(
    paths: Sequence[Path | str],
    *,
    sample_rate: int,
    max_samples: int | None,
    cache_dir: Path,
    n_processes: int | None = None,
) -> WaveformStatistics:
    """Statistics of the utterances of a training set, kept as JSON under `cache_dir`.

    Args:
        paths: files and members of shards.
        sample_rate: in Hz; files of another rate are resampled first.
        max_samples: only so many samples from the start of each count, as in training; None for all.
        cache_dir: the file's name there is a hash of the list, of the sizes and times of its files and of the options.
        n_processes: None for one per processor where there is enough to do.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not readable, the whole training set is silent, or the cache is damaged.
    """
    name = f"{stat_digest(paths, stored_in)[:32]}_{sample_rate}_{max_samples or 'all'}.json"
    cache = cache_dir / "waveform_statistics" / name
    with locked(cache.parent / "waveform_statistics"):
        if not cache.is_file():
            log.info("Computing mean and standard deviation of %d training utterances", len(paths))
            statistics = compute_statistics(paths, sample_rate, max_samples, n_processes)
            write_json(cache, asdict(statistics))
    return _load(cache)


def compute_statistics(
    paths: Sequence[Path | str], sample_rate: int, max_samples: int | None, n_processes: int | None = None
) -> WaveformStatistics:
    """Reads all utterances; nothing is kept."""
    jobs = [paths[start : start + _UTTERANCES_PER_JOB] for start in range(0, len(paths), _UTTERANCES_PER_JOB)]
    n_samples, total, squares = 0, [], []
    for count, part, square in map_in_processes(_sums, (sample_rate, max_samples), jobs, n_processes):
        n_samples += count
        total.append(part)
        squares.append(square)
    mean = math.fsum(total) / n_samples
    variance = math.fsum(squares) / n_samples - mean**2
    if not variance > 0.0:
        raise ValueError(f"{paths[0]} and {len(paths) - 1} more: the training set is silent; check the audio files")
    return WaveformStatistics(mean, math.sqrt(variance), n_samples)


def _sums(options: tuple[int, int | None], paths: Sequence[Path | str]) -> tuple[int, float, float]:
    """Number, sum and sum of squares of the samples of some utterances."""
    sample_rate, max_samples = options
    n_samples, total, squares = 0, 0.0, 0.0
    for path in paths:
        waveform = read_waveform(path, sample_rate)[:max_samples].astype(np.float64)
        n_samples += len(waveform)
        total += float(waveform.sum())
        squares += float(np.square(waveform).sum())
    return n_samples, total, squares


def write_statistics(statistics: WaveformStatistics, utterances: Sequence[Utterance], path: Path) -> None:
    """Writes what a training was normalised with: mean, std, n_samples, n_files and fingerprint of its utterances."""
    content = {**asdict(statistics), "n_files": len(utterances), "fingerprint": manifest_fingerprint(utterances)}
    write_json(path, content)


def _load(cache: Path) -> WaveformStatistics:
    try:
        statistics = WaveformStatistics(**json.loads(cache.read_bytes()))
        sound = statistics.n_samples > 0 and math.isfinite(statistics.mean) and 0 < statistics.std < math.inf
    except (ValueError, TypeError) as error:
        raise ValueError(f"{cache}: the cache is damaged here ({error}); delete it, it is made again") from error
    if not sound:
        raise ValueError(f"{cache}: holds {statistics}, which no audio has; delete it, it is made again")
    return statistics
