"""Batches of unequal lengths: which frames belong to an item, and operations that see no others.

With these a network gives the same estimate for an item alone and for the same item padded to the length of a longer
one. Everywhere `n_frames` is (batch,) int64, the frames of each item; None means that all frames of all items count.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def frame_mask(n_frames: Tensor, size: int) -> Tensor:
    """Mark the frames of each item: (batch,) -> (batch, size) bool.

    >>> frame_mask(torch.tensor([1, 3]), 3)
    tensor([[ True, False, False],
            [ True,  True,  True]])
    """
    return torch.arange(size, device=n_frames.device) < n_frames[:, None]


def check_lengths(lengths: Tensor, mixture: Tensor) -> None:
    """Require lengths as (batch,) integers; their values are not read, which would wait for the device."""
    if lengths.shape != mixture.shape[:1] or lengths.is_floating_point():
        raise ValueError(
            f"lengths must be ({len(mixture)},) integers, one per item of the mixture {tuple(mixture.shape)}, "
            f"got {tuple(lengths.shape)} {lengths.dtype}"
        )


def global_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, valid: Tensor | None = None) -> Tensor:
    """Normalise by mean and variance over all that is valid of an item; gain and bias per channel. float32 inside.

    Args:
        x: (batch, channels, ...).
        weight: (channels,).
        bias: (channels,).
        eps: added to the variance.
        valid: bool, broadcasts to (batch, 1, ...); None counts everything.

    Returns:
        as x, zero where not valid.
    """
    x32 = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if valid is None:
        return F.group_norm(x32, 1, weight, bias, eps).to(x.dtype)
    axes = tuple(range(1, x.ndim))
    x32 = x32.masked_fill(~valid, 0)
    count = valid.expand(x.shape[0], 1, *x.shape[2:]).sum(axes, keepdim=True) * x.shape[1]
    centred = (x32 - x32.sum(axes, keepdim=True) / count).masked_fill(~valid, 0)
    scale = torch.rsqrt(centred.square().sum(axes, keepdim=True) / count + eps)
    affine = (-1, *[1] * (x.ndim - 2))
    y = centred * scale * weight.view(affine) + bias.view(affine)
    return y.masked_fill(~valid, 0).to(x.dtype)


def flip_frames(x: Tensor, n_frames: Tensor | None, dim: int) -> Tensor:
    """Reverse the order of each item's own frames along `dim`; the padding stays at the end. Its own inverse.

    x: (batch, ...), with `n_frames` (batch,).
    """
    if n_frames is None:
        return x.flip(dim)
    dim = dim % x.ndim
    position = torch.arange(x.shape[dim], device=x.device)
    source = torch.where(position < n_frames[:, None], n_frames[:, None] - 1 - position, position)
    shape = [1] * x.ndim
    shape[0], shape[dim] = x.shape[0], x.shape[dim]
    return x.gather(dim, source.view(shape).expand_as(x))


def reflect_frames(x: Tensor, n_frames: Tensor, pad: tuple[int, int]) -> Tensor:
    """Pad each item by reflection at its own end. x: (batch, channels, frames) -> (batch, channels, sum of all).

    What follows an item's right padding repeats frames of it, so a convolution's results beyond `n_frames` are to be
    masked. An item needs more frames than the padding.
    """
    position = torch.arange(-pad[0], x.shape[-1] + pad[1], device=x.device).expand(x.shape[0], -1)
    last = n_frames[:, None] - 1
    source = last - (last - position.abs()).abs()  # mirrored at the first frame, then at the last
    index = source.clamp(0, x.shape[-1] - 1).unsqueeze(1).expand(-1, x.shape[1], -1)
    return x.gather(2, index)
