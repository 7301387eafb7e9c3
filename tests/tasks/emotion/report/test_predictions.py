"""Predictions of a test are saved, read again, joined and listed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hydraudio.report.classification.predictions import join
from hydraudio.tasks.emotion.report.predictions import EmotionTable

Make = Callable[..., EmotionTable]


def test_what_is_saved_is_what_is_loaded(make_predictions: Make, tmp_path: Path) -> None:
    predictions = make_predictions(50)
    loaded = EmotionTable.load(predictions.save(tmp_path / "predictions.npz"))
    for field in dataclasses.fields(EmotionTable):
        ours, theirs = getattr(predictions, field.name), getattr(loaded, field.name)
        if isinstance(ours, tuple):
            assert ours == theirs
        elif ours.dtype.kind == "f":
            np.testing.assert_allclose(theirs, ours, rtol=1e-6)
        else:
            assert theirs.tolist() == ours.tolist()
    (tmp_path / "other.npz").write_text("no archive")
    with pytest.raises(ValueError, match="not a file of predictions"):
        EmotionTable.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="evaluate the checkpoint first"):
        EmotionTable.load(tmp_path / "absent.npz")


def test_repetitions_are_left_out_and_clusters_are_speakers_else_podcasts(make_predictions: Make) -> None:
    predictions = make_predictions(40)
    again, n_repeated = join([predictions, predictions.select(np.arange(5))]).unique()
    assert len(again) == 40
    assert n_repeated == 5
    assert predictions.clusters[0] == "podcast 0000"
    assert predictions.clusters[1] == f"speaker {predictions.speaker[1]}"
    lonely = dataclasses.replace(predictions, podcast=np.array([""] * 40))
    assert lonely.clusters[0] == f"item {predictions.ids[0]}"


def test_rows_show_ratings_from_1_to_7_and_names_of_classes(make_predictions: Make) -> None:
    predictions = make_predictions(20)
    predictions = dataclasses.replace(predictions, labels=np.where(np.arange(20) == 3, -1, predictions.labels))
    rows = list(predictions.rows(n_at_once=3))
    assert set(predictions.columns()) == set(rows[0])
    assert rows[0]["valence"] == pytest.approx(1 + 6 * predictions.attribute_targets[0, 0])
    assert rows[3]["label"] is None
    assert rows[4]["label"] == predictions.class_names[predictions.labels[4]]
    assert rows[4]["p_Sad"] == predictions.probabilities[4, 1]
