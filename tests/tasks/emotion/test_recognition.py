"""Windows over recordings, and their mean over time, with a task that has no weights."""

import numpy as np
import pytest
import torch

from hydraudio.audio.io import resample
from hydraudio.tasks.emotion.predict import recognise

RATE_HZ = 1000


class Level(torch.nn.Module):
    """Class k is as probable as the mean of the waveform's k-th power says; the attribute is the mean itself."""

    sample_rate, class_names, attribute_names, device = RATE_HZ, ["A", "B", "C"], ["arousal"], torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.shapes = []

    def predict_waveform(self, waveform, lengths=None):
        self.shapes.append(tuple(waveform.shape))
        mean = waveform.mean(1, keepdim=True)
        powers = torch.cat([torch.ones_like(mean), mean, mean**2], dim=1)
        return {"probabilities": powers / powers.sum(1, keepdim=True), "attributes": mean, "embedding": powers}


def expected_probabilities(mean):
    powers = np.array([1.0, mean, mean**2])
    return powers / powers.sum()


def test_what_fits_a_window_is_one_piece():
    task = Level()
    result = recognise(task, np.full(2000, 0.5), RATE_HZ, window_s=2, hop_s=1)
    assert task.shapes == [(1, 2000)]
    np.testing.assert_allclose(result.probabilities, expected_probabilities(0.5), rtol=1e-6)
    assert (result.emotion, result.duration_s) == ("A", 2.0)
    assert result.probability == pytest.approx(1 / 1.75)
    np.testing.assert_allclose(result.attributes, [4.0])  # the middle of 1 to 7
    np.testing.assert_allclose(result.embedding, [1, 0.5, 0.25])
    assert [(window.start_s, window.end_s) for window in result.windows] == [(0, 2)]


def test_long_recording_is_the_mean_over_time_of_its_windows():
    waveform = np.linspace(0, 1, 5300, dtype=np.float32)
    task = Level()
    result = recognise(task, waveform, RATE_HZ, window_s=2, hop_s=1.5, batch_size=2)
    bounds = [(0, 2000), (1500, 3500), (3000, 5000), (3300, 5300)]
    assert [(window.start_s, window.end_s) for window in result.windows] == [(a / 1000, b / 1000) for a, b in bounds]
    assert task.shapes == [(2, 2000), (2, 2000)]
    each = np.array([expected_probabilities(waveform[a:b].mean()) for a, b in bounds])
    moments = np.array(
        [np.mean([p for p, (a, b) in zip(each, bounds, strict=True) if a <= t < b], 0) for t in range(5300)]
    )
    np.testing.assert_allclose(result.probabilities, moments.mean(0), rtol=1e-5)
    assert result.probabilities.sum() == pytest.approx(1)


def test_channels_are_mixed_and_rates_converted():
    waveform = np.stack([np.sin(np.arange(4410) / 50), np.full(4410, 0.4)]).astype(np.float32)
    found = recognise(Level(), torch.from_numpy(waveform), 2205, window_s=5, hop_s=5)
    assert found.duration_s == pytest.approx(2.0)
    expected = resample(waveform.mean(0), 2205, RATE_HZ).mean()
    np.testing.assert_allclose(found.embedding[1], expected, rtol=1e-5)


def test_attributes_stay_on_the_scale():
    assert recognise(Level(), np.full(10, 1.2), RATE_HZ).attributes == [7.0]
    assert recognise(Level(), np.full(10, -0.2), RATE_HZ).attributes == [1.0]


class Silent(Level):
    """A network without classes that gives nothing but an attribute."""

    class_names = []

    def predict_waveform(self, waveform, lengths=None):
        return {"attributes": super().predict_waveform(waveform)["attributes"]}


def test_network_without_classes():
    result = recognise(Silent(), np.full(10, 0.5), RATE_HZ)
    assert (result.emotion, result.probability, result.probabilities.shape) == (None, None, (0,))
    np.testing.assert_allclose(result.attributes, [4.0])


@pytest.mark.parametrize(
    ("waveform", "options", "message"),
    [
        (np.zeros(0), {}, "not empty"),
        (np.zeros((1, 2, 3)), {}, "expected"),
        (np.array([0.0, np.nan]), {}, "NaN"),
        (np.zeros(9), {"hop_s": 3, "window_s": 2}, "would be left out"),
        (np.zeros(9), {"hop_s": 0, "window_s": 2}, "hop_s=0"),
    ],
)
def test_wrong_arguments_are_refused(waveform, options, message):
    with pytest.raises(ValueError, match=message):
        recognise(Level(), waveform, RATE_HZ, **options)


def test_less_than_a_sample_is_refused():
    with pytest.raises(ValueError, match="less than one sample at 1000 Hz"):
        recognise(Level(), np.zeros(1), 48000)


PRIORS = {"C": 0.7, "A": 0.1, "B": 0.2}  # not in the order of the classes


def test_priors_multiply_the_odds_in_every_window():
    waveform = np.repeat(np.array([0.5, 0.9], dtype=np.float32), 1000)
    result = recognise(Level(), waveform, RATE_HZ, window_s=1, hop_s=1, priors=PRIORS)
    expected = [expected_probabilities(mean) * [0.1, 0.2, 0.7] for mean in (0.5, 0.9)]
    expected = np.array([row / row.sum() for row in expected])
    np.testing.assert_allclose([window.probabilities for window in result.windows], expected, rtol=1e-6)
    np.testing.assert_allclose(result.probabilities, expected.mean(0), rtol=1e-6)
    plain = recognise(Level(), waveform, RATE_HZ, window_s=1, hop_s=1)
    assert (plain.emotion, result.emotion) == ("A", "C")
    np.testing.assert_array_equal(result.attributes, plain.attributes)
    np.testing.assert_array_equal(result.embedding, plain.embedding)


def test_equal_priors_change_nothing_and_impossible_stays_impossible():
    silence = recognise(Level(), np.zeros(10), RATE_HZ, priors={"A": 0.33, "B": 0.33, "C": 0.33})
    np.testing.assert_array_equal(silence.probabilities, [1, 0, 0])
    equal = recognise(Level(), np.full(10, 0.5), RATE_HZ, priors=dict.fromkeys("ABC", 1 / 3))
    np.testing.assert_allclose(equal.probabilities, expected_probabilities(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"B": 1.0}, "no frequency for A, C"),
        ({}, "no frequency for A, B, C"),
        ({**PRIORS, "D": 0.1}, "no class D; it has A, B, C"),
        ({"A": 0.0, "B": 1.2, "C": -0.2}, "found A=0, C=-0.2"),
        ({"A": float("nan"), "B": 0.5, "C": 0.5}, "found A=nan"),
        ({"A": 0.5, "B": 0.5, "C": 0.5}, "the sum 1.5"),
        ({"A": float("inf"), "B": 0.5, "C": 0.5}, "the sum inf"),
    ],
)
def test_wrong_priors_are_refused(priors, message):
    with pytest.raises(ValueError, match=message):
        recognise(Level(), np.full(10, 0.5), RATE_HZ, priors=priors)


def test_priors_need_classes():
    with pytest.raises(ValueError, match="no categories"):
        recognise(Silent(), np.full(10, 0.5), RATE_HZ, priors=PRIORS)
