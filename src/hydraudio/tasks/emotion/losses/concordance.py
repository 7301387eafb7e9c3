"""Concordance correlation as a loss on attributes."""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

EPS = 1e-8
"""Added to the denominator, which is zero where prediction and truth are the same constant."""


class ConcordanceLoss(nn.Module):
    """1 - CCC, mean or sum over attributes, scalar float32.

    Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45(1), 1989, with population
    moments over the items whose attribute is known:

        CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2 + 1e-8)

    An attribute with fewer than two known items is left out; if none remains the loss is 0. Small batches bias the
    estimate towards 0. Under data-parallel training the moments are those of the batches of all ranks, and the gradient
    is that of one large batch. In evaluation nothing is gathered: score the pooled set instead of batches.

    Args:
        reduction: ``mean`` or ``sum`` over the attributes.
    """

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction={reduction!r} is unknown; choose mean or sum")
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction, target: (batch, n_attributes); NaN in `target` is unknown."""
        if prediction.shape != target.shape or prediction.ndim != 2:
            raise ValueError(
                f"need predictions and targets (batch, n_attributes), got {tuple(prediction.shape)} and "
                f"{tuple(target.shape)}"
            )
        with torch.autocast(prediction.device.type, enabled=False):
            x, y = prediction.float(), target.float()
            if self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                x, y = gather_rows(x, 0.0), gather_rows(y, float("nan"))
            ccc, usable = concordance(x, y)
            total = ((1 - ccc) * usable).sum()
            return total / usable.sum().clamp_min(1) if self.reduction == "mean" else total


def concordance(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """CCC of each column and whether it has two known items or more: (batch, n) twice -> (n,) twice.

    The CCC of a column that has not is 0.
    """
    known = target.isfinite()
    count = known.sum(0)
    divisor = count.clamp_min(1)
    x = prediction.masked_fill(~known, 0.0)
    y = target.masked_fill(~known, 0.0)
    mean_x, mean_y = x.sum(0) / divisor, y.sum(0) / divisor
    x, y = (x - mean_x).masked_fill(~known, 0.0), (y - mean_y).masked_fill(~known, 0.0)
    covariance = (x * y).sum(0) / divisor
    spread = (x.square().sum(0) + y.square().sum(0)) / divisor
    usable = count >= 2
    ccc = 2 * covariance / (spread + (mean_x - mean_y).square() + EPS)
    return ccc.masked_fill(~usable, 0.0), usable


def gather_rows(x: Tensor, fill: float) -> Tensor:
    """Rows of all ranks, with gradients; ranks with fewer rows are filled up with `fill`. (batch, n) -> (all, n)."""
    size = torch.tensor([len(x)], device=x.device)
    dist.all_reduce(size, dist.ReduceOp.MAX)
    missing = int(size) - len(x)
    padded = torch.cat([x, x.new_full((missing, x.shape[1]), fill)]) if missing else x
    return torch.cat(all_gather(padded.contiguous()))
