"""Scores of classes, against loops that follow the definitions and against worked numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hydraudio.metrics.class_groups import class_groups, group_scores
from hydraudio.metrics.classification import category_scores, confusion_matrix, divergences_per_item, entropy

NAMES = ["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"]


def random_set(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n, p=rng.dirichlet(np.ones(n_classes)))
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


def loop_scores(p: np.ndarray, y: np.ndarray, n_classes: int) -> dict[str, float]:
    """The definitions, item by item and class by class."""
    guess = [int(max(range(n_classes), key=lambda c, row=row: row[c])) for row in p]
    f1, recall, weighted = [], [], 0.0
    for c in range(n_classes):
        hit = sum(g == c and t == c for g, t in zip(guess, y, strict=True))
        predicted, support = sum(g == c for g in guess), sum(t == c for t in y)
        precision_c, recall_c = (hit / n if n else 0.0 for n in (predicted, support))
        f1_c = 2 * precision_c * recall_c / (precision_c + recall_c) if hit else 0.0
        f1.append(f1_c)
        recall.append(recall_c)
        weighted += support * f1_c / len(y)
    top2 = [t in sorted(range(n_classes), key=lambda c, row=row: -row[c])[:2] for row, t in zip(p, y, strict=True)]
    brier = [sum((row[c] - (c == t)) ** 2 for c in range(n_classes)) for row, t in zip(p, y, strict=True)]
    return {
        "macro_f1": sum(f1) / n_classes,
        "weighted_f1": weighted,
        "accuracy": sum(g == t for g, t in zip(guess, y, strict=True)) / len(y),
        "uar": sum(recall) / n_classes,
        "top2": sum(top2) / len(y),
        "nll": -sum(math.log(row[t]) for row, t in zip(p, y, strict=True)) / len(y),
        "brier": sum(brier) / len(y),
    }


@pytest.mark.parametrize(("n", "n_classes"), [(200, 8), (7, 8), (40, 4)])
def test_category_scores_follow_their_definitions(n: int, n_classes: int) -> None:
    p, y = random_set(n, n_classes, seed=n)
    found = category_scores(torch.tensor(p), torch.tensor(y), n_classes)
    for name, value in loop_scores(p.astype(np.float32), y, n_classes).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert found["n"] == n
    assert found["confusion"].sum() == n
    assert found["support"].tolist() == [int((y == c).sum()) for c in range(n_classes)]


def test_the_label_set_is_fixed() -> None:
    """y=[0,0,1,1], p=[0,0,1,2]: .833 over {0,1}, .556 over the union, .208 over 0..7."""
    guess, y = np.eye(8)[[0, 0, 1, 2]], [0, 0, 1, 1]
    assert category_scores(guess, y, 8)["macro_f1"] == pytest.approx(0.208, abs=5e-4)
    assert category_scores(guess[:, :3], y, 3)["macro_f1"] == pytest.approx(0.556, abs=5e-4)
    assert category_scores(guess, y, 8)["uar"] == pytest.approx(1.5 / 8)


def test_scores_are_not_means_over_batches() -> None:
    p, y = random_set(320, 8, seed=5)
    batches = [category_scores(p[k : k + 16], y[k : k + 16], 8)["macro_f1"] for k in range(0, 320, 16)]
    assert abs(np.mean(batches) - category_scores(p, y, 8)["macro_f1"]) > 0.05


def test_items_without_label_are_left_out() -> None:
    p, y = random_set(50, 8)
    mixed = np.where(np.arange(50) % 3 == 0, -1, y)
    expected = category_scores(p[mixed >= 0], mixed[mixed >= 0], 8)
    found = category_scores(p, mixed, 8)
    assert found["n"] == 33
    assert found["macro_f1"] == expected["macro_f1"]
    nothing = category_scores(p, np.full(50, -1), 8)
    assert nothing["n"] == 0
    assert math.isnan(nothing["macro_f1"])
    assert math.isnan(nothing["nll"])


def test_a_probability_that_is_no_number_makes_the_scores_nan() -> None:
    p, y = random_set(10, 4)
    p[3, 2] = np.nan
    found = category_scores(p, y, 4)
    assert math.isnan(found["macro_f1"])
    assert math.isnan(found["accuracy"])


def test_wrong_labels_and_shapes_are_refused() -> None:
    p, y = random_set(5, 4)
    with pytest.raises(ValueError, match=r"0\.\.3"):
        category_scores(p, [0, 1, 2, 3, 4], 4)
    with pytest.raises(ValueError, match="8 classes"):
        category_scores(p, y, 8)


def test_divergences_from_the_votes() -> None:
    rng = np.random.default_rng(2)
    p, votes = rng.dirichlet(np.ones(8), 20), rng.multinomial(5, np.ones(8) / 8, 20) / 5
    found = divergences_per_item(p, votes)
    assert found["kld"] == pytest.approx(stats.entropy(votes, p, axis=1))
    middle = (p + votes) / 2
    jsd = (stats.entropy(p, middle, axis=1) + stats.entropy(votes, middle, axis=1)) / 2
    assert found["jsd"] == pytest.approx(jsd)
    votes[0] = np.nan
    unknown = divergences_per_item(p, votes)
    assert all(np.isnan(values).tolist() == [True] + [False] * 19 for values in unknown.values())


def test_entropy_is_relative_to_its_maximum() -> None:
    rows = np.array([np.eye(8)[0], np.ones(8) / 8, np.full(8, np.nan), [0.5, 0.5, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(entropy(rows), [0, 1, np.nan, math.log(2) / math.log(8)])


def test_groups_by_lists_fractions_and_counts() -> None:
    """The fractions of MSP-Podcast's IS2025 cut put Angry (.1003) into the head."""
    counts = [6716, 6400, 16652, 2992, 1134, 1419, 2519, 29144]
    explicit = class_groups(NAMES, head=["Happy", "Neutral", "unknown"], mid=["Sad", "Angry"])
    assert (explicit["head"], explicit["mid"]) == (["Happy", "Neutral"], ["Angry", "Sad"])
    assert explicit["tail"] == ["Surprise", "Fear", "Disgust", "Contempt"]
    by_fraction = class_groups(NAMES, counts, mode="fraction")
    assert by_fraction["head"] == ["Angry", "Happy", "Neutral"]
    assert by_fraction["mid"] == ["Sad"]
    assert class_groups(["a", "b", "c", "d"], [101, 100, 20, 19], mode="count") == {
        "head": ["a"],
        "mid": ["b", "c"],
        "tail": ["d"],
    }
    assert class_groups(["a", "b"], [5, 1], mode="count", thresholds=(4, 2))["head"] == ["a"]
    with pytest.raises(ValueError, match="mode='shots'"):
        class_groups(NAMES, counts, mode="shots")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="training counts"):
        class_groups(NAMES, None, mode="count")


def test_group_scores_are_over_items_whose_true_class_is_in_the_group() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 3, 1, 0, 2])
    confusion = confusion_matrix(labels, predicted, 4)
    found = group_scores(confusion, list("abcd"), {"head": ["a", "b"], "mid": ["c"], "tail": ["d"]})
    assert found["head"]["accuracy"] == pytest.approx(2 / 4)  # pooled
    assert found["head"]["recall"] == pytest.approx((1 / 3 + 1) / 2)  # mean of classes
    assert found["head"]["f1"] == pytest.approx((2 * 1 / (3 + 2) + 2 * 1 / (1 + 2)) / 2)
    assert found["mid"]["accuracy"] == 0.5
    assert math.isnan(found["tail"]["accuracy"])  # empty, not 0
    assert found["tail"] | {"accuracy": 0, "recall": 0, "f1": 0} == {
        "accuracy": 0,
        "recall": 0,
        "f1": 0,
        "n": 0,
        "classes": ["d"],
    }
