"""Heads on a pooled vector: categories, attributes, and what the network does with the talker's gender.

It may know gender, predict it besides, or forget it. Genders are indexed 0 Female, 1 Male, 2 Unknown.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "tanh"]
UNKNOWN = 2
N_GENDERS = 3
GenderMode = Literal["none", "condition", "auxiliary", "adversarial"]


class ClassifierHead(nn.Module):
    """(batch, in_features) -> logits (batch, n_classes).

    ``relu`` is the classifier of the MSP-PODCAST challenge baselines (Goncalves et al., "Odyssey 2024 - Speech Emotion
    Recognition Challenge", Odyssey 2024), ``tanh`` that of the dual head (`BranchAttributeHead`):

        relu: Dropout, n_layers x [Linear, LayerNorm, ReLU, Dropout], Linear
        tanh: n_layers x [Linear, Tanh, Dropout], Linear

    Args:
        in_features: width of the pooled vector.
        n_classes: number of logits.
        hidden_dim: width of every hidden layer.
        n_layers: hidden layers; 0 leaves one linear layer.
        dropout: probability.
        activation: which of the two forms.
        cosine_scale: null for a linear output; else the logits are this factor times the cosine between the last
            hidden layer and a vector per class, as LDAM was published (30).
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        hidden_dim: int = 768,
        n_layers: int = 1,
        dropout: float = 0.5,
        activation: Activation = "relu",
        cosine_scale: float | None = None,
    ) -> None:
        super().__init__()
        if n_classes < 2:
            raise ValueError(f"n_classes={n_classes}: a category head needs at least two classes")
        self.n_classes = n_classes
        self.trunk, self.embedding_features = build_trunk(in_features, [hidden_dim] * n_layers, dropout, activation)
        self.output: nn.Module = (
            nn.Linear(self.embedding_features, n_classes)
            if cosine_scale is None
            else CosineLinear(self.embedding_features, n_classes, cosine_scale)
        )

    def embed(self, pooled: Tensor) -> Tensor:
        """Return the last hidden layer, (batch, embedding_features)."""
        return self.trunk(pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.output(self.embed(pooled))


class CosineLinear(nn.Module):
    """scale * cos(x, w_c) for each class c: (batch, in_features) -> (batch, n_classes), in float32.

    Cao et al.: "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019.
    """

    def __init__(self, in_features: int, n_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(n_classes, in_features) / in_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            cosine = F.linear(F.normalize(x.float(), dim=-1), F.normalize(self.weight.float(), dim=-1))
            return self.scale * cosine


class AttributeHead(nn.Module):
    """(batch, in_features) -> attributes (batch, n_attributes) in [0, 1], from the trunk of the classifier.

    Args:
        in_features: width of the pooled vector.
        attribute_names: one output for each, in this order.
        context_features: width of what is known besides, appended to the pooled vector (gender, categories).
        hidden_dim: width of every hidden layer.
        n_layers: hidden layers; 0 leaves one linear layer.
        dropout: probability.
        activation: form of the trunk, see `ClassifierHead`.
    """

    def __init__(
        self,
        in_features: int,
        attribute_names: Sequence[str],
        context_features: int = 0,
        hidden_dim: int = 768,
        n_layers: int = 1,
        dropout: float = 0.5,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.n_attributes = _count(attribute_names)
        widths = [hidden_dim] * n_layers
        self.trunk, width = build_trunk(in_features + context_features, widths, dropout, activation)
        self.output = nn.Linear(width, self.n_attributes)

    def forward(self, pooled: Tensor, context: Tensor | None = None) -> Tensor:
        """context: (batch, context_features), None where that is 0."""
        x = pooled if context is None else torch.cat([pooled, context.to(pooled.dtype)], dim=-1)
        return self.output(self.trunk(x)).float().sigmoid()


class BranchAttributeHead(nn.Module):
    """Attributes in [0, 1] from a branch of their own beside what is known otherwise: the second part of a dual head.

        e = Dropout(Tanh(Linear(pooled))),  then on [context; e]: n x [Linear, Tanh, Dropout], Linear, sigmoid

    With the category head's embedding as context this is a hierarchical dual head in which categories feed the
    attributes. The defaults are those of the public 200AI models (after arXiv 2210.16642), whose `hidden_dims` are
    [64, 32] where gender is given too.

    Args:
        in_features: width of the pooled vector.
        attribute_names: one output for each, in this order.
        context_features: width of what is known besides.
        branch_dim: width of e.
        hidden_dims: widths of the hidden layers.
        dropout: probability.
    """

    def __init__(
        self,
        in_features: int,
        attribute_names: Sequence[str],
        context_features: int = 0,
        branch_dim: int = 64,
        hidden_dims: Sequence[int] = (64,),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.n_attributes = _count(attribute_names)
        self.branch, _ = build_trunk(in_features, [branch_dim], dropout, "tanh")
        self.trunk, width = build_trunk(branch_dim + context_features, hidden_dims, dropout, "tanh")
        self.output = nn.Linear(width, self.n_attributes)

    def forward(self, pooled: Tensor, context: Tensor | None = None) -> Tensor:
        """context: (batch, context_features), None where that is 0."""
        x = self.branch(pooled)
        x = x if context is None else torch.cat([context.to(x.dtype), x], dim=-1)
        return self.output(self.trunk(x)).float().sigmoid()


def build_trunk(
    in_features: int, hidden_dims: Sequence[int], dropout: float, activation: Activation
) -> tuple[nn.Sequential, int]:
    """Hidden layers in one of the two forms of `ClassifierHead`, and the width of what they give."""
    layers: list[nn.Module] = [nn.Dropout(dropout)] if activation == "relu" else []
    width = in_features
    for hidden_dim in hidden_dims:
        layers.append(nn.Linear(width, hidden_dim))
        layers += [nn.LayerNorm(hidden_dim), nn.ReLU()] if activation == "relu" else [nn.Tanh()]
        layers.append(nn.Dropout(dropout))
        width = hidden_dim
    return nn.Sequential(*layers), width


def _count(attribute_names: Sequence[str]) -> int:
    if not attribute_names:
        raise ValueError(
            "attribute_names is empty: the corpus has no attributes, or data.attributes names none; choose another "
            "corpus or a model without this head (model=emotion/category)"
        )
    return len(attribute_names)


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
        self, in_features: int, reversal: float = 1.0, hidden_dim: int = 64, n_layers: int = 1, dropout: float = 0.2
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
