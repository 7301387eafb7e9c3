"""Reading and writing: bit-exact round trips, and errors that name the file, the value and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.audio.io import read_audio, read_audio_channels, read_mono, resample, write_audio


@pytest.fixture
def noise() -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal((2, 4000))).astype(np.float32)


def test_every_16_bit_code_survives_a_round_trip(tmp_path):
    codes = np.arange(-32768, 32768)
    path = write_audio(tmp_path / "codes.wav", (codes / 32768).astype(np.float32), 8000)
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], codes)
    np.testing.assert_array_equal(read_audio(path), (codes / 32768).astype(np.float32))


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_samples_are_rounded_to_the_nearest_code(tmp_path, noise, subtype, bits):
    path = write_audio(tmp_path / "x.wav", noise[0], 8000, subtype=subtype)
    stored = soundfile.read(path, dtype="float64")[0]
    assert np.abs(stored - noise[0].astype(np.float64)).max() <= 0.5 / 2 ** (bits - 1)
    assert soundfile.info(path).subtype == subtype


def test_float_format_keeps_peaks_above_one(tmp_path, noise):
    path = write_audio(tmp_path / "x.wav", 10 * noise[0], 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path), 10 * noise[0])


def test_flac_and_channels(tmp_path, noise):
    path = write_audio(tmp_path / "x.flac", noise, 44100)
    channels, sample_rate = read_audio_channels(path)
    assert sample_rate == 44100
    assert channels.shape == (2, 4000)
    assert channels.dtype == np.float32
    np.testing.assert_allclose(channels, noise, atol=0.5 / 32768 + 1e-7)


def test_channels_that_cancel_are_not_mixed(tmp_path, noise):
    path = write_audio(tmp_path / "x.wav", np.stack([noise[0], -noise[0]]), 8000)
    with pytest.raises(ValueError, match=r"x\.wav: its 2 channels cancel each other .*keep one channel"):
        read_mono(path, 8000)
    silence = write_audio(tmp_path / "silence.wav", np.zeros((2, 100), np.float32), 8000)
    assert not read_mono(silence, 8000).any()


def test_an_excerpt_equals_the_slice(tmp_path, noise):
    path = write_audio(tmp_path / "x.wav", noise[0], 8000)
    whole = read_audio(path, sample_rate=8000)
    np.testing.assert_array_equal(read_audio(path, start=100, n_samples=50), whole[100:150])
    np.testing.assert_array_equal(read_audio(path, start=3990), whole[3990:])


def test_clipping_is_refused_and_the_old_file_stays(tmp_path, noise):
    path = write_audio(tmp_path / "x.wav", noise[0], 8000)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"x\.wav: peak 1\.5000 exceeds 1\.0.*scale"):
        write_audio(path, np.array([0.0, -1.5], np.float32), 8000)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.zeros(0, np.float32), "shape"),
        (np.zeros(4, np.int16), "int16"),
    ],
)
def test_unusable_waveforms_are_refused(tmp_path, waveform, message):
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / "x.wav", waveform, 8000)
    assert not list(tmp_path.iterdir())


def test_a_format_that_cannot_hold_the_samples_is_named(tmp_path, noise):
    with pytest.raises(ValueError, match=r"x\.mp9"):
        write_audio(tmp_path / "x.mp9", noise[0], 8000)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is not audio at all" * 10)


def _empty(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 8000)


def _stereo(path: Path) -> None:
    soundfile.write(path, np.zeros((100, 2)), 8000)


def _other_rate(path: Path) -> None:
    soundfile.write(path, np.zeros(100), 16000)


def _nan(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan, np.inf]), 8000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_garbage, "not readable as audio"),
        (_empty, "holds no samples"),
        (_stereo, "has 2 channels, expected mono"),
        (_other_rate, "sample rate is 16000 Hz, expected 8000 Hz"),
        (_nan, "2 samples are NaN or infinite"),
    ],
)
def test_bad_files_are_named(tmp_path, make, message):
    path = tmp_path / "bad.wav"
    make(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}.*[;(]"):
        read_audio(path, sample_rate=8000)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav: no such audio file"):
        read_audio(tmp_path / "gone.wav")


def test_a_cut_off_file_is_named(tmp_path, noise):
    path = write_audio(tmp_path / "x.wav", noise[0], 8000)
    with pytest.raises(ValueError, match="has 4000 samples, but samples 3000 to 5000"):
        read_audio(path, start=3000, n_samples=2000)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut off"):
        read_audio(path, n_samples=4000)


def test_a_damaged_flac_is_named(tmp_path, noise):
    path = write_audio(tmp_path / "x.flac", noise[0], 8000)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"x\.flac"):
        read_audio(path, n_samples=4000)


@pytest.mark.parametrize(("start", "n_samples"), [(-1, 10), (0, 0)])
def test_impossible_excerpts_are_refused(tmp_path, noise, start, n_samples):
    path = write_audio(tmp_path / "x.wav", noise[0], 8000)
    with pytest.raises(ValueError, match="start"):
        read_audio(path, start=start, n_samples=n_samples)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(16000, 8000), (44100, 16000), (8000, 22050)])
def test_resampling_keeps_a_sine(from_hz, to_hz):
    sine = np.sin(2 * np.pi * 440 * np.arange(from_hz) / from_hz).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(to_hz) / to_hz)
    resampled = resample(np.stack([sine, -sine]), from_hz, to_hz)
    assert resampled.shape == (2, to_hz)
    assert resampled.dtype == np.float32
    middle = slice(to_hz // 10, -to_hz // 10)
    np.testing.assert_allclose(resampled[0, middle], expected[middle], atol=1e-3)
    np.testing.assert_array_equal(resampled[1], -resampled[0])


def test_resampling_to_the_same_rate_changes_nothing(noise):
    np.testing.assert_array_equal(resample(noise, 8000, 8000), noise)


def test_resampling_needs_positive_rates(noise):
    with pytest.raises(ValueError, match="-8000"):
        resample(noise, 8000, -8000)
