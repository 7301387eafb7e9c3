"""The mask net of dual-path networks: long sequences as overlapped chunks, modelled within and across chunks in turn.

Luo, Chen & Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain single-channel speech
separation", ICASSP 2020, section 2. DPRNN, SepFormer and DPMamba differ in the two blocks alone. Padding, chunks and
the order of the layers are as in SpeechBrain's Dual_Path_Model, so that its weights fit.

A block is a module `block(x, n_steps=None)`, such as `hydraudio.nn.layers.transformer.TransformerEncoder`:

- x: (sequences, steps, dim), in any memory layout. Intra block: one sequence per chunk, steps are the frames of the
  chunk. Inter block: one sequence per item and position in the chunk, steps are the chunks of the item.
- n_steps: (sequences,) int64, the first steps of each sequence that count, at least 2; later steps must not change
  the output of these, and what the block returns for them is ignored (but must be finite). None: all steps count.
  Only inter blocks are ever given one: a chunk counts as a whole or not at all.
- returns the same shape. It has no residual path around it of its own: the frame adds what `DualPathLayer` says.
"""

from collections.abc import Callable
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_choice
from hydraudio.nn.layers import elementary
from hydraudio.nn.layers.elementary import Linear, PReLU
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import at_least_float32

DUAL_PATH_NORMS = ("gLN", "cLN")

BlockFactory = Callable[[], nn.Module]
Count = TypeVar("Count", int, Tensor)


class ChannelsLastNorm(nn.Module):
    """Normalisation of (batch, ..., channels); gain and bias per channel, statistics in float32.

    Args:
        name: "gLN" (mean and variance over everything of an item) or "cLN" (over the channels of each position).
        n_channels: size of the last axis.
        eps: added to the variance.
    """

    def __init__(self, name: str, n_channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.name = check_choice("norm", name, DUAL_PATH_NORMS)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """valid: bool, broadcasts to (batch, ..., 1); what is not valid does not count and becomes zero."""
        if self.name == "gLN" and valid is None and elementary.prefers_channels_last(x):
            return elementary.global_layer_norm(x.flatten(1, -2), self.weight, self.bias, self.eps).view(x.shape)
        x32 = at_least_float32(x)
        if self.name == "cLN":
            y = F.layer_norm(x32, x.shape[-1:], self.weight, self.bias, self.eps)
        else:
            y = torch.addcmul(self.bias.to(x32.dtype), self._standardised(x32, valid), self.weight.to(x32.dtype))
        return (y if valid is None else y.masked_fill(~valid, 0)).to(x.dtype)

    def _standardised(self, x: Tensor, valid: Tensor | None) -> Tensor:
        axes = tuple(range(1, x.ndim))
        if valid is None:
            centred = x - x.mean(axes, keepdim=True)  # var_mean is exported with the wrong count
            return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + self.eps)
        x = x.masked_fill(~valid, 0)
        count = valid.expand(*x.shape[:-1], 1).sum(axes, keepdim=True) * x.shape[-1]
        centred = (x - x.sum(axes, keepdim=True) / count).masked_fill(~valid, 0)
        return centred * torch.rsqrt(centred.square().sum(axes, keepdim=True) / count + self.eps)

    def extra_repr(self) -> str:
        return f"{self.name}, {self.weight.numel()}, eps={self.eps}"


