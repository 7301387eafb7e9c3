"""One loss from the losses of several heads."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hydraudio.nn.weight_decay import exempt_from_weight_decay


class FixedWeights(nn.Module):
    """Compute sum_k weight_k * loss_k over the losses that there are: scalar.

    Args:
        weights: one for each loss by name; names of heads that a network does not have are allowed.

    >>> losses = {"category": torch.tensor(2.0), "attributes": torch.tensor(1.0)}
    >>> FixedWeights({"category": 1.0, "attributes": 0.5})(losses)
    tensor(2.5000)
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        missing = sorted(set(losses) - set(self.weights))
        if missing:
            raise ValueError(f"no weight for the losses {missing}; weights are given for {sorted(self.weights)}")
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()


class UncertaintyWeights(nn.Module):
    """Compute sum_k a_k exp(-s_k) loss_k + s_k / 2 with a learned s_k for each loss: scalar.

    Kendall, Gal, Cipolla: "Multi-task learning using uncertainty to weigh losses for scene geometry and semantics",
    CVPR 2018, eq. 7 and 10: s = log sigma^2, a = 1/2 for a regression and 1 for a classification. The s are parameters
    and start at 0; the optimizer must get them.

    Args:
        names: of the losses; all must be given in every step.
        regressions: those of `names` that are regressions.
    """

    def __init__(self, names: Sequence[str], regressions: Sequence[str]) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names):
            raise ValueError(f"names={list(names)} must be different losses, at least one")
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in names})
        exempt_from_weight_decay(*self.log_variances.values())
        self.factors = {name: 0.5 if name in regressions else 1.0 for name in names}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        if set(losses) != set(self.factors):
            raise ValueError(f"found the losses {sorted(losses)}, weights are learned for {sorted(self.factors)}")
        terms = []
        for name, loss in losses.items():
            log_variance = self.log_variances[name]
            terms.append(self.factors[name] * torch.exp(-log_variance) * loss + log_variance / 2)
        return torch.stack(terms).sum()
