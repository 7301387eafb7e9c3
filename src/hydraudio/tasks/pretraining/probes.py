"""What frozen features know of the classes: probes that are trained on features alone, fold by fold.

Nothing is chosen on the test items of a fold: strength of the penalty and number of epochs are those of the highest
accuracy on its validation items. Features are standardised by their training items.

References:
    J. Turian et al., "HEAR: Holistic evaluation of audio representations", 2021: the probe with a hidden layer, nested
    folds.
    A. Bardes et al., "Revisiting feature prediction for learning visual representations from video", 2024: probes with
    attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.tasks.pretraining.representation import neighbour_probabilities

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""Of the linear probe, the strongest first."""

MAX_EPOCHS, PATIENCE = 200, 30
BATCH = 64


class Fold(NamedTuple):
    """Items by their number, (n,) int64 each.

    Attributes:
        name: of the fold, or of the part that is tested.
        train: to learn from.
        val: to choose by.
        test: to score.
    """

    name: str
    train: Tensor
    val: Tensor
    test: Tensor


class Outcome(NamedTuple):
    """What a probe says of a fold's test items.

    Attributes:
        probabilities: (n_test, n_classes).
        chosen: the penalty or the number of epochs that did best on the validation items; empty without a choice.
    """

    probabilities: Tensor
    chosen: str = ""


Probe = Callable[[Tensor, Tensor, Fold, int], Outcome]
"""(features (n, channels) or (n, steps, channels), labels (n,) int64, fold, n_classes) -> outcome."""


def nested_folds(parts: np.ndarray, names: Sequence[str], only: Sequence[str] = ()) -> Iterator[Fold]:
    """Yield every fold, or those in `only`: it is tested, the next one (after the last the first) validates.

    Args:
        parts: (n,) the fold that each item lies in.
        names: of all folds, in their order.
        only: names of the folds to test; empty = all.

    Raises:
        ValueError: there are fewer than three folds, or `only` names another.

    >>> [fold.test.tolist() for fold in nested_folds(np.array(["1", "2", "3", "1"]), ["1", "2", "3"])]
    [[0, 3], [1], [2]]
    """
    if len(names) < 3:
        raise ValueError(f"three folds are needed, to train, to choose and to test; there are {', '.join(names)}")
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ValueError(f"there is no fold {unknown[0]!r}; choose among {', '.join(names)}")
    for k, name in enumerate(names):
        if not only or name in only:
            val, test = parts == names[(k + 1) % len(names)], parts == name
            yield Fold(name, *(torch.from_numpy(np.flatnonzero(mask)) for mask in (~val & ~test, val, test)))


def knn_probe(features: Tensor, labels: Tensor, fold: Fold, n_classes: int) -> Outcome:
    """Let the ten nearest training items vote, as X-ARES does; nothing is trained or chosen."""
    bank, queries = features[fold.train], features[fold.test]
    return Outcome(neighbour_probabilities(bank, labels[fold.train], queries, n_classes))


def linear_probe(features: Tensor, labels: Tensor, fold: Fold, n_classes: int) -> Outcome:
    """Fit a logistic regression for each of `PENALTIES`; of equally good ones the strongest counts."""
    values = standardized(features, fold).double()  # the line search of L-BFGS is lost in float32
    weights, best, outcome = None, -1.0, None
    for penalty in PENALTIES:
        weights = fit_logistic(values[fold.train], labels[fold.train], n_classes, penalty, weights)
        accuracy = _accuracy(_affine(values[fold.val], weights), labels[fold.val])
        if accuracy > best:
            best, outcome = (
                accuracy,
                Outcome(_affine(values[fold.test], weights).softmax(-1).float(), f"penalty {penalty:g}"),
            )
    assert outcome is not None, "an accuracy is at least 0"
    return outcome


def mlp_probe(features: Tensor, labels: Tensor, fold: Fold, n_classes: int) -> Outcome:
    """Train one hidden layer of 1,024 units with batch norm and dropout, as HEAR does."""
    values = standardized(features, fold)
    hidden = 1024
    layers = (nn.Linear(values.shape[1], hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.1))
    return _trained(nn.Sequential(*layers, nn.Linear(hidden, n_classes)), values, labels, fold)


