"""What a separation network is, and the frame of those in the time domain: encoder, mask, decoder (TasNet).

Luo & Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation", IEEE/ACM
TASLP 27(8), 2019, section II-A. DPRNN, SepFormer and others differ in the mask net alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_sizes
from hydraudio.nn.layers.masking import check_lengths, frame_mask


@runtime_checkable
class Separator(Protocol):
    """Any network of this floor: a module called as ``net(mixture)``, or ``net(mixture, lengths)`` for a padded batch.

    (batch, time) -> (batch, n_sources, time), any length.
    """

    n_sources: int


@runtime_checkable
class StreamingSeparator(Separator, Protocol):
    """A separator that can go through a recording piece by piece, where it is `causal`; see `TasNet`."""

    causal: bool

    def stream(self, chunk: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Map (batch, time), what the last call returned -> (batch, n_sources, time) that is final, the state."""

    def flush(self, state: Any) -> Tensor:
        """Return (batch, n_sources, time) that was still missing at the end of the stream."""


class MaskNet(Protocol):
    """The module between encoder and decoder: what a network of this frame adds to it."""

    def __call__(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Masks of all sources.

        Args:
            features: (batch, n_filters, frames), non-negative.
            n_frames: (batch,) frames of each item where the batch is padded; features beyond them are zero.

        Returns:
            (batch, n_sources, n_filters, frames)
        """


@runtime_checkable
class StreamingMaskNet(Protocol):
    """A mask net without a view of the future."""

    def stream(self, features: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the masks of the next frames, as the whole gives them; `state`: of the last call, None at first."""


class Encoder(nn.Module):
    """w = ReLU(x U), eq. (3): frames of `kernel_size` samples, half overlapped, to `n_filters` non-negative channels.

    (batch, time) -> (batch, n_filters, frames). Runs in the weights' precision, also under autocast: quiet
    recordings lie below what float16 resolves.
    """

    def __init__(self, n_filters: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, n_filters, kernel_size, stride=kernel_size // 2, bias=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            return F.relu(self.conv(waveform.to(self.conv.weight.dtype).unsqueeze(1)))


class Decoder(nn.Module):
    """s = (w * m) V, eq. (4)-(5): overlap-add of `kernel_size` samples per frame.

    (batch, n_sources, n_filters, frames) -> (batch, n_sources, time), precision as the encoder's.
    """

    def __init__(self, n_filters: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(n_filters, 1, kernel_size, stride=kernel_size // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            waveform = self.conv(features.to(self.conv.weight.dtype).flatten(0, 1))
        return waveform.view(features.shape[0], features.shape[1], -1)


def checked_mixture(mixture: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, time), zero after an item's length; refuses what is no batch of mixtures."""
    if mixture.ndim != 2 or mixture.shape[-1] < 1:
        raise ValueError(f"mixture must be (batch, time) with time >= 1, got {tuple(mixture.shape)}")
    if lengths is None:
        return mixture
    check_lengths(lengths, mixture)
    return mixture.masked_fill(~frame_mask(lengths, mixture.shape[-1]), 0)


@dataclass
class StreamState:
    """What a causal network keeps between the pieces of a stream.

    Attributes:
        samples: (batch, time) input that fills no frame yet.
        tail: (batch, n_sources, kernel_size - stride) output that the next frame adds to; None before the first frame.
        mask_state: of the mask net.
        n_in: samples taken.
        n_out: samples given.
    """

    samples: Tensor
    tail: Tensor | None
    mask_state: Any
    n_in: int = 0
    n_out: int = 0


class TasNet(nn.Module):
    """Encoder, mask net, decoder: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        build_mask_net: called with `n_sources` and `n_filters`.
        n_sources: estimated sources.
        n_filters: encoder filters.
        kernel_size: encoder and decoder window in samples; the hop is half of it.
    """

    causal = False
    """Whether no output depends on input more than one window later. Then the mask net is a `StreamingMaskNet`."""

    def __init__(
        self, build_mask_net: Callable[[int, int], MaskNet], *, n_sources: int, n_filters: int, kernel_size: int = 16
    ) -> None:
        super().__init__()
        check_sizes(n_sources=n_sources, n_filters=n_filters)
        if kernel_size < 2:
            raise ValueError(f"kernel_size={kernel_size} leaves no half overlap; it must be at least 2")
        self.n_sources, self.n_filters = n_sources, n_filters
        self.kernel_size, self.stride = kernel_size, kernel_size // 2
        mask_net = build_mask_net(n_sources, n_filters)
        self.encoder = Encoder(n_filters, kernel_size)
        self.mask_net = mask_net
        self.decoder = Decoder(n_filters, kernel_size)

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate mixtures of any length.

        Args:
            mixture: (batch, time), from 1 sample.
            lengths: (batch,) samples of each item where the batch is padded; None: no item is. An item's estimate
                within its length does not depend on the padding.

        Returns:
            (batch, n_sources, time)
        """
        mixture, n_samples = checked_mixture(mixture, lengths), mixture.shape[-1]
        n_frames = None if lengths is None else 1 + self._n_hops(lengths)
        features = self.encoder(self._pad_to_whole_frames(mixture))  # (batch, n_filters, frames)
        if n_frames is not None:
            features = features.masked_fill(~frame_mask(n_frames, features.shape[-1]).unsqueeze(1), 0)
        masks = self.mask_net(features, n_frames)  # (batch, n_sources, n_filters, frames)
        return self.decoder(features.unsqueeze(1) * masks)[..., :n_samples]  # (batch, n_sources, time)

    def stream(self, chunk: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        """Separate the next piece of a stream with a causal network in evaluation mode.

        All pieces and the end, which `flush` gives, are together what `forward` gives for the whole. The output lags
        behind the input by at most kernel_size - 1 samples.

        Args:
            chunk: (batch, time), any length.
            state: what the last call returned; None begins a stream.

        Returns:
            (batch, n_sources, time) of all samples that no later input can change; and the state, to be used once.
        """
        if not self.causal:
            raise ValueError(
                f"{type(self).__name__} is not causal as it is configured: every output depends on the whole "
                "recording, so it cannot be streamed"
            )
        if state is None:
            state = StreamState(chunk[:, :0], None, None)
        state.n_in += chunk.shape[-1]
        return self._stream_frames(torch.cat([state.samples, chunk], dim=-1), state)

    def flush(self, state: StreamState) -> Tensor:
        """Return (batch, n_sources, time) that was still missing at the end of a stream."""
        samples, n_out = state.samples, state.n_out
        if state.tail is None or samples.shape[-1] > self.kernel_size - self.stride:
            samples = self._pad_to_whole_frames(samples)
        estimate, state = self._stream_frames(samples, state)
        assert state.tail is not None  # there is a frame in every stream
        return torch.cat([estimate, state.tail], dim=-1)[..., : state.n_in - n_out]

    def _stream_frames(self, samples: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """All frames that `samples` fill."""
        n_frames = max(0, samples.shape[-1] - self.kernel_size + self.stride) // self.stride
        state.samples = samples[:, n_frames * self.stride :]
        if n_frames == 0:
            return samples.new_zeros(len(samples), self.n_sources, 0), state
        features = self.encoder(samples)
        assert isinstance(self.mask_net, StreamingMaskNet)  # because the network is causal
        masks, state.mask_state = self.mask_net.stream(features, state.mask_state)
        estimate = self.decoder(features.unsqueeze(1) * masks)
        if state.tail is not None:
            estimate[..., : state.tail.shape[-1]] += state.tail
        n_done = n_frames * self.stride
        state.tail = estimate[..., n_done:]
        state.n_out += n_done
        return estimate[..., :n_done], state

    def _n_hops(self, lengths: Tensor) -> Tensor:
        """(batch,) samples -> (batch,) hops until the last frame, which is padded to be full."""
        return (lengths - self.kernel_size + self.stride - 1).clamp_min(0) // self.stride

    def _pad_to_whole_frames(self, mixture: Tensor) -> Tensor:
        """Zeros at the end, so that the last frame is full and no sample is lost.

        Nothing negative is divided: ONNX rounds towards zero.
        """
        n_hops = max(0, mixture.shape[-1] - self.kernel_size + self.stride - 1) // self.stride
        return F.pad(mixture, (0, n_hops * self.stride + self.kernel_size - mixture.shape[-1]))
