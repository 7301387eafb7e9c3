"""Short-time Fourier transform and its inverse for networks that estimate spectra.

Allen & Rabiner, "A unified approach to short-time Fourier analysis and synthesis", Proc. IEEE 65(11), 1977; the
inverse is the least-squares one of Griffin & Lim, IEEE TASSP 32(2), 1984. The values are those of `torch.stft` and
`torch.istft` with a periodic Hann window and `center=True`, but real and imaginary part are separate, signals may be
shorter than the window, items of a padded batch give what they give alone, and the graph exports to ONNX, which has no
`istft`. Always in float32 (or float64), also under autocast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import at_least_float32


def check_stft(n_fft: int, hop: int) -> None:
    """Raise ValueError for a window and a hop with which the inverse is not defined for every sample."""
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"n_fft={n_fft} must be even and at least 2")
    if not 1 <= hop <= n_fft // 2:
        raise ValueError(f"hop={hop} must be between 1 and n_fft // 2 = {n_fft // 2}, so that windows overlap")


def stft(waveform: Tensor, n_fft: int, hop: int, lengths: Tensor | None = None) -> Tensor:
    """Compute the spectrum of `time // hop + 1` frames, each centred on a multiple of `hop`; the ends are reflected.

    Args:
        waveform: (batch, time), from 1 sample.
        n_fft: window length in samples, even.
        hop: between frames, in samples.
        lengths: (batch,) samples of each item where the batch is padded. An item then is reflected at its own end and
            frames after its own `lengths // hop + 1` are zero.

    Returns:
        (batch, 2, frames, n_fft // 2 + 1), real and imaginary part.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum = _spectra(_reflect_ends(at_least_float32(waveform), n_fft // 2, lengths), n_fft, hop)
        if lengths is not None:
            spectrum = spectrum.masked_fill(~frame_mask(lengths // hop + 1, spectrum.shape[1])[:, :, None, None], 0)
        return spectrum.permute(0, 3, 1, 2)


def power_spectrogram(waveform: Tensor, n_fft: int, hop: int, n_frames: int, lengths: Tensor | None = None) -> Tensor:
    """Compute the power of the first `n_frames` frames of :func:`stft`.

    Frames after an item's own hold what its reflected end gives.

    Returns:
        (batch, n_frames, n_fft // 2 + 1)
    """
    padded = _reflect_ends(at_least_float32(waveform), n_fft // 2, lengths)
    return power(_spectra(padded[:, : (n_frames - 1) * hop + n_fft], n_fft, hop))


def power(spectrum: Tensor) -> Tensor:
    """Sum the squares of real and imaginary part along the last axis; `sum` is slow over so few."""
    real, imaginary = spectrum.unbind(-1)
    return real * real + imaginary * imaginary


def _spectra(padded: Tensor, n_fft: int, hop: int) -> Tensor:
    """(batch, time) -> (batch, frames, n_fft // 2 + 1, 2), real and imaginary part under a Hann window."""
    if torch.compiler.is_exporting() and n_fft & (n_fft - 1):
        return _spectra_by_product(padded.unfold(1, n_fft, hop) * _window(n_fft, padded))
    return torch.view_as_real(frame_spectra(padded, n_fft, hop, n_fft))


def frame_spectra(waveform: Tensor, n_fft: int, hop: int, window_samples: int) -> Tensor:
    """Complex spectra of the frames that lie within the waveform, under a Hann window in the middle of each.

    (batch, time) -> (batch, 1 + (time - n_fft) // hop, n_fft // 2 + 1)
    """
    window = _window(window_samples, waveform)
    before = (n_fft - window_samples) // 2
    window = F.pad(window, (before, n_fft - window_samples - before))
    return torch.fft.rfft(waveform.unfold(1, n_fft, hop) * window)


def _spectra_by_product(frames: Tensor) -> Tensor:
    """Real and imaginary part of the spectra of frames of any length, by one product of matrices.

    onnxruntime's transform is wrong by 2e-5 of the peak and more where the length is not a power of two.

    (batch, frames, n_fft) -> (batch, frames, n_fft // 2 + 1, 2)
    """
    n_fft = frames.shape[-1]
    sample = torch.arange(n_fft, device=frames.device)
    turns = torch.outer(sample, sample[: n_fft // 2 + 1]).remainder(n_fft).to(torch.float64) / n_fft
    angle = 2 * torch.pi * turns
    return (frames @ torch.stack([angle.cos(), -angle.sin()], -1).to(frames.dtype).flatten(1)).unflatten(-1, (-1, 2))


def istft(spectrum: Tensor, n_samples: int, n_fft: int, hop: int, lengths: Tensor | None = None) -> Tensor:
    """Find the waveform whose spectrum is nearest to `spectrum` in the least-squares sense; the inverse of `stft`.

    Args:
        spectrum: (batch, channels, 2, frames, n_fft // 2 + 1), with frames = n_samples // hop + 1.
        n_samples: of the waveform.
        n_fft: as in `stft`.
        hop: as in `stft`.
        lengths: (batch,) samples of each item where the batch is padded; frames after an item's own do not count.

    Returns:
        (batch, channels, n_samples), zero after an item's length.

    >>> waveform = torch.randn(2, 1000)
    >>> spectrum = stft(waveform, n_fft=256, hop=64)
    >>> spectrum.shape
    torch.Size([2, 2, 16, 129])
    >>> restored = istft(spectrum.unsqueeze(1), n_samples=1000, n_fft=256, hop=64).squeeze(1)
    >>> torch.allclose(restored, waveform, atol=1e-5)
    True
    """
    with torch.autocast(spectrum.device.type, enabled=False):
        real, imaginary = at_least_float32(spectrum).flatten(0, 1).unbind(1)
        frames = torch.fft.irfft(torch.complex(real, imaginary), n=n_fft)
        window = _window(n_fft, frames)
        weight = window.square().expand(1, *frames.shape[1:])
        frames = frames * window
        if lengths is not None:
            valid = frame_mask(lengths // hop + 1, frames.shape[1]).unsqueeze(-1)
            weight = weight * valid
            frames = (frames.unflatten(0, spectrum.shape[:2]) * valid.unsqueeze(1)).flatten(0, 1)
        kept = slice(n_fft // 2, n_fft // 2 + n_samples)
        waveform = _overlap_add(frames, hop)[:, kept].unflatten(0, spectrum.shape[:2])
        envelope = _overlap_add(weight, hop)[:, kept].unsqueeze(1)
        if lengths is None:
            return waveform / envelope
        outside = ~frame_mask(lengths, n_samples).unsqueeze(1)
        return (waveform / envelope.masked_fill(outside, 1)).masked_fill(outside, 0)


def root_mean_square(waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Measure the level of each item; of silence it is zero, and so is its gradient.

    waveform: (batch, time), zero after an item's length -> (batch, 1)
    """
    n_samples = waveform.shape[1] if lengths is None else lengths.unsqueeze(1)
    power = waveform.square().sum(1, keepdim=True) / n_samples
    return torch.where(power > 0, power, 1).sqrt() * (power > 0)


def _window(n_fft: int, like: Tensor) -> Tensor:
    return torch.hann_window(n_fft, dtype=like.dtype, device=like.device)


def _reflect_ends(waveform: Tensor, margin: int, lengths: Tensor | None) -> Tensor:
    """`margin` reflected samples before and after each item, as often back and forth as a short one needs.

    (batch, time) -> (batch, time + 2 margin)
    """
    n_samples = waveform.shape[1]
    position = torch.arange(-margin, n_samples + margin, device=waveform.device)
    if lengths is None:
        return waveform.index_select(1, _reflected(position, torch.full_like(position, n_samples - 1)))
    return waveform.gather(1, _reflected(position.expand(len(waveform), -1), lengths.long().unsqueeze(1) - 1))


def _reflected(position: Tensor, last: Tensor) -> Tensor:
    """Where a signal over 0, ..., last has the sample for `position`; a signal of one sample has it everywhere."""
    period = (2 * last).clamp_min(1)
    around = position.remainder(period)
    return torch.minimum(around, period - around)


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(batch, frames, n_fft) -> (batch, (frames - 1) hop + n_fft)"""
    n_frames, n_fft = frames.shape[1:]
    size = (1, (n_frames - 1) * hop + n_fft)
    return F.fold(frames.transpose(1, 2), size, (1, n_fft), stride=(1, hop))[:, 0, 0]
