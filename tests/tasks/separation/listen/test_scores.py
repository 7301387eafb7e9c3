"""Scores of one item."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from pystoi import stoi

from hydraudio.losses.permutation import PermutationInvariant
from hydraudio.losses.sdr import SISDRLoss
from hydraudio.report.listen.scores import level_dbfs, open_scorer, score_item

TASK = SimpleNamespace(loss=PermutationInvariant(SISDRLoss()), zero_mean=False)


def si_sdr_reference(estimate, target):
    """Le Roux et al. 2019, equation 3, in float64."""
    estimate, target = estimate.astype(np.float64), target.astype(np.float64)
    scaled = estimate @ target / (target @ target) * target
    return 10 * math.log10(scaled @ scaled / ((estimate - scaled) @ (estimate - scaled)))


def test_order_and_values():
    rng = np.random.default_rng(0)
    envelope = 0.6 + 0.4 * np.sin(np.arange(16000) / 700)
    targets = (0.1 * envelope * rng.standard_normal((2, 16000))).astype(np.float32)
    noise = (0.02 * rng.standard_normal((2, 16000))).astype(np.float32)
    outputs = 3 * (targets + noise)[::-1].copy()  # exchanged, at another level
    mixture = targets.sum(0)
    with open_scorer(8000) as scorer:
        scores = score_item(TASK, scorer, mixture, targets, outputs)
    assert scores.permutation.tolist() == [1, 0]
    for k in range(2):
        assert scores.estimate["si_sdr"][k] == pytest.approx(si_sdr_reference(outputs[1 - k], targets[k]), abs=1e-3)
        assert scores.mixture["si_sdr"][k] == pytest.approx(si_sdr_reference(mixture, targets[k]), abs=1e-3)
        assert scores.si_sdri[k] == pytest.approx(scores.estimate["si_sdr"][k] - scores.mixture["si_sdr"][k])
        assert scores.estimate["stoi"][k] == pytest.approx(stoi(targets[k], outputs[1 - k], 8000), abs=1e-6)
        assert scores.mixture["stoi"][k] == pytest.approx(stoi(targets[k], mixture, 8000), abs=1e-6)
    assert set(scores.estimate) == {"si_sdr", "pesq", "stoi"}
    assert scores.errors == ()


def test_what_cannot_be_scored_is_said():
    targets = np.zeros((1, 800), dtype=np.float32)
    noise = np.random.default_rng(0).standard_normal((1, 800)).astype(np.float32)
    with open_scorer(8000) as scorer:
        scores = score_item(TASK, scorer, noise[0], targets, noise)
    assert np.isnan(scores.estimate["stoi"]).all()
    assert any("stoi" in error for error in scores.errors)


def test_pesq_exists_at_two_sample_rates_only():
    with open_scorer(16000) as scorer:
        assert "pesq" in scorer.metrics
    with open_scorer(44100) as scorer:
        assert scorer.metrics == ("stoi",)


def test_level():
    sine = np.sin(2 * np.pi * np.arange(8000) / 80)
    assert level_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert level_dbfs(np.zeros(10)) == -math.inf
