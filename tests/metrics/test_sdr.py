"""SI-SDR, SNR and SA-SDR against the plain equations in float64, torchmetrics and fast_bss_eval."""

import fast_bss_eval
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    signal_noise_ratio,
    source_aggregated_signal_distortion_ratio,
)

from hydraudio.metrics.sdr import (
    MAX_DB,
    pairwise_residual_energy,
    pairwise_si_sdr,
    pairwise_snr,
    sa_sdr,
    si_sdr,
    snr,
)

ALL = (si_sdr, snr, sa_sdr)
PAIRWISE = (pairwise_si_sdr, pairwise_snr)


def signals(noise_db: float = -10.0, batch: int = 3, n_sources: int = 2, time: int = 4000) -> tuple[Tensor, Tensor]:
    """Estimate and target (batch, n_sources, time): rms 0.1 and 0.05, offset 0.02, noise at noise_db."""
    generator = torch.Generator().manual_seed(1)
    target = 0.1 * torch.randn(batch, n_sources, time, generator=generator) + 0.02
    noise = 0.1 * torch.randn(batch, n_sources, time, generator=generator)
    return 0.5 * (target + 10 ** (noise_db / 20) * noise), target


def plain(name: str, estimate: Tensor, target: Tensor, zero_mean: bool) -> Tensor:
    """The textbook equations without any safety."""
    if zero_mean:
        estimate = estimate - estimate.mean(-1, keepdim=True)
        target = target - target.mean(-1, keepdim=True)
    if name == "si_sdr":
        scale = (estimate * target).sum(-1, keepdim=True) / (target**2).sum(-1, keepdim=True)
        target = scale * target
    signal, residual = (target**2).sum(-1), ((target - estimate) ** 2).sum(-1)
    if name == "sa_sdr":
        signal, residual = signal.sum(-1), residual.sum(-1)
    return 10 * torch.log10(signal / residual)


def gradient(value: Tensor, estimate: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), estimate)[0]


