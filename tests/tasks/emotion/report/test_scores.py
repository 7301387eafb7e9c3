"""Scores of a set against the metrics on the same items."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from hydraudio.metrics.classification import category_scores
from hydraudio.report.classification.scores import Options, score
from hydraudio.tasks.emotion.metrics import attribute_scores
from hydraudio.tasks.emotion.report.callback import USUAL_GROUPS
from hydraudio.tasks.emotion.report.predictions import EmotionTable

Make = Callable[..., EmotionTable]
OPTIONS = Options(n_bootstrap=100, min_items=30, groups=USUAL_GROUPS)


def test_scores_are_those_of_the_metrics_and_lie_in_their_intervals(make_predictions: Make) -> None:
    predictions = make_predictions()
    scores = score(predictions, OPTIONS, temperature=1.3)
    category = category_scores(predictions.probabilities, predictions.labels, 4)
    attributes = attribute_scores(predictions.attributes, predictions.attribute_targets, ["valence", "arousal"])
    names = ("macro_f1", "weighted_f1", "accuracy", "uar", "top2", "nll", "brier")
    for name, value in {**{n: category[n] for n in names}, **attributes}.items():
        interval = scores.intervals[name]
        assert interval.mean == pytest.approx(value, abs=1e-6)
        assert interval.low < interval.mean < interval.high
        assert interval.n == 400
    assert scores.n_clusters == 29  # 20 speakers and, of unknown ones, 9 podcasts
    assert {"ece", "ece_scaled", "nll_scaled", "kld", "jsd"} <= set(scores.intervals)
    assert scores.groups["head"]["classes"] == ["Happy", "Neutral"]
    assert scores.groups["tail"]["classes"] == []
    assert math.isnan(scores.groups["tail"]["recall"])


def test_a_model_with_one_head_is_scored_by_it_alone(make_predictions: Make) -> None:
    category = score(make_predictions(rated=False), OPTIONS)
    assert "macro_f1" in category.intervals
    assert "ccc" not in category.intervals
    assert "ece_scaled" not in category.intervals
    attributes = score(make_predictions(classes=False), OPTIONS)
    assert "ccc_valence" in attributes.intervals
    assert "macro_f1" not in attributes.intervals
    assert attributes.calibration is None


def test_unlabelled_items_count_nowhere(make_predictions: Make) -> None:
    predictions = make_predictions()
    hidden = np.arange(400) % 4 == 0
    partly = dataclasses.replace(
        predictions,
        labels=np.where(hidden, -1, predictions.labels),
        attribute_targets=np.where(hidden[:, None], np.nan, predictions.attribute_targets),
    )
    rest = score(predictions.select(~hidden), OPTIONS).intervals
    found = score(partly, OPTIONS).intervals
    assert found["macro_f1"] == pytest.approx(rest["macro_f1"])
    assert found["ccc"] == pytest.approx(rest["ccc"])
    nothing = score(dataclasses.replace(partly, labels=np.full(400, -1)).select(hidden), OPTIONS)
    assert nothing.intervals == {}
