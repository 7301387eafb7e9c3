"""What every loss on categories offers, and weights of classes from their number of training items.

`n_c` items of class c among N of C classes. A class without any item has weight 0: nothing is known about it.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Weighting = Literal["inverse", "sqrt", "log", "effective"]
EFFECTIVE_BETA = 0.9999
"""Of Cui et al. 2019 for large corpora."""


class CategoryLoss(nn.Module):
    """Compute the loss per item between logits and a distribution over classes: (batch,) float32, lower is better.

    ``loss(logits, target)`` takes (batch, n_classes) twice; rows of `target` sum to 1 (one-hot for a hard label), or
    are all zero where an item has no category, which makes its loss 0. The loss of a batch, or of a whole set, is

        sum of loss(logits, target) / sum of loss.reduction_weights(target)

    With z the logits, p their softmax and q the target. Computed in float32 under any precision. A subclass gives
    `item_loss`.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape != target.shape or logits.ndim != 2:
            raise ValueError(
                f"need logits and targets (batch, n_classes), got {tuple(logits.shape)} and {tuple(target.shape)}"
            )
        with torch.autocast(logits.device.type, enabled=False):
            return self.item_loss(logits.float(), target.float()) * labelled(target)

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map (batch, n_classes) twice, float32, to (batch,); the result of rows without target is ignored."""
        raise NotImplementedError

    def reduction_weights(self, target: Tensor) -> Tensor:
        """Say what an item counts in the mean over a batch, (batch,) float32: 1 with a target, 0 without."""
        return labelled(target)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0; only losses with a schedule listen."""


class WeightedCategoryLoss(CategoryLoss):
    """Weigh a loss by one weight per class, from training counts.

    Args:
        class_counts: training items per class; null: every class has weight 1.
        weighting: see `class_weights`; null: every class has weight 1.
        clip: least and largest weight.
    """

    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[float] | None = None,
        weighting: Weighting | None = None,
        clip: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if class_counts is None and (weighting is not None or clip is not None):
            raise ValueError(f"weighting={weighting} and clip={clip} need class_counts")
        weights = None if class_counts is None else class_weights(class_counts, weighting, clip)
        self.register_buffer("weights", weights, persistent=False)

    def weigh(self, x: Tensor) -> Tensor:
        """Multiply x (batch, n_classes) by the weight of each class."""
        return x if self.weights is None else x * self.weights


def labelled(target: Tensor) -> Tensor:
    """Mark the rows that have a target: (batch,) float32, 1 for these, 0 for rows of zeros."""
    return (target.sum(-1) > 0).float()


def class_weights(
    class_counts: Sequence[float], weighting: Weighting | None, clip: Sequence[float] | None = None
) -> Tensor:
    """Make one weight per class, (n_classes,) float32.

    - ``inverse``: w_c = N / (C n_c); 1 for every class of a balanced corpus
    - ``sqrt``: its square root
    - ``log``: log(1 + w_c)
    - ``effective``: `effective_weights` with beta 0.9999
    - None: 1 for every class, also for those without items

    Args:
        class_counts: training items per class.
        weighting: which.
        clip: least and largest weight of a class that has items.

    Raises:
        ValueError: counts are negative or all zero, or the limits are not ordered.

    >>> class_weights([100, 50, 50], "inverse")
    tensor([0.6667, 1.3333, 1.3333])
    """
    counts = check_counts(class_counts)
    if weighting is None:
        weights = torch.ones_like(counts)
    elif weighting == "effective":
        weights = effective_weights(class_counts).double()
    else:
        weights = _damped(_inverse(counts), weighting)
    if clip is not None:
        least, most = clip
        if not 0 <= least <= most:
            raise ValueError(f"clip={list(clip)} must be the least and the largest weight, 0 <= least <= largest")
        weights = torch.where(counts > 0, weights.clamp(least, most), weights)
    return weights.float()


def effective_weights(
    class_counts: Sequence[float], beta: float | None = EFFECTIVE_BETA, normalize: bool = True
) -> Tensor:
    """Invert the effective number of items, (n_classes,) float32: w_c = (1 - beta) / (1 - beta^n_c).

    Cui et al.: "Class-balanced loss based on effective number of samples", CVPR 2019.

    Args:
        class_counts: training items per class.
        beta: 0 gives equal weights, towards 1 inverse frequencies; None: (N - 1) / N, as EMO-SUPERB has it.
        normalize: scale so that the weights sum to C (their mean is 1), as the paper does.
    """
    counts = check_counts(class_counts)
    beta = 1.0 - 1.0 / float(counts.sum()) if beta is None else beta
    if not 0 <= beta < 1:
        raise ValueError(f"beta={beta} must lie in [0, 1)")
    weights = torch.where(counts > 0, (1.0 - beta) / (1.0 - beta ** counts.clamp_min(1)), 0.0)
    return (weights * len(weights) / weights.sum() if normalize else weights).float()


def check_counts(class_counts: Sequence[float], need_all: str | None = None) -> Tensor:
    """Return the counts as float64.

    Args:
        class_counts: training items per class.
        need_all: name of what needs items of every class, None where empty classes are allowed.
    """
    counts = torch.as_tensor(list(class_counts), dtype=torch.float64)
    if counts.ndim != 1 or not len(counts) or (counts < 0).any() or counts.sum() == 0:
        raise ValueError(f"class_counts={list(class_counts)} must be items per class, none negative, not all zero")
    if need_all is not None and (counts == 0).any():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"{need_all} is not defined for classes without training items: numbers {empty} of "
            f"class_counts={list(class_counts)}. Train on classes that occur (data.classes), or choose another loss"
        )
    return counts


def _inverse(counts: Tensor) -> Tensor:
    return torch.where(counts > 0, counts.sum() / (len(counts) * counts.clamp_min(1e-12)), 0.0)


def _damped(weights: Tensor, weighting: str) -> Tensor:
    if weighting == "inverse":
        return weights
    if weighting == "sqrt":
        return weights.sqrt()
    if weighting == "log":
        return weights.log1p()
    raise ValueError(f"weighting={weighting!r} is unknown; choose inverse, sqrt, log or effective")