@pytest.mark.parametrize("zero_mean", [False, True])
@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_values_and_gradients_equal_the_plain_equations(function, zero_mean):
    estimate, target = signals()
    estimate.requires_grad_()
    reference = estimate.detach().double().requires_grad_()
    ours = function(estimate, target, zero_mean=zero_mean)
    theirs = plain(function.__name__, reference, target.double(), zero_mean)
    torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(gradient(ours, estimate).double(), gradient(theirs, reference), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_values_and_gradients_equal_torchmetrics(zero_mean):
    estimate, target = (x.double() for x in signals())
    estimate.requires_grad_()
    pairs = [
        (si_sdr, scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=zero_mean)),
        (snr, signal_noise_ratio(estimate, target, zero_mean=zero_mean)),
        (
            sa_sdr,
            source_aggregated_signal_distortion_ratio(estimate, target, scale_invariant=False, zero_mean=zero_mean),
        ),
    ]
    for function, theirs in pairs:
        ours = function(estimate, target, zero_mean=zero_mean)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
        torch.testing.assert_close(gradient(ours, estimate), gradient(theirs, estimate), atol=1e-8, rtol=1e-6)
        in_float32 = function(estimate.float(), target.float(), zero_mean=zero_mean)
        torch.testing.assert_close(in_float32.double(), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_si_sdr_equals_fast_bss_eval(zero_mean):
    estimate, target = signals()
    theirs = fast_bss_eval.si_sdr(target.double(), estimate.double(), zero_mean=zero_mean)
    torch.testing.assert_close(si_sdr(estimate, target, zero_mean=zero_mean).double(), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("ratio_db", [-40, 0, 40, 60, 80, 95])
def test_accurate_at_high_ratios_in_float32(ratio_db):
    estimate, target = signals(noise_db=-ratio_db, time=32000)
    expected = plain("si_sdr", estimate.double(), target.double(), False)
    assert abs(expected - ratio_db).max() < 15
    torch.testing.assert_close(si_sdr(estimate, target).double(), expected, atol=1e-3, rtol=0)
    pairwise = pairwise_si_sdr(estimate, target).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(pairwise, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_pairwise_equals_one_to_one_for_every_pair(zero_mean):
    estimate, target = signals(n_sources=3)
    estimate = estimate + 0.3 * target.roll(1, dims=1)
    estimate, target = estimate[:, :2], target
    for function, pairwise in ((si_sdr, pairwise_si_sdr), (snr, pairwise_snr)):
        matrix = pairwise(estimate, target, zero_mean=zero_mean)
        assert matrix.shape == (3, 2, 3)
        for i in range(2):
            for j in range(3):
                pair = function(estimate[:, i : i + 1], target[:, j : j + 1], zero_mean=zero_mean)[:, 0]
                torch.testing.assert_close(matrix[:, i, j].float(), pair, atol=1e-4, rtol=0)


def test_pairwise_residual_energy():
    estimate, target = signals()
    expected = (estimate.double()[:, :, None] - target.double()[:, None]).square().sum(-1)
    torch.testing.assert_close(pairwise_residual_energy(estimate, target), expected)


@pytest.mark.parametrize("zero_mean", [False, True])
@pytest.mark.parametrize("function", ALL + PAIRWISE, ids=lambda f: f.__name__)
def test_masked_equals_cut(function, zero_mean):
    estimate, target = signals()
    lengths = torch.tensor([4000, 1234, 1])
    garbage = estimate.clone()
    garbage[1, :, 1234:] = float("nan")
    garbage[2, :, 1:] = 1e9
    masked = function(garbage, target, lengths, zero_mean=zero_mean)
    for item, length in enumerate(lengths.tolist()):
        cut = function(estimate[item : item + 1, :, :length], target[item : item + 1, :, :length], zero_mean=zero_mean)
        torch.testing.assert_close(masked[item : item + 1], cut, atol=1e-4, rtol=0)


@pytest.mark.parametrize("function", ALL + PAIRWISE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("level", [1e-3, 1e-8, 1e-12, 1e6])
def test_common_level_does_not_matter(function, level):
    estimate, target = signals()
    torch.testing.assert_close(
        function(level * estimate, level * target), function(estimate, target), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("level", [1e-10, 1e8])
def test_si_sdr_ignores_the_level_of_the_estimate(level):
    estimate, target = signals()
    torch.testing.assert_close(si_sdr(level * estimate, target), si_sdr(estimate, target), atol=1e-3, rtol=0)


@pytest.mark.parametrize("function", ALL + PAIRWISE, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("case", "expected_db"),
    [("silent target", -MAX_DB), ("silent estimate", None), ("both silent", -MAX_DB), ("perfect", MAX_DB)],
)
def test_degenerate_inputs(function, case, expected_db):
    estimate, target = signals(n_sources=1)
    if case == "perfect":
        estimate = target.clone()
    if "silent" in case and case != "silent target":
        estimate = torch.zeros_like(estimate)
    if case in ("silent target", "both silent"):
        target = torch.zeros_like(target)
    if expected_db is None:
        expected_db = -MAX_DB if "si_sdr" in function.__name__ else 0.0
    estimate.requires_grad_()
    value = function(estimate, target)
    tolerance_db = 2.0 if case == "perfect" and function in PAIRWISE else 1e-3  # rounding of the Gram matrix
    torch.testing.assert_close(value, torch.full_like(value, expected_db), atol=tolerance_db, rtol=0)
    assert gradient(value, estimate).isfinite().all()


def test_one_silent_target_does_not_disturb_sa_sdr():
    estimate, target = signals()
    target[:, 1] = 0
    expected = plain("sa_sdr", estimate.double(), target.double(), False)
    torch.testing.assert_close(sa_sdr(estimate, target).double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_nan_is_not_hidden(function):
    estimate, target = signals()
    estimate[1, :, 7] = float("nan")
    assert function(estimate, target)[1].isnan().all()
    assert function(estimate, target)[[0, 2]].isfinite().all()


@pytest.mark.parametrize("function", ALL + PAIRWISE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_inputs_are_computed_in_float32(function, dtype):
    """Quiet half-precision signals: arithmetic in their own type would be off by decibels."""
    estimate, target = (0.01 * x for x in signals(noise_db=-20))
    estimate, target = estimate.to(dtype), target.to(dtype)
    expected = function(estimate.double(), target.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(estimate, target)
    torch.testing.assert_close(value.double(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_shape_errors_name_the_shapes(function):
    with pytest.raises(ValueError, match=r"\(2, 1, 8\).*\(2, 2, 8\)"):
        function(torch.ones(2, 1, 8), torch.ones(2, 2, 8))
    with pytest.raises(ValueError, match="lengths"):
        function(torch.ones(2, 1, 8), torch.ones(2, 1, 8), torch.tensor([[8], [8]]))
    with pytest.raises(ValueError, match="batch, n_sources, time"):
        function(torch.ones(2, 8), torch.ones(2, 8))
