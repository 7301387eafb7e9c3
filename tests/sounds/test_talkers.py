"""Synthetic voices: repeatable, distinct, and with the statistics of speech."""

from __future__ import annotations

import numpy as np
import pytest

from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.talkers import make_talker

SAMPLE_RATE = 8000


def _speak(index: int, seed: int = 0, duration_s: float = 4.0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(seed))
    return speak(make_talker(index, 0), int(duration_s * sample_rate), sample_rate, rng)


def _pitches_hz(speech: np.ndarray) -> np.ndarray:
    """Pitch of the voiced frames by the maximum of the normalised autocorrelation."""
    pitches = []
    for frame in speech[: len(speech) // 320 * 320].reshape(-1, 320):
        correlation = np.correlate(frame, frame, "full")[319:]
        if correlation[0] < 0.1 * 320:
            continue
        correlation = correlation / correlation[0] / (1 - np.arange(320) / 320)
        lag = 18 + int(np.argmax(correlation[18:130]))
        if correlation[lag] > 0.7:
            pitches.append(SAMPLE_RATE / lag)
    return np.array(pitches)


def test_an_utterance_is_a_function_of_talker_and_seed():
    np.testing.assert_array_equal(_speak(3, seed=5), _speak(3, seed=5))
    assert np.abs(_speak(3, seed=5) - _speak(3, seed=6)).max() > 0.1
    assert np.abs(_speak(3, seed=5) - _speak(4, seed=5)).max() > 0.1


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_length_type_and_level(sample_rate):
    speech = _speak(0, duration_s=1.3, sample_rate=sample_rate)
    assert speech.shape == (int(1.3 * sample_rate),)
    assert speech.dtype == np.float32
    assert np.isfinite(speech).all()
    assert 0.3 < np.sqrt(np.mean(speech**2)) <= 1.0


@pytest.mark.parametrize("index", range(5))
def test_pitch_is_the_talkers(index):
    talker = make_talker(index, 0)
    pitches = np.concatenate([_pitches_hz(_speak(index, seed)) for seed in range(3)])
    semitones = 12 * np.log2(np.median(pitches) / talker.f0_hz)
    assert len(pitches) > 20
    assert abs(semitones) < talker.f0_range_semitones + 1
    assert np.std(12 * np.log2(pitches / np.median(pitches))) > 0.3  # there is intonation


def test_speech_has_pauses_and_syllables():
    for index in range(4):
        frames = np.concatenate([_speak(index, seed) for seed in range(3)]).reshape(-1, 160)
        level_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-9)
        assert 0.05 < np.mean(level_db < -40) < 0.6
        envelope = np.mean(frames**2, axis=1) ** 0.25
        spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
        rate_hz = np.fft.rfftfreq(len(envelope), 0.02)
        # the modulation of speech lies around the syllable rate, not above 12 Hz
        assert spectrum[(rate_hz > 1) & (rate_hz < 8)].mean() > 1.5 * spectrum[rate_hz > 12].mean()


def test_longer_tracts_have_lower_formants():
    men = [make_talker(index, 0) for index in range(20) if index % 5 in (0, 2)]
    women = [make_talker(index, 0) for index in range(20) if index % 5 in (1, 3)]
    assert max(talker.tract_scale for talker in men) < min(talker.tract_scale for talker in women)
    assert np.mean([talker.vowels_hz for talker in men]) < np.mean([talker.vowels_hz for talker in women])
    assert len({talker.f0_hz for talker in men + women}) == len(men + women)
