"""The summary of a test as JSON and its confusion matrix as rows."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from hydraudio.report.classification.scores import Options, score, slices
from hydraudio.report.classification.tables import confusion_rows
from hydraudio.tasks.emotion.report import tables
from hydraudio.tasks.emotion.report.callback import USUAL_GROUPS
from hydraudio.tasks.emotion.report.predictions import EmotionTable
from hydraudio.tasks.emotion.report.slices import gender_gaps

Make = Callable[..., EmotionTable]
OPTIONS = Options(n_bootstrap=100, min_items=30, groups=USUAL_GROUPS)


def test_the_summary_is_json_without_nan(make_predictions: Make) -> None:
    predictions = make_predictions()
    scores = score(predictions, OPTIONS)
    found = slices(predictions, OPTIONS)
    gaps = gender_gaps(predictions, Options(n_bootstrap=20, min_items=60))
    summary = tables.summary(predictions, scores, found, gaps, {"Network": "x"})
    read = json.loads(json.dumps(summary, allow_nan=False))
    assert read["scores"]["macro_f1"]["low"] < read["scores"]["macro_f1"]["value"]
    assert read["groups"]["tail"]["recall"] is None
    assert read["classes"]["Sad"]["support"] == int((predictions.labels == 1).sum())
    assert np.sum(read["confusion"]) == 400
    assert "all 4 classes" in read["convention"]
    rows = confusion_rows(scores, predictions.class_names)
    assert sum(rows[2][f"share_{name}"] for name in predictions.class_names) == pytest.approx(1)  # type: ignore[misc]
