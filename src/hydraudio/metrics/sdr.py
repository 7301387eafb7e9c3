"""Signal-to-distortion ratios in dB: SI-SDR, SNR and SA-SDR.

One convention serves losses, baselines and metrics: signals are compared as they are (``zero_mean=False``).

Definitions, with estimate e, target s and the energy E(x) = sum of x[t]**2 over the valid samples:

- SNR(e, s) = 10 log10(E(s) / E(s - e))
- SI-SDR(e, s) = 10 log10(E(a s) / E(a s - e)), a = <e, s> / E(s)
  (Le Roux, Wisdom, Erdogan, Hershey: "SDR - half-baked or well done?", ICASSP 2019, eq. 3)
- SA-SDR(e, s) = 10 log10(sum_k E(s_k) / sum_k E(s_k - e_k)) over the sources k
  (von Neumann, Kinoshita, Boeddeker, Delcroix, Haeb-Umbach: "SA-SDR: A novel loss function for separation of
  meeting style data", ICASSP 2022)

Degenerate inputs. To both energies of the ratio `EPS` times their sum is added. It is relative, so that a
value does not depend on the level, and it bounds every value to +-`MAX_DB` (138.5 dB): a perfect estimate has
+`MAX_DB`. A silent target, and for SI-SDR a silent estimate (neither has a direction), has -`MAX_DB`; for SNR
and SA-SDR a silent estimate has 0 dB. All gradients are finite, and zero in the cases that return -`MAX_DB`.
NaN and infinity in the valid samples give NaN.

Precision. Everything is computed in float32 at least, autocast or not. One-to-one ratios form the residual
sample by sample; pairwise ratios come from the float64 Gram matrix of the signals, because the float32
difference E(e) - E(a s) loses the residual above about 60 dB, and because float32 matrix products may run in
TF32.
"""

import math

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps ** 2
"""Energy of float32 rounding relative to the signal: smaller residuals are not resolved."""

MAX_DB = 10 * math.log10((1 + EPS) / EPS)

_TINY = torch.finfo(torch.float32).tiny
_SILENCE = _TINY / EPS
"""Energy up to which a signal is silent: 8e-25, an rms of 5e-15 over 4 s at 8 kHz. Above it, EPS * energy is
a normal float32 number."""

_GRAM_SAMPLES = 16384
"""Samples that are converted to float64 at a time; large temporaries cost more than the products."""


def si_sdr(estimate: Tensor, target: Tensor, lengths: Tensor | None = None, zero_mean: bool = False) -> Tensor:
    """Compute the scale-invariant SDR of source k of the estimate against source k of the target.

    Args:
        estimate: (batch, n_sources, time), any floating type
        target: (batch, n_sources, time)
        lengths: (batch,) valid samples per item; None takes all
        zero_mean: subtract each signal's mean over its valid samples first

    Returns:
        (batch, n_sources) in dB, higher is better

    >>> target = torch.tensor([[[1.0, 1.0, -1.0, -1.0]]])
    >>> estimate = 5.0 * target + torch.tensor([1.0, -1.0, 1.0, -1.0])  # the level plays no part
    >>> si_sdr(estimate, target).round(decimals=2)
    tensor([[13.9800]])
    """
    _check_same_shape(estimate, target)
    with _autocast_off(estimate):
        estimate, target = _prepare(estimate, target, lengths, zero_mean)
        target_energy = _energy(target)
        silent_target = target_energy <= _SILENCE
        product = (estimate * target).sum(-1)
        scale = product / target_energy.masked_fill(silent_target, 1.0)
        scaled_target_energy = scale * product
        residual_energy = _energy(estimate - scale.unsqueeze(-1) * target)
        silent_estimate = scaled_target_energy + residual_energy <= _SILENCE
        ratio = _ratio_db(scaled_target_energy, residual_energy)
        return ratio.masked_fill(silent_target | silent_estimate, -MAX_DB)


def snr(estimate: Tensor, target: Tensor, lengths: Tensor | None = None, zero_mean: bool = False) -> Tensor:
    """Compute the signal-to-noise ratio of source k of the estimate against source k of the target; it sees the level.

    Arguments and result as in `si_sdr`: (batch, n_sources) in dB, higher is better.
    """
    _check_same_shape(estimate, target)
    with _autocast_off(estimate):
        estimate, target = _prepare(estimate, target, lengths, zero_mean)
        target_energy = _energy(target)
        ratio = _ratio_db(target_energy, _energy(target - estimate))
        return ratio.masked_fill(target_energy <= _SILENCE, -MAX_DB)


def sa_sdr(estimate: Tensor, target: Tensor, lengths: Tensor | None = None, zero_mean: bool = False) -> Tensor:
    """Compute the source-aggregated SDR: one ratio for all sources, defined unless all targets are silent.

    Arguments as in `si_sdr`.

    Returns:
        (batch,) in dB, higher is better
    """
    _check_same_shape(estimate, target)
    with _autocast_off(estimate):
        estimate, target = _prepare(estimate, target, lengths, zero_mean)
        target_energy = _energy(target).sum(-1)
        ratio = _ratio_db(target_energy, _energy(target - estimate).sum(-1))
        return ratio.masked_fill(target_energy <= _SILENCE, -MAX_DB)


