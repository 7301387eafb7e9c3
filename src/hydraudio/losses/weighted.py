"""Weighted sum of losses."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from hydraudio.losses.base import SourceLoss


class WeightedLoss(SourceLoss):
    """Sum losses, each times its weight: (batch,).

    Pairwise costs of the terms add up only where every term is a mean over sources. A sum that holds SA-SDR
    therefore needs ``PermutationInvariant(loss, search=...)``.

    Args:
        losses: the terms
        weights: one factor for each term
    """

    def __init__(self, losses: Sequence[SourceLoss], weights: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(weights) or not losses:
            raise ValueError(f"need one weight for each loss, found {len(losses)} losses, {len(weights)} weights")
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights)
        self.sums_over_sources = all(loss.sums_over_sources for loss in losses)

    def forward(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        terms = [loss(estimate, target, lengths) for loss in self.losses]
        return self._sum(terms)

    def pairwise(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        if not self.sums_over_sources:
            raise ValueError(
                "a loss in this sum is no mean over sources (SA-SDR), so the pairwise costs do not add up; "
                "choose the loss that orders the sources: PermutationInvariant(loss, search=SISDRLoss())"
            )
        return self._sum([cast(SourceLoss, loss).pairwise(estimate, target, lengths) for loss in self.losses])

    def _sum(self, terms: list[Tensor]) -> Tensor:
        total = self.weights[0] * terms[0]
        for weight, term in zip(self.weights[1:], terms[1:], strict=True):
            total = total + weight * term
        return total
