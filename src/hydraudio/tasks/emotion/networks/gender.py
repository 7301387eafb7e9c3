"""What a network does with the talker's gender: know it, predict it besides, or forget it.

Genders are indexed 0 Female, 1 Male, 2 Unknown.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.tasks.emotion.networks.heads import build_trunk

UNKNOWN = 2
N_GENDERS = 3
GenderMode = Literal["none", "condition", "auxiliary", "adversarial"]


class GenderCondition(nn.Module):
    """Gender as an input: (batch,) indices -> (batch, dim), Dropout(Tanh(Linear(one-hot of 3))).

    The attribute head gets it; the logits of categories never see gender. In training a share of the genders is
    replaced by Unknown, so that the network also works where nobody knows them.

    Args:
        dim: width of the embedding.
        dropout: probability.
        unknown_p: share of items whose gender is hidden in training.
    """

    mode: GenderMode = "condition"

    def __init__(self, dim: int = 32, dropout: float = 0.2, unknown_p: float = 0.15) -> None:
        super().__init__()
        if not 0 <= unknown_p <= 1:
            raise ValueError(f"unknown_p={unknown_p} is a share of the items, from 0 to 1")
        self.dim, self.unknown_p = dim, unknown_p
        self.projection = nn.Linear(N_GENDERS, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, gender: Tensor) -> Tensor:
        if self.training:
            hidden = torch.rand(gender.shape, device=gender.device) < self.unknown_p
            gender = gender.masked_fill(hidden, UNKNOWN)
        one_hot = F.one_hot(gender, N_GENDERS).to(self.projection.weight.dtype)
        return self.dropout(self.projection(one_hot).tanh())


class GenderClassifier(nn.Module):
    """Gender as a second task: (batch, in_features) -> logits (batch, 2) for Female and Male.

    Args:
        in_features: width of the pooled vector.
        hidden_dim: width of every hidden layer.
        n_layers: hidden layers, [Linear, Tanh, Dropout] each.
        dropout: probability.
    """

    mode: GenderMode = "auxiliary"

    def __init__(self, in_features: int, hidden_dim: int = 64, n_layers: int = 1, dropout: float = 0.2) -> None:
        super().__init__()
        self.trunk, width = build_trunk(in_features, [hidden_dim] * n_layers, dropout, "tanh")
        self.output = nn.Linear(width, N_GENDERS - 1)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.output(self.trunk(pooled))


class GenderAdversary(GenderClassifier):
    """A gender classifier whose gradient is reversed, so that the pooled vector forgets gender.

    Ganin and Lempitsky: "Unsupervised domain adaptation by backpropagation", ICML 2015: the identity forwards,
    -reversal times the gradient backwards.

    Args:
        in_features: width of the pooled vector.
        reversal: factor of the reversed gradient (the paper's lambda), on top of the loss's own weight.
        hidden_dim: width of every hidden layer.
        n_layers: hidden layers.
        dropout: probability.
    """

    mode: GenderMode = "adversarial"

    def __init__(
        self,
        in_features: int,
        reversal: float = 1.0,
        hidden_dim: int = 64,
        n_layers: int = 1,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(in_features, hidden_dim, n_layers, dropout)
        if reversal < 0:
            raise ValueError(f"reversal={reversal} must not be negative: it is reversed already")
        self.reversal = reversal

    def forward(self, pooled: Tensor) -> Tensor:
        return super().forward(_ReverseGradient.apply(pooled, self.reversal))


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None
