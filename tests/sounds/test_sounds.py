"""Every scene and event class: repeatable, finite, at the promised level and length."""

from __future__ import annotations

import numpy as np
import pytest

from hydraudio.sounds.events import EVENTS, INDOOR_EVENTS, OUTDOOR_EVENTS, make_event, place_event
from hydraudio.sounds.scenes import INDOOR_SCENES, OUTDOOR_SCENES, make_scene
from hydraudio.sounds.textures import coloured_noise, slow_curve


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize("sample_rate", [8000, 16000])
@pytest.mark.parametrize("scene_class", [*INDOOR_SCENES, *OUTDOOR_SCENES])
def test_scene(scene_class, sample_rate):
    n_samples = sample_rate + 13
    scene = make_scene(scene_class, n_samples, sample_rate, _rng())
    assert scene.shape == (n_samples,)
    assert scene.dtype == np.float32
    assert np.sqrt(np.mean(scene**2)) == pytest.approx(0.05, rel=1e-3)
    # it fills the clip
    assert np.sqrt(np.mean(scene[: n_samples // 8 * 8].reshape(8, -1) ** 2, axis=1)).min() > 0.002
    np.testing.assert_array_equal(scene, make_scene(scene_class, n_samples, sample_rate, _rng()))
    assert np.abs(scene - make_scene(scene_class, n_samples, sample_rate, _rng(1))).max() > 0.01


@pytest.mark.parametrize("sample_rate", [8000, 16000])
@pytest.mark.parametrize("event_class", EVENTS)
def test_event(event_class, sample_rate):
    for seed in range(4):
        event = make_event(event_class, sample_rate, _rng(seed))
        assert event.dtype == np.float32
        assert np.abs(event).max() == pytest.approx(0.5)
        assert 0.05 * sample_rate < len(event) < 5 * sample_rate
    np.testing.assert_array_equal(event, make_event(event_class, sample_rate, _rng(3)))


def test_places_know_only_existing_classes():
    assert set(INDOOR_EVENTS) | set(OUTDOOR_EVENTS) <= set(EVENTS)
    assert not set(INDOOR_SCENES) & set(OUTDOOR_SCENES)


def test_unknown_classes_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'moon'.*restaurant"):
        make_scene("moon", 100, 8000, _rng())
    with pytest.raises(ValueError, match=r"'cough'.*door"):
        make_event("cough", 8000, _rng())


def test_an_event_is_placed_whole_if_it_fits():
    event = np.ones(30, np.float32)
    starts = set()
    for seed in range(20):
        clip = place_event(event, 100, _rng(seed))
        assert clip.shape == (100,)
        assert clip.sum() == 30
        starts.add(int(np.argmax(clip)))
    assert len(starts) > 5
    np.testing.assert_array_equal(place_event(np.ones(300, np.float32), 100, _rng()), np.ones(100))


def test_coloured_noise_follows_its_spectrum():
    noise = coloured_noise(80_000, 8000, [(200, 0), (2000, -20)], _rng())
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(80_000, 1 / 8000)

    def level_db(low: float, high: float) -> float:
        return float(10 * np.log10(power[(frequency > low) & (frequency < high)].mean()))

    assert level_db(50, 190) - level_db(2100, 3900) == pytest.approx(20, abs=0.5)
    # linear over log frequency: half of the fall half-way in octaves
    assert level_db(50, 190) - level_db(600, 666) == pytest.approx(10, abs=0.7)


def test_slow_curve_is_smooth_and_standardised():
    curve = slow_curve(800_000, 8000, 2.0, _rng())
    assert abs(curve.mean()) < 0.3
    assert 0.6 < curve.std() < 1.2
    assert np.abs(np.diff(curve)).max() < 0.01
