"""Probes against what they minimise, and folds in which nothing is chosen on the test items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from hydraudio.tasks.pretraining import probes
from hydraudio.tasks.pretraining.probes import PROBES, Fold, fit_logistic, nested_folds, standardized


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setattr(probes, "MAX_EPOCHS", 100)


def clusters(n: int = 120, n_classes: int = 3, spread: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around a centre of each class, (n, 5), far from standardised."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    centres = 2 * torch.randn(n_classes, 5, generator=draws)
    return 10 + 3 * (centres[labels] + spread * torch.randn(n, 5, generator=draws)), labels


def fold_of(n: int = 120) -> Fold:
    parts = np.random.default_rng(0).permutation(n) % 4
    return next(iter(nested_folds(parts.astype(str), list("0123"))))


@pytest.mark.parametrize("penalty", [10.0, 0.03, 0.001])
def test_the_logistic_regression_is_the_minimum(penalty):
    features, labels = clusters(60)
    x = ((features - features.mean(0)) / features.std(0)).double()
    found = fit_logistic(x, labels, 3, penalty)

    def loss(weights: torch.Tensor) -> torch.Tensor:
        cross = F.cross_entropy(x @ weights[:-1] + weights[-1], labels)
        return cross + penalty / 2 * weights[:-1].square().sum()

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(flat, dtype=torch.float64).view(6, 3).requires_grad_()
        value = loss(weights)
        value.backward()
        return float(value.detach()), weights.grad.numpy().ravel()

    best = minimize(value_and_gradient, np.zeros(18), jac=True, method="BFGS", options={"gtol": 1e-8})
    expected = torch.tensor(best.x).view(6, 3)
    assert float(loss(found)) <= best.fun + 1e-9
    centred = [weights - weights.mean(1, keepdim=True) for weights in (found, expected)]  # a shift of all is none
    torch.testing.assert_close(*centred, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_finds_classes_that_lie_apart_and_is_the_same_twice(name):
    features, labels = clusters(400)
    fold = fold_of(400)
    if name == "attentive":
        draws = torch.Generator().manual_seed(1)
        features = F.pad(features, (0, 3))  # eight channels for four heads
        features = features[:, None] + torch.randn(400, 4, 8, generator=draws)
        features[::2, 3] = 0.0  # padding
    outcome = PROBES[name](features, labels, fold, 3)
    assert outcome.probabilities.shape == (len(fold.test), 3)
    torch.testing.assert_close(outcome.probabilities.sum(1), torch.ones(len(fold.test)))
    assert (outcome.probabilities.argmax(1) == labels[fold.test]).float().mean() > 0.85
    again = PROBES[name](features, labels, fold, 3)
    assert torch.equal(again.probabilities, outcome.probabilities)
    assert again.chosen == outcome.chosen


@pytest.mark.parametrize("name", PROBES)
def test_the_labels_of_test_items_change_nothing(name):
    features, labels = clusters(spread=3.0)
    fold = fold_of()
    if name == "attentive":
        features = F.pad(features, (0, 3))[:, None].repeat(1, 2, 1)
    other = labels.clone()
    other[fold.test] = (labels[fold.test] + 1) % 3
    first, second = (PROBES[name](features, each, fold, 3) for each in (labels, other))
    assert torch.equal(first.probabilities, second.probabilities)


def test_the_penalty_is_the_strongest_of_the_best_on_the_validation_items():
    features, labels = clusters(spread=4.0)
    fold = fold_of()
    values, weights, accuracies = standardized(features, fold).double(), None, {}
    for penalty in probes.PENALTIES:
        weights = fit_logistic(values[fold.train], labels[fold.train], 3, penalty, weights)
        logits = values[fold.val] @ weights[:-1] + weights[-1]
        accuracies[penalty] = float((logits.argmax(1) == labels[fold.val]).float().mean())
    best = max(accuracies, key=lambda penalty: (accuracies[penalty], penalty))
    assert probes.linear_probe(features, labels, fold, 3).chosen == f"penalty {best:g}"


def test_padding_changes_neither_statistics_nor_attention():
    features = F.pad(clusters()[0], (0, 3))[:, None].repeat(1, 3, 1)
    longer = F.pad(features, (0, 0, 0, 5))
    fold = fold_of()
    short, long = standardized(features, fold), standardized(longer, fold)
    torch.testing.assert_close(long[:, :3], short)
    assert (long[:, 3:] == 0).all()
    pooling = probes.AttentivePooling(8, 3)
    torch.testing.assert_close(pooling(long), pooling(short))


def test_folds_share_no_item_and_the_next_part_validates():
    parts, names = np.array(["1", "2", "3", "4", "10"] * 4), ["1", "2", "3", "4", "10"]
    folds = list(nested_folds(parts, names))
    assert [fold.name for fold in folds] == names
    for k, fold in enumerate(folds):
        assert {parts[i] for i in fold.test} == {names[k]}
        assert {parts[i] for i in fold.val} == {names[(k + 1) % 5]}
        assert sorted([*fold.train.tolist(), *fold.val.tolist(), *fold.test.tolist()]) == list(range(20))
    assert [fold.name for fold in nested_folds(parts, names, ["4", "2"])] == ["2", "4"]
    with pytest.raises(ValueError, match="no fold '6'"):
        list(nested_folds(parts, names, ["6"]))
    with pytest.raises(ValueError, match="three folds"):
        list(nested_folds(np.array(["1", "2"]), ["1", "2"]))
