import pytest
import torch

from hydraudio.losses.sdr import SASDRLoss, SISDRLoss, SNRLoss
from hydraudio.metrics import sdr

LOSSES = [(SISDRLoss, sdr.si_sdr), (SNRLoss, sdr.snr), (SASDRLoss, sdr.sa_sdr)]


@pytest.fixture
def signals():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(4, 2, 2000, generator=generator) + 0.1
    noise_level = torch.tensor([1.0, 0.3, 0.1, 0.01]).view(4, 1, 1)
    return target + noise_level * torch.randn(4, 2, 2000, generator=generator), target


@pytest.mark.parametrize(("loss", "metric"), LOSSES)
@pytest.mark.parametrize("zero_mean", [False, True])
def test_loss_is_the_negative_metric_per_item(signals, loss, metric, zero_mean):
    lengths = torch.tensor([2000, 1500, 20, 1999])
    value = metric(*signals, lengths, zero_mean)
    expected = -value if value.ndim == 1 else -value.mean(-1)
    torch.testing.assert_close(loss(zero_mean=zero_mean)(*signals, lengths), expected)


@pytest.mark.parametrize(("loss", "metric"), LOSSES)
def test_threshold_takes_the_gradient_of_good_items_only(signals, loss, metric):
    estimate, target = signals
    estimate.requires_grad_()
    value = loss(threshold_db=15.0)(estimate, target)
    value.sum().backward()
    has_gradient = estimate.grad.abs().amax(dim=(1, 2)) > 0
    assert has_gradient.tolist() == [True, True, False, False]
    plain = loss()(estimate, target)
    torch.testing.assert_close(value, torch.where(has_gradient, plain, torch.tensor(-15.0)))


@pytest.mark.parametrize(("loss", "metric"), LOSSES)
@pytest.mark.parametrize("case", ["silent estimate", "silent target", "perfect"])
def test_gradients_are_finite_for_degenerate_items(signals, loss, metric, case):
    estimate, target = signals
    if case == "silent target":
        target = torch.zeros_like(target)
    estimate = (target if case == "perfect" else estimate * (case != "silent estimate")).clone()
    estimate.requires_grad_()
    value = loss()(estimate, target)
    value.sum().backward()
    assert value.isfinite().all()
    assert estimate.grad.isfinite().all()
