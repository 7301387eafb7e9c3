"""RankMe and the vote of the nearest neighbours, against the definitions written another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hydraudio.tasks.pretraining.representation import neighbour_accuracy, neighbour_probabilities, rankme


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rankme_is_the_exponential_of_the_entropy_of_the_singular_values():
    x = noise(40, 12) * torch.linspace(3, 0.1, 12)
    values = np.sqrt(np.linalg.eigvalsh((x.T @ x).double().numpy()))
    share = values / values.sum()
    assert float(rankme(x)) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_rankme_of_equal_directions_is_their_number(rank):
    basis = torch.linalg.qr(noise(16, 16))[0][:, :rank]
    assert float(rankme(basis @ torch.linalg.qr(noise(16, 16, seed=1))[0][:rank])) == pytest.approx(rank, rel=1e-3)


def test_rankme_does_not_depend_on_the_level():
    x = noise(20, 8)
    assert float(rankme(1000 * x)) == pytest.approx(float(rankme(x)), rel=1e-4)


def test_rankme_of_nothing_is_a_number():
    assert torch.isfinite(rankme(torch.zeros(4, 8)))


def test_votes_are_those_of_a_loop():
    bank, queries = noise(30, 6), noise(7, 6, seed=1)
    labels = torch.randint(4, (30,), generator=torch.Generator().manual_seed(2))
    found = neighbour_probabilities(bank, labels, queries, 4, k=5, temperature=0.2)
    mean = bank.mean(0)
    for query, votes in zip(queries - mean, found, strict=True):
        cosines = ((bank - mean) @ query) / ((bank - mean).norm(dim=1) * query.norm())
        nearest = cosines.argsort(descending=True)[:5]
        expected = torch.zeros(4)
        for place in nearest:
            expected[labels[place]] += torch.exp(cosines[place] / 0.2)
        assert torch.allclose(votes, expected / expected.sum(), atol=1e-6)


def test_a_common_part_of_all_embeddings_does_not_matter():
    bank, queries, labels = noise(30, 6), noise(5, 6, seed=1), torch.arange(30) % 3
    plain = neighbour_probabilities(bank, labels, queries, 3)
    assert torch.allclose(plain, neighbour_probabilities(bank + 50, labels, queries + 50, 3), atol=1e-3)


def test_accuracy_counts_right_votes_and_a_small_bank_votes_whole():
    bank = torch.eye(3)
    queries = torch.eye(3) + 0.1
    assert float(neighbour_accuracy(bank, torch.tensor([0, 1, 2]), queries, torch.tensor([0, 1, 1]), 3)) == (
        pytest.approx(2 / 3)
    )


def test_an_empty_bank_is_answered():
    with pytest.raises(ValueError, match="no embedding with a label"):
        neighbour_probabilities(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(1, 3), 2)
