"""Slices, gender gaps and speakers against the metrics on the same items."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from hydraudio.metrics.classification import category_scores
from hydraudio.report.classification.scores import Options, slices
from hydraudio.report.slices import slice_rows, slice_tables
from hydraudio.report.tables import EN_DASH
from hydraudio.tasks.emotion.report.predictions import EmotionTable
from hydraudio.tasks.emotion.report.slices import gap_rows, gender_gaps, speaker_spread

Make = Callable[..., EmotionTable]
OPTIONS = Options(n_bootstrap=100, min_items=30)


def test_slices_hold_the_scores_of_their_items_and_small_ones_say_why_not(make_predictions: Make) -> None:
    predictions = make_predictions(360)
    found = {(s.name, s.value): s for s in slices(predictions, OPTIONS)}
    test1 = predictions.select(predictions.split == "Test1")
    expected = category_scores(test1.probabilities, test1.labels, 4)["macro_f1"]
    assert found["Split", "Test1"].scores["macro_f1"].mean == pytest.approx(expected)
    long = found["Duration", "11 s and above"]
    assert long.n_items == int((predictions.duration_s >= 11).sum())
    assert found["Duration", "below 3 s"].n_items == 30
    strict = Options(n_bootstrap=20, min_items=31)
    small = {s.value: s for s in slices(predictions, strict)}["below 3 s"]
    assert small.scores == {}
    assert small.suppressed == "fewer than 31 items"
    rows = slice_rows([small, long])
    assert rows[0]["suppressed"] == "fewer than 31 items"
    assert rows[1]["macro_f1_low"] == long.scores["macro_f1"].low
    table = slice_tables([small, long], {"macro_f1": "Macro-F1", "absent": "Absent"}, digits=2)["Duration"]
    assert table.columns == ("", "Items", "Macro-F1", "Absent")
    assert [cell.text for cell in table.rows[0].cells[2:]] == ["", ""]
    assert table.rows[0].cells[0].note == "fewer than 31 items"
    assert table.rows[1].cells[3].text == EN_DASH


def test_gender_gaps_are_differences_of_the_groups(make_predictions: Make) -> None:
    predictions = make_predictions()
    women = np.flatnonzero(predictions.gender == 0)
    logits = predictions.probabilities.copy()
    logits[women] = np.eye(4)[predictions.labels[women]] * 0.9 + 0.025
    better = dataclasses.replace(predictions, probabilities=logits)
    gaps = {gap.metric: gap for gap in gender_gaps(better, OPTIONS)}
    men = better.select(better.gender == 1)
    uar = category_scores(men.probabilities, men.labels, 4)["uar"]
    assert gaps["uar"].female == 1
    assert gaps["uar"].difference.mean == pytest.approx(1 - uar)
    assert gaps["uar"].difference.low > 0
    assert gaps["uar"].ratio == pytest.approx(uar)
    assert gaps["recall/Neutral"].difference.mean > 0
    assert gap_rows([gaps["uar"]])[0]["difference_low"] == gaps["uar"].difference.low
    few = {g.metric: g for g in gender_gaps(better, Options(n_bootstrap=20, min_items=60))}
    assert "fewer than 60" in few["recall/Sad"].suppressed
    assert gender_gaps(men, OPTIONS) == []


def test_speakers_are_ordered_from_the_worst(make_predictions: Make) -> None:
    predictions = make_predictions()
    spread = speaker_spread(predictions, Options(min_items=15))
    uar = [row["uar"] for row in spread.rows]
    assert uar == sorted(uar)  # type: ignore[type-var]
    assert len(spread.rows) + spread.n_left_out == 20
    low, middle, high = spread.percentiles["uar"]
    assert low <= middle <= high
    assert low == pytest.approx(np.percentile(uar, 10))  # type: ignore[arg-type]
    row = spread.rows[0]
    own = predictions.select(predictions.speaker == row["speaker"])
    assert row["accuracy"] == pytest.approx(np.mean(own.predicted == own.labels))