class DualPathLayer(nn.Module):
    """y = norm(intra(x)), plus x with `skip_around_intra`; output norm(inter(y)) + y.

    (batch, chunks, chunk_size, dim) -> same. `valid`: (batch, chunks, 1, 1) bool and `n_chunks`: (batch,) where items
    have unequal numbers of chunks.
    """

    def __init__(self, intra: nn.Module, inter: nn.Module, dim: int, norm: str, skip_around_intra: bool) -> None:
        super().__init__()
        self.skip_around_intra = skip_around_intra
        self.intra = intra
        self.intra_norm = ChannelsLastNorm(norm, dim)
        self.inter = inter
        self.inter_norm = ChannelsLastNorm(norm, dim)

    def forward(self, x: Tensor, n_chunks: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        batch, _, chunk_size, _ = x.shape
        y = self.intra(x.flatten(0, 1)).unflatten(0, (batch, -1))  # sequences: (batch * chunks, chunk_size, dim)
        y = self.intra_norm(y.contiguous(), valid)
        if self.skip_around_intra:
            y = y + x
        n_steps = None if n_chunks is None else n_chunks.repeat_interleave(chunk_size, output_size=batch * chunk_size)
        z = self.inter(y.transpose(1, 2).flatten(0, 1), n_steps)  # sequences: (batch * chunk_size, chunks, dim)
        z = z.unflatten(0, (batch, -1)).transpose(1, 2)  # (batch, chunks, chunk_size, dim)
        return self.inter_norm(z.contiguous(), valid) + y


class DualPathMaskNet(nn.Module):
    """Norm, chunks, dual-path layers, overlap-add, and a gated output layer that gives a mask per source.

    (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames), as `tasnet.MaskNet` says.

    Args:
        n_sources: masks.
        n_filters: channels of the features.
        dim: channels of the chunks; None: n_filters.
        intra: makes the block for the frames of a chunk (module docstring); called once per layer.
        inter: makes the block for the chunks of an item.
        n_layers: dual-path layers.
        chunk_size: frames of a chunk; chunks overlap by half.
        norm: "gLN" or "cLN", of `ChannelsLastNorm`.
        skip_around_intra: residual path around the intra block; the inter block always has one.
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int,
        *,
        dim: int | None = None,
        intra: BlockFactory,
        inter: BlockFactory,
        n_layers: int,
        chunk_size: int,
        norm: Literal["gLN", "cLN"] = "gLN",
        skip_around_intra: bool = True,
    ) -> None:
        super().__init__()
        dim = n_filters if dim is None else dim
        if chunk_size < 2:
            raise ValueError(f"chunk_size={chunk_size} leaves no half overlap; it must be at least 2")
        self.n_sources = n_sources
        self.chunk_size = chunk_size
        self.norm = ChannelsLastNorm(norm, n_filters)
        self.bottleneck = Linear(n_filters, dim, bias=False)
        self.layers = nn.ModuleList(
            DualPathLayer(intra(), inter(), dim, norm, skip_around_intra) for _ in range(n_layers)
        )
        self.prelu = PReLU()
        self.sources = Linear(dim, n_sources * dim)
        self.output = Linear(dim, dim)
        self.output_gate = Linear(dim, dim)
        self.mask = Linear(dim, n_filters, bias=False)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        n_chunks = valid_chunks = valid_frames = None
        chunks_at_most = count_chunks(features.shape[-1], self.chunk_size)
        if n_frames is not None:
            valid_frames = frame_mask(n_frames, features.shape[-1])[..., None]
            n_chunks = count_chunks(n_frames, self.chunk_size)
            valid_chunks = frame_mask(n_chunks, chunks_at_most)[..., None, None]
        x = self.bottleneck(self.norm(features.transpose(1, 2).contiguous(), valid_frames))  # (batch, frames, dim)
        x = split_into_chunks(x, self.chunk_size)  # (batch, chunks, chunk_size, dim)
        for layer in self.layers:
            x = cast(DualPathLayer, layer)(x, n_chunks, valid_chunks)
        x = overlap_add(self.prelu(x), features.shape[-1])  # (batch, frames, dim)
        # A 1x1 convolution of the chunks before overlap-add is the same, where every frame gets its bias twice.
        x = elementary.linear(x, self.sources.weight, 2 * self.sources.bias)
        x = x.unflatten(-1, (self.n_sources, -1)).transpose(1, 2)  # (batch, n_sources, frames, dim)
        x = torch.tanh(self.output(x)) * torch.sigmoid(self.output_gate(x))
        return F.relu(self.mask(x)).transpose(2, 3)  # (batch, n_sources, n_filters, frames)


def count_chunks(n_frames: Count, chunk_size: int) -> Count:
    """Count the chunks of `split_into_chunks` for so many frames, int or (batch,) -> same. They are even, from 2."""
    return 2 * ((n_frames + chunk_size // 2) // chunk_size + 1)


def split_into_chunks(x: Tensor, chunk_size: int) -> Tensor:
    """Map (batch, frames, dim) -> (batch, chunks, chunk_size, dim), half overlapped.

    chunk_size // 2 zeros come before the first frame, and after the last one as many as let every frame lie in
    exactly two chunks: the even ones cover the padded sequence from its start, the odd ones from chunk_size // 2 on.

    >>> chunks = split_into_chunks(torch.ones(1, 10, 2), chunk_size=4)
    >>> chunks.shape, bool((overlap_add(chunks, 10) == 2).all())  # every frame is in two chunks
    (torch.Size([1, 8, 4, 2]), True)
    """
    half, covered = chunk_size // 2, count_chunks(x.shape[1], chunk_size) // 2 * chunk_size
    x = F.pad(x, (0, 0, half, covered - x.shape[1]))
    even, odd = (part.unflatten(1, (-1, chunk_size)) for part in (x[:, :covered], x[:, half:]))
    return torch.stack([even, odd], dim=2).flatten(1, 2)


def overlap_add(chunks: Tensor, n_frames: int) -> Tensor:
    """Map (batch, chunks, chunk_size, dim) -> (batch, n_frames, dim): sum of the two chunks that hold a frame."""
    half = chunks.shape[2] // 2
    even, odd = chunks[:, 0::2].flatten(1, 2), chunks[:, 1::2].flatten(1, 2)
    return even[:, half : half + n_frames] + odd[:, :n_frames]
