"""Metrics that accumulate over an epoch and over processes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MaskedMean(Metric):
    """Mean of values over all items whose mask is set, whatever the batch sizes and the number of processes.

    Sums are float64 (float32 where the machine's accelerator is MPS, which has no float64). Without any item
    the mean is NaN, silently. A NaN among the masked-in values makes the mean NaN.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        dtype = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.add_state("total", torch.zeros((), dtype=dtype), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def update_called(self) -> bool:
        """True: an empty mean is a result here (NaN), not a mistake that torchmetrics should warn about."""
        return True

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """
        Args:
            values: (batch, ...)
            mask: bool, (batch,) or the shape of `values`; None takes all
        """
        values = values.detach().to(self.total.dtype)
        if mask is None:
            mask = torch.ones_like(values, dtype=torch.bool)
        elif mask.shape not in (values.shape, values.shape[:1]):
            raise ValueError(f"mask {tuple(mask.shape)} fits neither the items nor the values {tuple(values.shape)}")
        else:
            mask = mask.bool().reshape(mask.shape + (1,) * (values.ndim - mask.ndim)).expand_as(values)
        self.total += values.masked_fill(~mask, 0.0).sum()
        self.count += mask.sum()

    def compute(self) -> Tensor:
        """Scalar mean; NaN without items."""
        return self.total / self.count
