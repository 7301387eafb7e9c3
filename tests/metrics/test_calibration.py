"""Calibration, against a loop over bins and against logits that are known to be too sure."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from hydraudio.metrics.calibration import (
    calibration_error,
    fit_temperature,
    reliability,
    scaled_probabilities,
)


def calibrated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits with labels drawn from their own softmax."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 6))
    p = softmax(logits, axis=1)
    return logits, (p.cumsum(1) < rng.random((n, 1))).sum(1)


def test_the_error_follows_its_definition() -> None:
    logits, labels = calibrated(500)
    p = softmax(1.7 * logits, axis=1)
    expected = 0.0
    for k in range(15):
        inside = [i for i in range(500) if k / 15 < p[i].max() <= (k + 1) / 15]
        if inside:
            confidence = sum(p[i].max() for i in inside) / len(inside)
            accuracy = sum(p[i].argmax() == labels[i] for i in inside) / len(inside)
            expected += len(inside) / 500 * abs(accuracy - confidence)
    bins = reliability(p, labels)
    assert calibration_error(bins) == pytest.approx(expected)
    assert bins.count.sum() == 500
    assert math.isnan(bins.accuracy[0])  # six classes: no confidence below 1/6


def test_a_certain_prediction_falls_into_the_last_bin() -> None:
    bins = reliability(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]))
    assert bins.count[-1] == 1
    assert bins.accuracy[-1] == 0
    assert bins.count[int(0.5 * 15)] == 1
    assert reliability(np.array([[0.5, 0.5]]), np.array([0]), n_bins=2).count.tolist() == [1, 0]  # (0, 0.5], (0.5, 1]
    assert calibration_error(bins) == pytest.approx((1.0 + 0.5) / 2)
    assert math.isnan(calibration_error(reliability(np.zeros((0, 2)), np.zeros(0, dtype=int))))


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_too_sure_is_found(factor: float) -> None:
    logits, labels = calibrated(6000, seed=3)
    temperature = fit_temperature(factor * logits, labels)
    assert temperature == pytest.approx(factor, rel=0.08)
    held_out, truth = calibrated(6000, seed=4)
    after = calibration_error(reliability(scaled_probabilities(factor * held_out, temperature), truth))
    assert after < 0.03


def test_what_is_not_a_number_stays_visible() -> None:
    broken = np.array([[math.nan, 0.0], [0.3, 0.1]])
    assert math.isnan(fit_temperature(broken, np.array([0, 0])))
    probabilities = np.array([[math.nan, math.nan], [0.6, 0.4]])
    with np.errstate(all="raise", invalid="ignore"):
        assert math.isnan(calibration_error(reliability(probabilities, np.array([0, 0]))))


def test_a_temperature_needs_labels() -> None:
    with pytest.raises(ValueError, match="labelled item"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))
