"""Permutation search against torchmetrics, scipy and all permutations written out."""

from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
    signal_noise_ratio,
)

from hydraudio.losses.permutation import PermutationInvariant, least_cost_permutation, reorder
from hydraudio.losses.sdr import SASDRLoss, SISDRLoss, SNRLoss
from hydraudio.losses.stft import MultiResolutionSTFTLoss

SMALL_STFT = MultiResolutionSTFTLoss((128,), (32,), (128,))


def mixed_up(n_sources: int, batch: int = 16, time: int = 800, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Noisy targets in random order, (batch, n_sources, time) each, at different levels."""
    generator = torch.Generator().manual_seed(n_sources)
    level = 0.05 + torch.rand(batch, n_sources, 1, generator=generator)
    target = level * torch.randn(batch, n_sources, time, generator=generator)
    order = torch.stack([torch.randperm(n_sources, generator=generator) for _ in range(batch)])
    noisy = target + noise * torch.randn(batch, n_sources, time, generator=generator)
    return reorder(noisy, order), target


@pytest.mark.parametrize("n_sources", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("loss", "metric"),
    [(SISDRLoss, scale_invariant_signal_distortion_ratio), (SNRLoss, signal_noise_ratio)],
)
def test_equals_torchmetrics(n_sources, loss, metric):
    estimate, target = mixed_up(n_sources)
    value, permutation = PermutationInvariant(loss())(estimate, target)
    best_metric, best_permutation = permutation_invariant_training(
        estimate.double(), target.double(), metric, eval_func="max"
    )
    assert permutation.dtype == torch.int64
    assert torch.equal(permutation, best_permutation)
    torch.testing.assert_close(value.double(), -best_metric, atol=1e-3, rtol=0)


@pytest.mark.parametrize("n_sources", [2, 3, 4])
@pytest.mark.parametrize("loss", [SISDRLoss(), SNRLoss(), SASDRLoss(), SMALL_STFT], ids=lambda x: type(x).__name__)
def test_no_permutation_has_a_lower_loss(n_sources, loss):
    estimate, target = mixed_up(n_sources, batch=6)
    lengths = torch.tensor([800, 700, 600, 500, 400, 300])
    value, permutation = PermutationInvariant(loss)(estimate, target, lengths)
    all_values = torch.stack(
        [loss(estimate[:, list(order)], target, lengths) for order in permutations(range(n_sources))]
    )
    torch.testing.assert_close(value, all_values.amin(0))
    torch.testing.assert_close(loss(reorder(estimate, permutation), target, lengths), value)


def test_sa_sdr_and_si_sdr_may_differ_in_order():
    """A loud pair decides SA-SDR; SI-SDR counts both sources alike."""
    generator = torch.Generator().manual_seed(0)
    loud, quiet, other = torch.randn(3, 1000, generator=generator)
    target = torch.stack([10 * loud, 0.1 * quiet])[None]
    estimate = torch.stack([10 * loud + 8 * other + quiet, loud])[None]
    expected = min(
        permutations(range(2)), key=lambda order: (estimate[0, list(order)] - target[0]).square().sum().item()
    )
    _, permutation = PermutationInvariant(SASDRLoss())(estimate, target)
    assert tuple(permutation[0].tolist()) == expected == (0, 1)
    _, permutation = PermutationInvariant(SISDRLoss())(estimate, target)
    assert permutation.tolist() == [[1, 0]]


@pytest.mark.parametrize("n_sources", [2, 3, 4, 6])
def test_assignment_equals_scipy(n_sources):
    cost = torch.rand(20, n_sources, n_sources, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    permutation = least_cost_permutation(cost)
    for item, order in zip(cost, permutation, strict=True):
        rows, columns = linear_sum_assignment(item.numpy())
        assert [rows[columns.tolist().index(k)] for k in range(n_sources)] == order.tolist()


@pytest.mark.parametrize("n_sources", [2, 4])
def test_gradient_is_that_of_the_best_permutation(n_sources):
    estimate, target = mixed_up(n_sources, batch=3)
    estimate.requires_grad_()
    value, permutation = PermutationInvariant(SISDRLoss())(estimate, target)
    ours = torch.autograd.grad(value.sum(), estimate)[0]
    reference = estimate.detach().double().requires_grad_()
    ordered = torch.stack([item[order] for item, order in zip(reference, permutation, strict=True)])
    metric = scale_invariant_signal_distortion_ratio(ordered, target.double()).mean(-1)
    theirs = torch.autograd.grad(-metric.sum(), reference)[0]
    torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("n_sources", [2, 4])
def test_loss_is_accurate_at_80_db(n_sources):
    estimate, target = mixed_up(n_sources, time=8000, noise=2e-5)
    value, permutation = PermutationInvariant(SISDRLoss())(estimate, target)
    ordered = reorder(estimate, permutation).double()
    expected = -scale_invariant_signal_distortion_ratio(ordered, target.double()).mean(-1)
    assert expected.max() < -70
    torch.testing.assert_close(value.double(), expected, atol=1e-3, rtol=0)


def test_search_by_another_loss():
    estimate, target = mixed_up(2)
    loss = PermutationInvariant(SMALL_STFT, search=SISDRLoss())
    value, permutation = loss(estimate, target)
    assert torch.equal(permutation, PermutationInvariant(SISDRLoss()).best_permutation(estimate, target))
    torch.testing.assert_close(value, SMALL_STFT(reorder(estimate, permutation), target))


def test_equal_costs_keep_the_order():
    assert least_cost_permutation(torch.zeros(2, 3, 3)).tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("n_sources", [2, 4])
def test_nan_reaches_the_loss_of_its_item_only(n_sources):
    estimate, target = mixed_up(n_sources, batch=2)
    estimate[0, 0, 5] = float("nan")
    value, _ = PermutationInvariant(SISDRLoss())(estimate, target)
    assert value[0].isnan()
    assert value[1].isfinite()


def test_unequal_numbers_of_sources_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 10\).*\(1, 2, 10\)"):
        PermutationInvariant(SISDRLoss())(torch.ones(1, 3, 10), torch.ones(1, 2, 10))
