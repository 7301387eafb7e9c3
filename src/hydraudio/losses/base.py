"""What every loss between estimated and true sources offers."""

from torch import Tensor, nn


class SourceLoss(nn.Module):
    """Compute the loss per item between estimated and true sources: source k against source k.

    A subclass gives two methods. ``forward(estimate, target, lengths=None)`` takes (batch, n_sources, time), the same,
    and (batch,) valid samples, and returns (batch,), lower is better; a common reordering of estimates and targets
    does not change it. `pairwise` serves the search of permutations.
    """

    sums_over_sources: bool = True
    """Whether `forward` is a mean over sources of entries of `pairwise`: costs of such losses add up."""

    def pairwise(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the cost of every pair; the one-to-one assignment with the least sum is the permutation of least loss.

        Args:
            estimate: (batch, n_estimates, time)
            target: (batch, n_targets, time)
            lengths: (batch,) valid samples per item; None takes all

        Returns:
            (batch, n_estimates, n_targets)
        """
        raise NotImplementedError(f"{type(self).__name__} gives no pairwise costs, so it cannot be permuted")
