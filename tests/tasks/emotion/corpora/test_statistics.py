"""Mean and deviation over all samples, in float64, kept for as long as the files are the same."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.core.files import locked
from hydraudio.tasks.emotion.corpora import audio
from hydraudio.tasks.emotion.corpora.audio import compute_statistics, waveform_statistics

RATE = 16000


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """12 files of unequal length, level and offset."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n:02d}.wav" for n in range(12)]
    for n, path in enumerate(paths):
        soundfile.write(path, rng.normal(0.01 * (n % 3), 0.02 + 0.003 * n, 200 + 17 * n), RATE, subtype="PCM_16")
    return paths


def samples(paths: list[Path], limit: int | None = None) -> np.ndarray:
    return np.concatenate([soundfile.read(path, dtype="float64")[0][:limit] for path in paths])


def of(paths: list[Path], cache: Path, max_samples: int | None = None) -> audio.WaveformStatistics:
    return waveform_statistics(paths, sample_rate=RATE, max_samples=max_samples, cache_dir=cache, n_processes=1)


@pytest.mark.parametrize("limit", [None, 300])
def test_values_are_those_of_all_samples_at_once(files, tmp_path, limit):
    every, found = samples(files, limit), of(files, tmp_path / "cache", limit)
    assert found.n_samples == len(every)
    assert found.mean == pytest.approx(every.mean(), rel=1e-9)
    assert found.std == pytest.approx(every.std(), rel=1e-9)


@pytest.mark.slow
def test_several_processes_find_the_same(files):
    assert compute_statistics(6 * files, RATE, None, 1) == compute_statistics(6 * files, RATE, None, 2)


def test_a_small_deviation_on_a_large_offset_survives(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.9 + 1e-4 * np.resize([1.0, -1.0], 100000), RATE, subtype="FLOAT")
    assert compute_statistics([path], RATE, None).std == pytest.approx(1e-4, rel=1e-3)


def test_second_call_reads_the_file(files, tmp_path, monkeypatch):
    first = of(files, tmp_path / "cache")
    assert np.load(next((tmp_path / "cache").rglob("*.npy"))).tolist() == list(first)
    monkeypatch.setattr(audio, "compute_statistics", lambda *_: pytest.fail("computed again"))
    assert of(files, tmp_path / "cache") == first


def test_other_lists_options_and_contents_are_computed_anew(files, tmp_path):
    cache = tmp_path / "cache"
    found = [of(files, cache), of(files[:-1], cache), of(files, cache, 100)]
    found.append(waveform_statistics(files, sample_rate=8000, max_samples=None, cache_dir=cache, n_processes=1))
    soundfile.write(files[0], np.ones(200) / 2, RATE)
    found.append(of(files, cache))
    assert len({each.mean for each in found}) == 5


@pytest.mark.parametrize("n_bytes", [0, 7, 100, -1, None])
def test_a_damaged_cache_is_named(files, tmp_path, n_bytes):
    of(files, tmp_path / "cache")
    file = next((tmp_path / "cache").rglob("*.npy"))
    if n_bytes is None:
        np.save(file, np.zeros(2))
    else:
        file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=rf"{file.name}.*delete it"):
        of(files, tmp_path / "cache")


def test_a_lock_makes_others_wait(tmp_path):
    events = []

    def wait() -> None:
        with locked(tmp_path / "cache"):
            events.append("second")

    other = threading.Thread(target=wait)
    with locked(tmp_path / "cache"):
        other.start()
        other.join(0.1)
        events.append("first")
    other.join()
    assert events == ["first", "second"]


def test_silence_has_no_deviation(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(500), RATE)
    with pytest.raises(ValueError, match="the training set is silent"):
        compute_statistics([tmp_path / "a.wav"], RATE, None)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.wav: no such audio file"):
        of([tmp_path / "b.wav"], tmp_path / "cache")
