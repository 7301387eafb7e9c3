"""How good embeddings are without training anything on them: nearest neighbours, and how many directions they fill.

References:
    Q. Garrido, R. Balestriero, L. Najman, Y. LeCun, "RankMe: Assessing the downstream performance of pretrained
    self-supervised representations by their rank", ICML 2023, eq. 1.
    Z. Wu, Y. Xiong, S. X. Yu, D. Lin, "Unsupervised feature learning via non-parametric instance discrimination", CVPR
    2018, section 3.4: the weighted vote of the nearest neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS, TEMPERATURE = 10, 0.07
"""Of the vote, as X-ARES has them."""

_EPS = 1e-7  # of RankMe, as published


def rankme(embeddings: Tensor) -> Tensor:
    """Compute the smooth rank of a set of embeddings: the exponential of the entropy of its singular values.

    Args:
        embeddings: (n, channels).

    Returns:
        Scalar, float32, from 1 (all lie on one line through zero: collapsed) to min(n, channels).

    >>> round(float(rankme(torch.eye(4))), 3)
    4.0
    >>> round(float(rankme(torch.ones(4, 8))), 3)
    1.0
    """
    singular = torch.linalg.svdvals(embeddings.float())
    share = singular / singular.sum().clamp_min(torch.finfo(torch.float32).tiny) + _EPS
    return (-(share * share.log()).sum()).exp()


def neighbour_probabilities(
    bank: Tensor, labels: Tensor, queries: Tensor, n_classes: int, k: int = NEIGHBOURS, temperature: float = TEMPERATURE
) -> Tensor:
    """Let the k nearest of a bank vote for the class of each query.

    Nearness is the cosine of centred embeddings (the mean of the bank is taken off both): embeddings often share a
    large common part, which would make all cosines alike. A vote weighs exp(cosine / temperature).

    Args:
        bank: (n, channels) embeddings of known class.
        labels: (n,) int64, their classes.
        queries: (m, channels).
        n_classes: size of the label set.
        k: neighbours that vote; all of a smaller bank.
        temperature: of the weights.

    Returns:
        (m, n_classes) float32, rows sum to 1.

    >>> bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> neighbour_probabilities(bank, torch.tensor([0, 0, 1]), torch.tensor([[0.8, 0.1]]), 2, k=1)
    tensor([[1., 0.]])
    """
    if not len(bank):
        raise ValueError("the bank holds no embedding with a label, so that no neighbour can vote")
    mean = bank.float().mean(0)
    known, asked = (F.normalize(values.float() - mean, dim=1) for values in (bank, queries))
    nearness, places = (asked @ known.T).topk(min(k, len(known)), dim=1)
    weights = (nearness / temperature).softmax(dim=1)
    votes = torch.zeros(len(asked), n_classes, device=asked.device)
    return votes.scatter_add_(1, labels.to(asked.device)[places], weights)


def neighbour_accuracy(bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Share of queries, (m, channels) of classes ``truth`` (m,), to which their neighbours give the right class."""
    votes = neighbour_probabilities(bank, labels, queries, n_classes)
    return (votes.argmax(1) == truth.to(votes.device)).float().mean()
