"""Permutation-invariant training: the order of the estimates is the one that fits the targets best.

Yu, Kolbaek, Tan, Jensen: "Permutation invariant training of deep models for speaker-independent multi-talker
speech separation", ICASSP 2017; Kolbaek et al., TASLP 2017 (utterance level).
"""

from functools import cache
from itertools import permutations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hydraudio.losses.base import SourceLoss

MAX_SOURCES_BRUTE_FORCE = 3
"""Up to here all permutations are compared on the device; above, the Hungarian method runs on the CPU."""


class PermutationInvariant(nn.Module):
    """Compute any `SourceLoss` under the best permutation of the estimates.

    The search works on the pairwise costs and carries no gradient; the loss is then computed once, against
    the targets in the order of the estimates, so it is as accurate as the loss itself, signals are never
    expanded to all pairs, and the order costs nothing in the backward pass.

    Args:
        loss: the loss to minimise
        search: the loss whose best permutation is taken; None takes that of `loss`

    >>> from hydraudio.losses.sdr import SISDRLoss
    >>> target = torch.tensor([[[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]])
    >>> estimate = target.flip(1) + 0.1  # the sources in the other order
    >>> loss, permutation = PermutationInvariant(SISDRLoss())(estimate, target)
    >>> loss.round(decimals=2), permutation
    (tensor([-20.]), tensor([[1, 0]]))
    """

    def __init__(self, loss: SourceLoss, search: SourceLoss | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.search = search

    def forward(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the loss under the best permutation.

        Args:
            estimate: (batch, n_sources, time)
            target: (batch, n_sources, time)
            lengths: (batch,) valid samples per item; None takes all

        Returns:
            the loss (batch,), and the permutation (batch, n_sources) int64: entry [b, k] is the index of the
            estimate that belongs to target k (see `reorder`)
        """
        permutation = self.best_permutation(estimate, target, lengths)
        if estimate.shape[1] > 1:
            target = reorder(target, permutation.argsort(-1))
        return self.loss(estimate, target, lengths), permutation

    @torch.no_grad()
    def best_permutation(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the permutation (batch, n_sources) of `forward` alone."""
        if estimate.shape != target.shape or estimate.ndim != 3:
            raise ValueError(
                f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} must both be "
                "(batch, n_sources, time), one estimate for each target"
            )
        if estimate.shape[1] == 1:
            return torch.zeros(len(estimate), 1, dtype=torch.int64, device=estimate.device)
        cost = (self.search or self.loss).pairwise(estimate, target, lengths)
        return least_cost_permutation(cost)


def reorder(estimate: Tensor, permutation: Tensor) -> Tensor:
    """Order the signals (batch, n_sources, time): source k is taken from permutation[:, k], of (batch, n_sources).

    >>> reorder(torch.tensor([[[1, 1], [2, 2]]]), torch.tensor([[1, 0]]))
    tensor([[[2, 2],
             [1, 1]]])
    """
    batch, n_sources, _ = estimate.shape
    first_rows = n_sources * torch.arange(batch, device=estimate.device).unsqueeze(-1)
    rows = (first_rows + permutation).flatten()  # whole rows: several times faster than a gather of samples
    return estimate.flatten(0, 1).index_select(0, rows).unflatten(0, permutation.shape)


def least_cost_permutation(cost: Tensor) -> Tensor:
    """Find the one-to-one assignment with the least sum of costs.

    Args:
        cost: (batch, n_estimates, n_targets), square. An item with NaN gets some permutation; its loss is NaN
            anyway.

    Returns:
        (batch, n_targets) int64: the estimate of each target; the first in lexicographic order among equals
        (with the Hungarian method any of them)
    """
    if cost.shape[1] <= MAX_SOURCES_BRUTE_FORCE:
        return _brute_force(cost)
    return _hungarian(cost)


def _brute_force(cost: Tensor) -> Tensor:
    n_sources = cost.shape[1]
    candidates = _permutations(n_sources, cost.device)
    costs = cost[:, candidates, torch.arange(n_sources, device=cost.device)].sum(-1)
    return candidates[costs.argmin(-1)]


@cache
def _permutations(n_sources: int, device: torch.device) -> Tensor:
    """(n_sources!, n_sources) int64; kept, because a copy to the device in every step would make it wait."""
    with torch.inference_mode(False):
        return torch.tensor(list(permutations(range(n_sources))), device=device)


def _hungarian(cost: Tensor) -> Tensor:
    by_target = torch.nan_to_num(cost).transpose(1, 2).cpu().numpy()
    assignment = [linear_sum_assignment(item)[1] for item in by_target]
    return torch.tensor([row.tolist() for row in assignment], dtype=torch.int64, device=cost.device)
