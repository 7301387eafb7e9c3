"""What accumulates over an epoch and over processes: means, and the predictions of a whole set, to be scored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric


class MaskedMean(Metric):
    """Average values over all items whose mask is set, whatever the batch sizes and the number of processes.

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
        """Return the scalar mean; NaN without items."""
        return self.total / self.count


class Predictions:
    """Collect rows of tensors by the names of their items.

    Tensors stay on their device until :meth:`collect`, so that nothing waits in between.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._batches: list[dict[str, Tensor]] = []

    def add(self, ids: Sequence[str], **values: Tensor) -> None:
        """Add the rows of a batch.

        Args:
            ids: (batch,) names of the items.
            **values: (batch, ...) each, the same names in every batch.
        """
        wrong = [name for name, value in values.items() if len(value) != len(ids)]
        if wrong:
            raise ValueError(f"{wrong[0]} has {len(values[wrong[0]])} rows for {len(ids)} items")
        self._ids += ids
        self._batches.append({name: value.detach() for name, value in values.items()})

    def clear(self) -> None:
        """Forget all rows."""
        self._ids, self._batches = [], []

    def collect(self) -> dict[str, Tensor]:
        """Return all rows on the CPU and forget them; {} without any.

        Of several processes every one gets the rows of all, each item once, ordered by name: a sampler may give an item
        to two processes so that all have equally many.
        """
        rows: dict[str, Any] = {}
        if self._batches:
            rows = {name: torch.cat([batch[name] for batch in self._batches]).cpu() for name in self._batches[0]}
        ids = self._ids
        self.clear()
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return rows
        return _merge(_gather((ids, rows)))


def _gather(value: Any) -> list[Any]:
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def _merge(parts: Sequence[tuple[list[str], dict[str, Tensor]]]) -> dict[str, Tensor]:
    """One set of rows from those of several processes, each item once, ordered by name."""
    ids = [name for names, _ in parts for name in names]
    places = {name: place for place, name in reversed(list(enumerate(ids)))}
    order = torch.tensor([places[name] for name in sorted(places)], dtype=torch.int64)
    filled = [rows for _, rows in parts if rows]
    return {name: torch.cat([rows[name] for rows in filled])[order] for name in filled[0]} if filled else {}
