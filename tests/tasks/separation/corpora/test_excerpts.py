"""Cutting excerpts of speech, scenes and events out of recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hydraudio.audio.io import write_audio
from hydraudio.tasks.separation.corpora.polsess.builder.excerpts import (
    cut_event,
    cut_scene,
    cut_speech,
    require_audible,
)
from hydraudio.tasks.separation.corpora.polsess.builder.sources import Recording, list_classes

SAMPLE_RATE = 8000


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _ramp(path: Path, n_samples: int, sample_rate: int = SAMPLE_RATE, start: float = 0.1) -> np.ndarray:
    """A file whose samples tell where they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = (start + np.arange(n_samples) * 1e-5).astype(np.float32)
    write_audio(path, waveform, sample_rate, subtype="FLOAT")
    return waveform


def _list(folder: Path):
    return list_classes(folder, folder)


def test_a_long_file_gives_one_stretch_with_its_position(tmp_path):
    whole = _ramp(tmp_path / "speech" / "a" / "1.wav", 40_000)
    recordings = _list(tmp_path / "speech")["a"]
    excerpt = cut_speech(recordings, 8000, SAMPLE_RATE, _rng())
    np.testing.assert_array_equal(excerpt.waveform, whole[excerpt.start - 1 : excerpt.end])
    assert excerpt.end - excerpt.start + 1 == 8000
    assert excerpt.name == "speech/a/1.wav"
    assert excerpt.start != cut_speech(recordings, 8000, SAMPLE_RATE, _rng(1)).start


def test_short_files_of_a_talker_are_joined_with_pauses(tmp_path):
    for number in range(6):
        _ramp(tmp_path / "speech" / "a" / f"{number}.wav", 3000, start=0.1 * (number + 1))
    excerpt = cut_speech(_list(tmp_path / "speech")["a"], 8000, SAMPLE_RATE, _rng())
    names = excerpt.name.removeprefix("speech/a/").split("+")
    assert len(names) >= 2
    heard = excerpt.waveform[excerpt.waveform > 0]
    assert [f"{number}.wav" for number in dict.fromkeys((heard * 10 + 1e-3).astype(int) - 1)] == names
    assert 800 <= np.sum(excerpt.waveform == 0) < 8000


def test_silence_in_a_long_file_is_avoided(tmp_path):
    waveform = np.zeros(64_000, np.float32)
    waveform[40_000:56_000] = 0.1 * _rng().standard_normal(16_000)
    path = tmp_path / "speech" / "a" / "1.wav"
    path.parent.mkdir(parents=True)
    write_audio(path, waveform, SAMPLE_RATE)
    recordings = _list(tmp_path / "speech")["a"]
    active = [np.mean(np.abs(cut_speech(recordings, 16_000, SAMPLE_RATE, _rng(s)).waveform) > 0) for s in range(20)]
    assert np.median(active) > 0.5


def test_other_rates_and_channels_are_brought_to_mono(tmp_path):
    time_s = np.arange(96_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s)
    path = tmp_path / "scene" / "hum" / "1.flac"
    path.parent.mkdir(parents=True)
    write_audio(path, np.stack([tone, 0.5 * tone]), 48_000)
    excerpt = cut_scene(_list(tmp_path / "scene")["hum"][0], 8000, SAMPLE_RATE, _rng())
    assert excerpt.waveform.shape == (8000,)
    assert np.sqrt(2) * excerpt.waveform.std() == pytest.approx(0.225, rel=0.01)
    spectrum = np.abs(np.fft.rfft(excerpt.waveform))
    assert np.argmax(spectrum) == 440
    assert excerpt.end - excerpt.start + 1 == 48_000


def test_a_short_scene_is_repeated_without_clicks(tmp_path):
    time_s = np.arange(5000) / SAMPLE_RATE
    path = tmp_path / "scene" / "hum" / "1.wav"
    path.parent.mkdir(parents=True)
    write_audio(path, 0.3 * np.sin(2 * np.pi * 100 * time_s), SAMPLE_RATE)
    excerpt = cut_scene(_list(tmp_path / "scene")["hum"][0], 16_000, SAMPLE_RATE, _rng())
    assert excerpt.waveform.shape == (16_000,)
    assert np.abs(np.diff(excerpt.waveform)).max() < 0.05
    assert (excerpt.start, excerpt.end) == (1, 5000)


def test_an_event_is_trimmed_and_placed(tmp_path):
    sound = np.zeros(6000, np.float32)
    sound[2000:3000] = 0.5
    path = tmp_path / "event" / "door" / "1.wav"
    path.parent.mkdir(parents=True)
    write_audio(path, sound, SAMPLE_RATE)
    recording = _list(tmp_path / "event")["door"][0]
    starts = set()
    for seed in range(8):
        excerpt = cut_event(recording, 4000, SAMPLE_RATE, _rng(seed))
        heard = np.flatnonzero(excerpt.waveform)
        starts.add(int(heard[0]))
        assert heard[-1] - heard[0] < 1000
        assert (excerpt.start, excerpt.end) == (2001, 3000)
    assert len(starts) > 4


def test_a_silent_file_is_named(tmp_path):
    path = tmp_path / "event" / "door" / "mute.wav"
    path.parent.mkdir(parents=True)
    write_audio(path, np.zeros(6000, np.float32), SAMPLE_RATE)
    recording = _list(tmp_path / "event")["door"][0]
    for cut in (cut_event, cut_scene):
        with pytest.raises(ValueError, match=r"mute\.wav: silent.*remove the file"):
            cut(recording, 4000, SAMPLE_RATE, _rng())
    with pytest.raises(ValueError, match=r"mute\.wav: silent"):
        cut_speech([recording], 4000, SAMPLE_RATE, _rng())


def _write(path: Path, waveform: np.ndarray) -> Recording:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, waveform, SAMPLE_RATE)
    return next(recording for recording in _list(path.parents[1])[path.parent.name] if recording.path == str(path))


def _tone_after_silence() -> np.ndarray:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    return np.concatenate([np.zeros(9 * SAMPLE_RATE), tone])


@pytest.mark.parametrize("duration_s", [0.25, 1.0, 4.0])
def test_a_scene_that_begins_with_silence_is_cut_where_it_sounds(tmp_path, duration_s):
    waveform = _tone_after_silence()
    recording = _write(tmp_path / "scene" / "hum" / "1.wav", waveform)
    for seed in range(40):
        excerpt = cut_scene(recording, int(duration_s * SAMPLE_RATE), SAMPLE_RATE, _rng(seed))
        np.testing.assert_allclose(excerpt.waveform, waveform[excerpt.start - 1 : excerpt.end], atol=1 / 32768)
        assert np.abs(excerpt.waveform).max() > 0.0


def test_recordings_that_are_silent_throughout_are_named(tmp_path):
    late = _write(tmp_path / "scene" / "hum" / "late.wav", _tone_after_silence())
    mute = _write(tmp_path / "scene" / "hum" / "mute.wav", np.zeros(20_000, np.float32))
    hiss = _write(tmp_path / "scene" / "hum" / "hiss.wav", np.full(20_000, 2 / 32768, np.float32))
    require_audible([late])
    with pytest.raises(ValueError, match=r"mute\.wav, .*hiss\.wav: silent throughout.*remove these files") as raised:
        require_audible([mute, late, hiss])
    assert "late" not in str(raised.value)
