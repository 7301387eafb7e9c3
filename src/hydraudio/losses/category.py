"""What every loss on categories offers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hydraudio.losses.class_weights import Weighting, class_weights


class CategoryLoss(nn.Module):
    """Loss per item between logits and a distribution over classes: (batch,) float32, lower is better.

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
        """(batch, n_classes) twice, float32 -> (batch,); the result of rows without target is ignored."""
        raise NotImplementedError

    def reduction_weights(self, target: Tensor) -> Tensor:
        """What an item counts in the mean over a batch, (batch,) float32: 1 with a target, 0 without."""
        return labelled(target)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0; only losses with a schedule listen."""


class WeightedCategoryLoss(CategoryLoss):
    """A loss with one weight per class, from training counts.

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
        """x (batch, n_classes) times the weight of each class."""
        return x if self.weights is None else x * self.weights


def labelled(target: Tensor) -> Tensor:
    """1 for rows with a target, 0 for rows of zeros: (batch,) float32."""
    return (target.sum(-1) > 0).float()
