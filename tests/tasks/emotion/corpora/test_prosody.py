"""Emotions can be heard, but not read off: level-free statistics of the sound carry them, to speakers never heard."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.talkers import make_talker
from hydraudio.tasks.emotion.corpora.acting import (
    AFFECT_OF,
    DIMENSIONS,
    Prosody,
    make_manner,
    make_prosody,
    perform,
    speak_with,
)

SAMPLE_RATE = 16000
HOP, WINDOW = 160, 640  # 10 and 40 ms


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def utter(prosody: Prosody, talker: int = 0, seed: int = 0, duration_s: float = 4.0) -> np.ndarray:
    return speak_with(make_talker(talker, 0), prosody, int(duration_s * SAMPLE_RATE), SAMPLE_RATE, generator(seed))


def features_of(waveform: np.ndarray) -> np.ndarray:
    """(13,) statistics that do not change with the level: pitch, periodicity, spectrum, tempo, pauses."""
    window = np.hanning(WINDOW + 2)[1:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP] * window
    power = np.abs(scipy.fft.rfft(frames, 2 * WINDOW)) ** 2
    frequency = np.fft.rfftfreq(2 * WINDOW, 1 / SAMPLE_RATE)
    correlation = scipy.fft.irfft(power)[:, :WINDOW] / np.correlate(window, window, "full")[-WINDOW:]
    low, high = SAMPLE_RATE // 500, SAMPLE_RATE // 60
    lag = low + np.argmax(correlation[:, low:high], axis=1)
    energy = correlation[:, 0] + 1e-12
    strength = correlation[np.arange(len(lag)), lag] / energy
    level_db = 10 * np.log10(energy / np.quantile(energy, 0.95))
    voiced = (strength > 0.5) & (level_db > -25)
    pitch = 12 * np.log2(SAMPLE_RATE / lag[voiced])
    mean_power = power[voiced].mean(axis=0)

    def band_db(start_hz: float, stop_hz: float) -> float:
        return 10 * np.log10(mean_power[(frequency >= start_hz) & (frequency < stop_hz)].sum())

    envelope = np.clip(level_db, -40, 0)
    modulation = np.abs(np.fft.rfft(envelope - envelope.mean(), 1024))
    rate_hz = np.fft.rfftfreq(1024, HOP / SAMPLE_RATE)
    syllabic = (rate_hz > 1) & (rate_hz < 12)
    steps = np.diff(pitch)
    steps = steps[np.abs(steps) < 4]
    third = max(len(pitch) // 3, 1)
    return np.array(
        [
            np.median(pitch),
            np.subtract(*np.quantile(pitch, [0.85, 0.15])),
            np.median(pitch[-third:]) - np.median(pitch[:third]),
            np.abs(steps).mean(),
            strength[voiced].mean(),
            band_db(0, 500) - band_db(500, 1500),
            band_db(500, 1500) - band_db(1500, 3500),
            band_db(1500, 3500) - band_db(3500, 8000),
            (level_db < -25).mean(),
            voiced.mean(),
            level_db[voiced].std(),
            (modulation * rate_hz)[syllabic].sum() / modulation[syllabic].sum(),
            np.abs(np.diff(envelope)).mean(),
        ]
    )


def macro_f1(truth: np.ndarray, guess: np.ndarray, n_classes: int) -> float:
    hits = [((truth == k) & (guess == k)).sum() for k in range(n_classes)]
    return float(np.mean([2 * hit / max((truth == k).sum() + (guess == k).sum(), 1) for k, hit in enumerate(hits)]))


def discriminant(train: np.ndarray, labels: np.ndarray, test: np.ndarray, n_classes: int) -> np.ndarray:
    """Linear discriminant analysis with a little shrinkage and equal priors: the guessed class of each row."""
    mean, scale = train.mean(axis=0), train.std(axis=0)
    train, test = (train - mean) / scale, (test - mean) / scale
    means = np.stack([train[labels == k].mean(axis=0) for k in range(n_classes)])
    rest = train - means[labels]
    weights = np.linalg.solve(rest.T @ rest / len(rest) + 0.1 * np.eye(train.shape[1]), means.T)
    return np.argmax(test @ weights - 0.5 * np.sum(means.T * weights, axis=0), axis=1)


def corpus(talkers: range, n_turns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of `n_turns` of every emotion by every talker."""
    features, labels = [], []
    for talker in talkers:
        manner = make_manner(talker, 0)
        for label, letter in enumerate(AFFECT_OF):
            for turn in range(n_turns):
                rng = generator(seed, talker, label, turn)
                affect = np.clip(np.array(AFFECT_OF[letter]) + rng.normal(0.0, 0.6, 3), 1, 7)
                prosody = make_prosody(affect, {letter: 1.0}, manner, rng)
                features.append(features_of(speak_with(make_talker(talker, 0), prosody, 28000, SAMPLE_RATE, rng)))
                labels.append(label)
    return np.array(features), np.array(labels)


