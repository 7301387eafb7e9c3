"""Targets against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hydraudio.tasks.emotion.corpora.dataset import Labelling
from hydraudio.tasks.emotion.corpora.labels import (
    EmotionClasses,
    label_of_target,
    make_target,
    mention_shares,
    primary_shares,
    smooth,
    vote_distribution,
)
from hydraudio.tasks.emotion.corpora.utterances import Utterance

EIGHT = EmotionClasses.of(8)
TURN = Utterance(
    "a.wav",
    "a.wav",
    letter="X",
    votes={"H": 0.4, "N": 0.4, "O": 0.2},
    mentions={"H": 0.3, "N": 0.2, "S": 0.1, "O": 0.4},
    n_raters=5,
)
ONLY_OTHER = Utterance("b.wav", "b.wav", letter="O", votes={"O": 1.0}, mentions={"O": 0.8, "S": 0.2}, n_raters=5)


def eight(**shares: float) -> np.ndarray:
    return np.array([shares.get(letter, 0.0) for letter in EIGHT.letters], dtype=np.float32)


def test_hard() -> None:
    target = make_target(Utterance("a.wav", "a.wav", letter="C"), EIGHT, "hard")
    assert target is not None
    assert target.dtype == np.float32
    np.testing.assert_array_equal(target, [0, 0, 0, 0, 0, 0, 1, 0])
    for letter in ("", "O", "X"):
        assert make_target(Utterance("a.wav", "a.wav", letter=letter), EIGHT, "hard") is None


def test_primary_shares_divide_by_all_raters() -> None:
    shares = primary_shares(TURN, EIGHT)
    assert shares is not None
    np.testing.assert_allclose(shares, eight(H=0.4, N=0.4), rtol=1e-6)
    target = make_target(TURN, EIGHT, "soft_p")
    assert target is not None
    np.testing.assert_allclose(target, eight(H=0.5, N=0.5), rtol=1e-6)
    assert label_of_target(target) == EIGHT.label_of("H")


def test_mentions_sum_to_one() -> None:
    shares = mention_shares(TURN, EIGHT)
    assert shares is not None
    np.testing.assert_allclose(shares, eight(H=1 / 2, N=1 / 3, S=1 / 6), rtol=1e-6)
    np.testing.assert_allclose(make_target(TURN, EIGHT, "soft_s"), shares)


def test_merged() -> None:
    target = make_target(TURN, EIGHT, "merged", merge_weights=(0.9, 0.1))
    raw = 0.9 * eight(H=0.4, N=0.4) + 0.1 * eight(H=1 / 2, N=1 / 3, S=1 / 6)
    np.testing.assert_allclose(target, raw / raw.sum(), rtol=1e-6)
    p = make_target(TURN, EIGHT, "merged", merge_weights=(1, 0))
    np.testing.assert_allclose(p, make_target(TURN, EIGHT, "soft_p"), rtol=1e-6)


def test_a_turn_that_nobody_mapped_has_no_target() -> None:
    assert make_target(ONLY_OTHER, EIGHT, "soft_p") is None
    assert make_target(ONLY_OTHER, EIGHT, "merged") is None
    assert make_target(Utterance("c.wav", "c.wav", letter="A", votes={"A": 1.0}), EIGHT, "merged") is None
    np.testing.assert_allclose(make_target(ONLY_OTHER, EIGHT, "soft_s"), eight(S=1.0))
    for kind in ("soft_p", "soft_s", "merged"):
        assert make_target(Utterance("c.wav", "c.wav", letter="A"), EIGHT, kind) is None


def test_other_is_a_class_of_its_own_in_the_larger_sets() -> None:
    target = make_target(TURN, EmotionClasses.of(9), "soft_p")
    np.testing.assert_allclose(target, [0, 0, 0.4, 0, 0, 0, 0, 0.4, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(make_target(TURN, EmotionClasses.of(9), "hard"), np.eye(9)[8])
    np.testing.assert_array_equal(make_target(TURN, EmotionClasses.of(10), "hard"), np.eye(10)[9])


def test_a_subset_of_classes_drops_the_other_votes() -> None:
    np.testing.assert_allclose(mention_shares(TURN, EmotionClasses.of(["Sad", "Neutral"])), [1 / 3, 2 / 3], rtol=1e-6)


def test_smoothing_is_emo_superb() -> None:
    target = make_target(Utterance("a.wav", "a.wav", letter="A"), EmotionClasses.of(4), "hard", smoothing=0.05)
    np.testing.assert_allclose(target, [0.95, 0.05 / 3, 0.05 / 3, 0.05 / 3], rtol=1e-6)
    soft = smooth(np.array([0.6, 0.4, 0.0]), 0.05)
    np.testing.assert_allclose(soft, [0.6 * 0.95 + 0.4 * 0.025, 0.4 * 0.95 + 0.6 * 0.025, 0.025], rtol=1e-6)
    assert soft.sum() == pytest.approx(1)


def test_vote_distribution() -> None:
    np.testing.assert_allclose(vote_distribution(TURN, EIGHT), eight(H=0.5, N=0.5), rtol=1e-6)
    assert np.isnan(vote_distribution(ONLY_OTHER, EIGHT)).all()


@pytest.mark.parametrize(
    ("targets", "weights", "smoothing", "words"),
    [
        ("soft", (0.9, 0.1), 0.0, "targets='soft' is unknown.*choose one of hard, soft_p, soft_s, merged"),
        ("merged", (0.9, -0.1), 0.0, r"merge_weights=\[0.9, -0.1\]: give two weights"),
        ("hard", (0.9, 0.1), 1.0, "smoothing=1.0: must be from 0 to below 1"),
    ],
)
def test_what_cannot_be_is_refused(targets, weights, smoothing, words) -> None:
    with pytest.raises(ValueError, match=words):
        Labelling.of(8, (), targets, weights, smoothing)
