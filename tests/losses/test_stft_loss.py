"""The multi-resolution STFT loss against its equations, written with scipy."""

import numpy as np
import pytest
import scipy.signal
import torch

from hydraudio.losses.stft import MultiResolutionSTFTLoss

SMALL = {"fft_samples": (128, 256), "hop_samples": (30, 64), "window_samples": (100, 256)}


@pytest.fixture
def signals():
    generator = torch.Generator().manual_seed(0)
    target = 0.1 * torch.randn(3, 2, 3000, generator=generator)
    return target + 0.05 * torch.randn(3, 2, 3000, generator=generator), target


def magnitudes(x: np.ndarray, n_fft: int, hop: int, window: int) -> np.ndarray:
    """Frames centred on multiples of hop, zeros outside, Hann window in the middle of the transform."""
    hann = np.zeros(n_fft)
    start = (n_fft - window) // 2
    hann[start : start + window] = scipy.signal.get_window("hann", window)
    padded = np.pad(x, n_fft // 2)
    frames = [padded[i : i + n_fft] * hann for i in range(0, len(x) + 1, hop)]
    return np.sqrt(np.maximum(np.abs(np.fft.rfft(frames)) ** 2, 1e-7))


def expected(estimate: np.ndarray, target: np.ndarray, log_weight: float) -> float:
    """(time,) signals."""
    terms = []
    for resolution in zip(*SMALL.values(), strict=True):
        e, s = magnitudes(estimate, *resolution), magnitudes(target, *resolution)
        log_distance = np.abs(np.log(s) - np.log(e)).mean()
        terms.append(np.linalg.norm(s - e) / np.linalg.norm(s) + log_weight * log_distance)
    return float(np.mean(terms))


def test_equals_the_equations_on_the_cut_signals(signals):
    lengths = torch.tensor([3000, 1777, 640])
    loss = MultiResolutionSTFTLoss(**SMALL, log_weight=0.7)(*signals, lengths)
    estimate, target = (x.double().numpy() for x in signals)
    for item, length in enumerate(lengths.tolist()):
        reference = np.mean([expected(estimate[item, k, :length], target[item, k, :length], 0.7) for k in (0, 1)])
        assert loss[item].item() == pytest.approx(reference, rel=1e-4)


def test_no_lengths_means_all_samples(signals):
    loss = MultiResolutionSTFTLoss(**SMALL)
    torch.testing.assert_close(loss(*signals), loss(*signals, torch.full((3,), 3000)))


def test_padding_does_not_matter(signals):
    lengths = torch.tensor([3000, 1777, 640])
    loss = MultiResolutionSTFTLoss(**SMALL)
    estimate, target = signals
    garbage = estimate.clone()
    garbage[1, :, 1777:] = float("nan")
    torch.testing.assert_close(loss(garbage, target, lengths), loss(estimate, target, lengths))


def test_pairwise_equals_one_to_one(signals):
    estimate, target = signals
    lengths = torch.tensor([3000, 1777, 640])
    loss = MultiResolutionSTFTLoss(**SMALL)
    matrix = loss.pairwise(estimate, target, lengths)
    for i in range(2):
        for j in range(2):
            pair = loss(estimate[:, i : i + 1], target[:, j : j + 1], lengths)
            torch.testing.assert_close(matrix[:, i, j], pair)


@pytest.mark.parametrize("case", ["silent estimate", "silent target", "both silent", "perfect"])
def test_degenerate_inputs_have_finite_values_and_gradients(signals, case):
    estimate, target = signals
    if case in ("silent target", "both silent"):
        target = torch.zeros_like(target)
    if case in ("silent estimate", "both silent"):
        estimate = torch.zeros_like(estimate)
    if case == "perfect":
        estimate = target.clone()
    estimate.requires_grad_()
    loss = MultiResolutionSTFTLoss(**SMALL)(estimate, target)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert estimate.grad.isfinite().all()
    if case in ("both silent", "perfect"):
        assert loss.abs().max() == 0


def test_computes_in_float32_under_autocast(signals):
    loss = MultiResolutionSTFTLoss(**SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*signals)
    torch.testing.assert_close(value, loss(*signals))
    half = loss(signals[0].half(), signals[1].half())
    assert half.dtype == torch.float32


def test_wrong_resolutions_are_refused():
    with pytest.raises(ValueError, match="one entry per resolution"):
        MultiResolutionSTFTLoss(fft_samples=(512,))
    with pytest.raises(ValueError, match="window 300, fft 256"):
        MultiResolutionSTFTLoss((256,), (64,), (300,))
