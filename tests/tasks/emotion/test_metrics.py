"""Scores of attributes, against loops that follow the definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hydraudio.tasks.emotion.metrics import attribute_scores


def test_attribute_scores_follow_their_definitions() -> None:
    rng = np.random.default_rng(1)
    target = rng.uniform(0, 1, (300, 3))
    prediction = 0.2 + 0.5 * target + 0.1 * rng.normal(size=(300, 3))
    target[:40, 1] = np.nan
    found = attribute_scores(torch.tensor(prediction), torch.tensor(target), ["arousal", "valence", "dominance"])
    for k, name in enumerate(("arousal", "valence", "dominance")):
        known = ~np.isnan(target[:, k])
        x, y = prediction[known, k], target[known, k]
        ccc = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert found[f"ccc_{name}"] == pytest.approx(ccc, abs=1e-6)
        assert found[f"pearson_{name}"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-6)
        ratings = 1 + 6 * np.stack([x, y])
        assert found[f"rmse_{name}"] == pytest.approx(np.sqrt(np.mean((ratings[0] - ratings[1]) ** 2)), abs=1e-6)
    assert found["ccc"] == pytest.approx(np.mean([found[f"ccc_{n}"] for n in ("arousal", "valence", "dominance")]))


def test_attributes_without_enough_items_have_no_score_and_no_part_in_the_mean() -> None:
    target = np.array([[0.1, np.nan], [0.5, np.nan], [0.9, 0.3]])
    found = attribute_scores(target.copy(), target, ["arousal", "valence"])
    assert found["ccc_arousal"] == pytest.approx(1.0, abs=1e-6)
    assert math.isnan(found["ccc_valence"])
    assert found["ccc"] == found["ccc_arousal"]
    constant = attribute_scores(np.full((3, 1), 0.5), target[:, :1], ["arousal"])
    assert constant["ccc"] == 0
    assert math.isnan(constant["pearson"])
    with pytest.raises(ValueError, match="attributes"):
        attribute_scores(target, target, ["arousal"])