def attentive_probe(features: Tensor, labels: Tensor, fold: Fold, n_classes: int) -> Outcome:
    """Train a pooling of time steps (n, steps, channels) by attention with a linear layer upon it.

    Steps whose channels are all zero are padding.
    """
    return _trained(AttentivePooling(features.shape[2], n_classes), standardized(features, fold), labels, fold)


PROBES: dict[str, Probe] = {"knn": knn_probe, "linear": linear_probe, "mlp": mlp_probe, "attentive": attentive_probe}


class AttentivePooling(nn.Module):
    """Average time steps by learned attention, each group of channels by its own, and classify the average.

    Args:
        channels: of a step.
        n_classes: logits.
        n_heads: groups of channels, which must divide them.
    """

    def __init__(self, channels: int, n_classes: int, n_heads: int = 4) -> None:
        super().__init__()
        self.norm, self.scores = nn.LayerNorm(channels), nn.Linear(channels, n_heads)
        self.output = nn.Linear(channels, n_classes)
        self.n_heads = n_heads

    def forward(self, steps: Tensor) -> Tensor:
        """(batch, steps, channels), zeros where there is none -> (batch, n_classes)."""
        empty = (steps == 0).all(-1, keepdim=True)
        values = self.norm(steps)
        attention = self.scores(values).masked_fill(empty, float("-inf")).softmax(1)
        pooled = torch.einsum("bth,bthc->bhc", attention, values.unflatten(-1, (self.n_heads, -1)))
        return self.output(pooled.flatten(1))


def fit_logistic(
    features: Tensor, labels: Tensor, n_classes: int, penalty: float, start: Tensor | None = None
) -> Tensor:
    """Minimise mean cross entropy + penalty / 2 |W|^2 by L-BFGS; the bias is not penalised.

    Args:
        features: (n, channels) float64.
        labels: (n,) int64.
        n_classes: of the labels.
        penalty: positive.
        start: weights to begin with; None = zeros.

    Returns:
        (channels + 1, n_classes): W above the bias.
    """
    weights = torch.zeros(features.shape[1] + 1, n_classes) if start is None else start.clone()
    weights = weights.to(features).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(_affine(features, weights), labels) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def standardized(features: Tensor, fold: Fold) -> Tensor:
    """Features of mean 0 and deviation 1 over the training items, channel by channel; constant ones are centred.

    Time steps that are all zero are padding: they do not count and stay zero.
    """
    known = features[fold.train].flatten(0, -2)
    known = known[(known != 0).any(-1)]
    mean, std = known.mean(0), known.std(0, correction=0)
    std = torch.where(std > 1e-6 * mean.abs().clamp_min(1e-6), std, 1.0)
    inside = (features != 0).any(-1, keepdim=True) if features.ndim == 3 else True
    return (features - mean) / std * inside


def _affine(features: Tensor, weights: Tensor) -> Tensor:
    return torch.addmm(weights[-1], features, weights[:-1])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(-1) == labels).float().mean())


def _trained(probe: nn.Module, values: Tensor, labels: Tensor, fold: Fold, seed: int = 0) -> Outcome:
    """Train with Adam until the validation accuracy has not grown for a while; the best epoch's outcome counts."""
    draws = torch.Generator().manual_seed(seed)
    for layer in probe.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, generator=draws)
            nn.init.zeros_(layer.bias)
    probe.to(values.device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=1e-3)
    best, best_epoch, outcome = -1.0, 0, Outcome(values.new_zeros(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the dropout
        for epoch in range(1, MAX_EPOCHS + 1):
            probe.train()
            for rows in fold.train[torch.randperm(len(fold.train), generator=draws)].split(BATCH):
                if len(rows) > 1 or len(fold.train) == 1:  # batch norm has no deviation of one item
                    optimizer.zero_grad()
                    F.cross_entropy(probe(values[rows]), labels[rows]).backward()
                    optimizer.step()
            accuracy = _accuracy(_evaluated(probe, values[fold.val]), labels[fold.val])
            if accuracy > best:
                best, best_epoch = accuracy, epoch
                outcome = Outcome(_evaluated(probe, values[fold.test]).softmax(-1), f"{epoch} epochs")
            if epoch - best_epoch >= PATIENCE:
                break
    return outcome


@torch.no_grad()
def _evaluated(probe: nn.Module, values: Tensor) -> Tensor:
    probe.eval()
    return torch.cat([probe(part) for part in values.split(BATCH)])