def test_level_free_statistics_tell_the_emotions_of_unheard_speakers_but_not_all():
    train, train_labels = corpus(range(14), 1, 1)
    test, test_labels = corpus(range(14, 20), 2, 2)
    score = macro_f1(test_labels, discriminant(train, train_labels, test, 8), 8)
    assert 0.4 < score < 0.9  # chance is 0.125


def test_neutral_prosody_is_the_talkers_own_voice():
    expected = speak(make_talker(2, 0), 16000, SAMPLE_RATE, generator(1))
    neutral = speak_with(make_talker(2, 0), Prosody(), 16000, SAMPLE_RATE, generator(1))
    np.testing.assert_array_equal(neutral, expected)
    louder = speak_with(make_talker(2, 0), Prosody(level_db=-20.0), 16000, SAMPLE_RATE, generator(1))
    np.testing.assert_allclose(louder, 0.1 * expected, rtol=1e-5)


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return np.mean([features_of(utter(Prosody(), talker, seed=talker)) for talker in range(4)], axis=0)


@pytest.mark.parametrize(
    ("change", "feature", "least"),
    [
        ({"pitch_semitones": 5.0}, 0, 4.0),
        ({"pitch_semitones": -4.0}, 0, -3.0),
        ({"range_octaves": 1.3}, 1, 3.0),
        ({"rise_semitones": 8.0}, 2, 1.0),
        ({"unsteady_semitones": 2.5}, 3, 0.1),
        ({"jitter_octaves": 2.5}, 4, -0.07),
        ({"breath_db": 20.0}, 4, -0.04),
        ({"shimmer_octaves": 2.5}, 4, -0.02),
        ({"effort_octaves": 1.5}, 5, -3.0),
        ({"smile_octaves": 0.2}, 5, -0.7),
        ({"stress_db": 6.0}, 10, 0.4),
        ({"pause_octaves": 1.5}, 8, 0.07),
        ({"tempo_octaves": 0.7}, 12, 0.4),
    ],
)
def test_each_dimension_is_heard_as_what_it_is_called(plain, change, feature, least):
    moved = np.mean([features_of(utter(Prosody(**change), talker, seed=talker)) for talker in range(4)], axis=0)
    assert (moved - plain)[feature] / least > 1


def test_the_level_is_no_clue_to_the_features():
    wave = utter(Prosody())
    np.testing.assert_allclose(features_of(0.01 * wave), features_of(wave), atol=0.05)


def test_recordings_are_levelled_and_never_clip():
    for voice, letter in enumerate(AFFECT_OF):
        wave = perform(voice, 0, AFFECT_OF[letter], {letter: 1.0}, 16000, SAMPLE_RATE, generator(voice))
        assert np.abs(wave).max() <= 0.95001
        assert -40 < 10 * np.log10(np.mean(wave**2)) < -12


def test_manners_and_turns_differ():
    manners = np.stack([make_manner(index, 0) for index in range(50)])
    assert manners.shape == (50, len(DIMENSIONS))
    assert manners.min() >= 0.2
    assert 0.15 < manners.std(axis=0).mean() < 0.45
    turns = [make_prosody(AFFECT_OF["A"], {"A": 1.0}, manners[0], generator(row)) for row in range(2)]
    assert turns[0] != turns[1]


@pytest.mark.parametrize(
    ("affect", "classes", "words"),
    [((4, 4, 7.5), {}, "must lie in 1..7"), ((4, 4), {}, "must lie in 1..7"), ((4, 4, 4), {"Z": 1.0}, "letters are")],
)
def test_impossible_states_are_refused(affect, classes, words):
    with pytest.raises(ValueError, match=words):
        make_prosody(affect, classes, make_manner(0, 0), generator(0))