def pairwise_si_sdr(estimate: Tensor, target: Tensor, lengths: Tensor | None = None, zero_mean: bool = False) -> Tensor:
    """Compute the SI-SDR of every estimate against every target.

    Args:
        estimate: (batch, n_estimates, time)
        target: (batch, n_targets, time)
        lengths: (batch,) valid samples per item; None takes all
        zero_mean: subtract each signal's mean over its valid samples first

    Returns:
        (batch, n_estimates, n_targets) in dB, float64 (float32 on MPS, which has no float64)

    >>> sources = torch.tensor([[[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]])
    >>> pairwise_si_sdr(sources.flip(1), sources) > 0  # estimate 0 belongs to target 1
    tensor([[[False,  True],
             [ True, False]]])
    """
    with _autocast_off(estimate):
        estimate_energy, target_energy, product = _gram(*_prepare(estimate, target, lengths, zero_mean))
        silent = (target_energy <= _SILENCE) | (estimate_energy <= _SILENCE)
        projected_energy = product.square() / target_energy.masked_fill(silent, 1.0)
        residual_energy = (estimate_energy - projected_energy).clamp_min(0.0)
        return _ratio_db(projected_energy, residual_energy).masked_fill(silent, -MAX_DB)


def pairwise_snr(estimate: Tensor, target: Tensor, lengths: Tensor | None = None, zero_mean: bool = False) -> Tensor:
    """Compute the SNR of every estimate against every target; arguments and result as in `pairwise_si_sdr`."""
    with _autocast_off(estimate):
        estimate_energy, target_energy, product = _gram(*_prepare(estimate, target, lengths, zero_mean))
        residual_energy = (estimate_energy + target_energy - 2 * product).clamp_min(0.0)
        silent = (target_energy <= _SILENCE).expand_as(product)
        return _ratio_db(target_energy, residual_energy).masked_fill(silent, -MAX_DB)


def pairwise_residual_energy(
    estimate: Tensor, target: Tensor, lengths: Tensor | None = None, zero_mean: bool = False
) -> Tensor:
    """Compute the energy of (target - estimate) for every pair; the assignment of least sum has the highest SA-SDR.

    Arguments as in `pairwise_si_sdr`; result (batch, n_estimates, n_targets), an energy.
    """
    with _autocast_off(estimate):
        estimate_energy, target_energy, product = _gram(*_prepare(estimate, target, lengths, zero_mean))
        return (estimate_energy + target_energy - 2 * product).clamp_min(0.0)


def _check_same_shape(estimate: Tensor, target: Tensor) -> None:
    if estimate.shape != target.shape:
        raise ValueError(
            f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape; "
            "both must be (batch, n_sources, time)"
        )


def _autocast_off(tensor: Tensor) -> torch.autocast:
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def _prepare(estimate: Tensor, target: Tensor, lengths: Tensor | None, zero_mean: bool) -> tuple[Tensor, Tensor]:
    """Check, cast to float32 or better, zero what is not valid and, if asked, remove the means."""
    same_axes = estimate.ndim == 3 and target.ndim == 3 and estimate.shape[::2] == target.shape[::2]
    if not same_axes or (lengths is not None and lengths.shape != estimate.shape[:1]):
        raise ValueError(
            "expected estimate and target as (batch, n_sources, time) and lengths as (batch,), found "
            f"{tuple(estimate.shape)}, {tuple(target.shape)} and "
            f"{None if lengths is None else tuple(lengths.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), torch.float32)
    samples = torch.arange(estimate.shape[-1], device=estimate.device)
    valid = None if lengths is None else samples < lengths.view(-1, 1, 1)
    estimate, target = estimate.to(dtype), target.to(dtype)
    return _mask(estimate, valid, zero_mean), _mask(target, valid, zero_mean)


def _mask(signal: Tensor, valid: Tensor | None, zero_mean: bool) -> Tensor:
    if valid is None:
        return signal - signal.mean(-1, keepdim=True) if zero_mean else signal
    signal = signal.masked_fill(~valid, 0.0)
    if not zero_mean:
        return signal
    mean = signal.sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp_min(1)
    return (signal - mean).masked_fill(~valid, 0.0)


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(-1)


def _gram(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energies (batch, n_estimates, 1), (batch, 1, n_targets), products (batch, n_estimates, n_targets)."""
    dtype = widest_float(estimate.device)
    parts = zip(estimate.split(_GRAM_SAMPLES, -1), target.split(_GRAM_SAMPLES, -1), strict=True)
    sums = [_gram_part(estimate_part.to(dtype), target_part.to(dtype)) for estimate_part, target_part in parts]
    estimate_energy, target_energy, product = (torch.stack(part).sum(0) for part in zip(*sums, strict=True))
    return estimate_energy.unsqueeze(2), target_energy.unsqueeze(1), product


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64; float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _gram_part(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _energy(estimate), _energy(target), torch.matmul(estimate, target.transpose(1, 2))


def _ratio_db(signal_energy: Tensor, residual_energy: Tensor) -> Tensor:
    """10 log10 of the ratio, bounded to +-MAX_DB; 0 dB with zero gradient where both energies are zero."""
    floor = EPS * (signal_energy + residual_energy) + _TINY
    return 10 * (torch.log10(signal_energy + floor) - torch.log10(residual_energy + floor))
