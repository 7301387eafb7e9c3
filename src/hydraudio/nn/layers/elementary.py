"""Linear layers, 1x1 and depthwise convolutions, PReLU and gLN that are fast on a CPU as well.

PyTorch's own kernels are slow on a CPU exactly where separation networks spend their time: matrix products, the
backward passes of PReLU and group norm, and depthwise convolutions with a dilation. So a network is built from the
layers below, which keep the names, weights and results of PyTorch's, and compute with the functions below them where
these apply:

- Matrix products. PyTorch computes float32 products on CPUs with MKL, which takes its AVX-512 kernels on Intel
  processors alone; oneDNN takes them everywhere but is asked for convolutions only. As a 1x1 convolution of
  channels-last images a linear layer ran 2.2 times as fast as `F.linear`, forward and backward, on an AMD EPYC.
- All else. A few vectorised passes per item, so that what one pass wrote is still in the cache for the next, with the
  backward pass by hand. They work on contiguous (batch, frames, channels) features: a network of (batch, channels,
  frames) features lays them out so in memory with `channels_last`, and every layer keeps the layout.

All are deterministic: the same input gives the same bits on the same machine with the same number of threads.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from hydraudio.nn.layers.masking import reflect_frames

Segment = tuple[slice, slice, bool]
Moments = tuple[float, float]  # mean, 1 / sqrt(variance + eps)

# Of a 1x1 convolution: without effect on the result, but PyTorch gives a dilated one to oneDNN also when it runs on a
# single thread, where it would otherwise take its own implementation, which is half as fast.
NO_SLOW_PATH = 2


def prefers_channels_last(x: Tensor) -> bool:
    """Say whether the functions of this file apply: on a CPU, in full precision, not while a graph is captured."""
    capturing = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()
    full_precision = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and full_precision and not capturing


def channels_last(x: Tensor) -> Tensor:
    """Return the same (batch, channels, frames), where it is faster with the channels side by side in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2) if prefers_channels_last(x) else x


def is_channels_last(x: Tensor) -> bool:
    """Say whether (batch, channels, frames) `x` lies in memory as `channels_last` lays it, and the functions apply."""
    return x.transpose(1, 2).is_contiguous() and prefers_channels_last(x)


class Linear(nn.Linear):
    """`torch.nn.Linear` that computes with `linear`. (..., in) -> (..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Pointwise(nn.Conv1d):
    """1x1 convolution without bias. (batch, in, frames) -> (batch, out, frames)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not is_channels_last(x):
            return super().forward(x)
        return pointwise(x.transpose(1, 2), self.weight).transpose(1, 2)


class PReLU(nn.PReLU):
    """Compute max(x, 0) + slope min(x, 0) with one slope, of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return prelu(x, self.weight) if prefers_channels_last(x) else super().forward(x)


class Depthwise(nn.Conv1d):
    """Convolve each channel by itself, dilated, without bias, and keep the frames. (batch, channels, frames) -> same.

    Args:
        n_channels: channels.
        kernel_size: taps; odd unless causal.
        dilation: frames from tap to tap.
        causal: the last tap is at the present frame, else the middle one.
        reflect: mirror the frames at both ends, where there are zeros otherwise.
    """

    def __init__(self, n_channels: int, kernel_size: int, dilation: int, causal: bool, reflect: bool) -> None:
        super().__init__(n_channels, n_channels, kernel_size, dilation=dilation, groups=n_channels, bias=False)
        reach = (kernel_size - 1) * dilation
        self.pad = (reach, 0) if causal else (reach // 2, reach // 2)
        self.geometry = Geometry(dilation, self.pad[0], reflect)

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """n_frames: (batch,) where items have unequal numbers of frames; further frames of an item are zero in x."""
        if n_frames is None and is_channels_last(x):
            return depthwise(x.transpose(1, 2), self.weight, self.geometry).transpose(1, 2)
        if not self.geometry.reflect:
            padded = F.pad(x, self.pad)
        else:
            padded = F.pad(x, self.pad, "reflect") if n_frames is None else reflect_frames(x, n_frames, self.pad)
        return depthwise_conv1d(padded, self.weight, dilation=self.geometry.dilation)

    def stream(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next frames of a causal convolution; `past`: the frames before them, as returned by the last call."""
        x = F.pad(x, self.pad) if past is None else torch.cat([past, x], dim=-1)
        y = depthwise_conv1d(x, self.weight, dilation=self.geometry.dilation)
        return y, x[..., x.shape[-1] - self.pad[0] :]


def depthwise_conv1d(x: Tensor, kernel: Tensor, padding: int = 0, dilation: int = 1) -> Tensor:
    """Compute `F.conv1d` of each channel by itself; on a CPU float16 is computed in float32.

    oneDNN in torch 2.13.0 does not return from such a convolution of 16 or more taps in float16 on an Intel CPU with
    AVX-512 that has no float16 arithmetic; fewer taps, other types and dense convolutions are not concerned.
    x: (batch, channels, frames), kernel: (channels, 1, taps) -> (batch, channels, frames').
    """
    if x.device.type == "cpu" and torch.float16 in (x.dtype, _autocast_dtype()):
        with torch.autocast("cpu", enabled=False):
            y = F.conv1d(x.float(), kernel.float(), None, 1, padding, dilation, len(kernel))
        return y.to(torch.float16)
    return F.conv1d(x, kernel, None, 1, padding, dilation, len(kernel))


def _autocast_dtype() -> torch.dtype | None:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W^T + b as `F.linear`, to rounding. x: (..., in), weight: (out, in), bias: (out,) -> (..., out)."""
    if x.dtype != torch.float32 or x.ndim < 2 or not prefers_channels_last(x):
        return F.linear(x, weight, bias)
    n_rows = 1 if x.ndim == 2 else x.shape[:-2].numel()
    image = x.contiguous().view(1, n_rows, x.shape[-2], x.shape[-1]).permute(0, 3, 1, 2)
    y = F.conv2d(image, weight[..., None, None], bias, dilation=NO_SLOW_PATH)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution. x: (batch, frames, in), weight: (out, in, 1) as in `Conv1d` -> (batch, frames, out)."""
    y = F.conv2d(_image(x), weight.unsqueeze(-1), bias, dilation=NO_SLOW_PATH)
    return y.permute(0, 2, 3, 1).squeeze(1)


def _image(x: Tensor) -> Tensor:
    """(batch, frames, channels) -> (batch, channels, 1, frames), channels last in memory."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Compute max(x, 0) + slope min(x, 0) with one slope, of shape (1,)."""
    return _PReLU.apply(x, slope)


def global_layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """gLN: mean and variance over the frames and channels of each item; gain and bias (channels,)."""
    return _GlobalLayerNorm.apply(x, gain, bias, eps)


def depthwise(x: Tensor, kernel: Tensor, geometry: "Geometry") -> Tensor:
    """Convolve each channel by itself, and keep the number of frames.

    y[t, c] = sum_k kernel[c, 0, k] x[t - pad_left + k dilation, c], where frames outside x are zeros or reflected.
    x: (batch, frames, channels), kernel: (channels, 1, taps) as in `Conv1d`.
    """
    return _Depthwise.apply(x, kernel, geometry)


def temporal_block(x: Tensor, parameters: Sequence[Tensor], geometry: "Geometry", eps: float) -> Tensor:
    """Compute x + project(gLN2(prelu2(depthwise(gLN1(prelu1(expand(x))))))), as the functions above, but faster.

    For the backward pass it keeps one hidden tensor instead of six and computes the others anew, which costs less than
    the memory traffic. x: (batch, frames, channels) -> same. parameters: weight of expand, slope, gain, bias, weight
    of depthwise, slope, gain, bias, weight of project.
    """
    return _TemporalBlock.apply(x, *parameters, geometry, eps)


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        grad_x, grad_slope, scratch = torch.empty_like(x), slope.new_zeros(1), torch.empty_like(x[0])
        for g_b, x_b, out_b in zip(grad, x, grad_x, strict=True):
            grad_slope += _prelu_backward(g_b, x_b, slope, scratch, out=out_b)
        return grad_x, grad_slope


def _prelu_backward(grad: Tensor, x: Tensor, slope: Tensor, scratch: Tensor, out: Tensor) -> Tensor:
    """Write the gradient of x to `out` (may be `grad`) and return the slope's."""
    grad_slope = torch.clamp(x, max=0, out=scratch).mul_(grad).sum()
    torch.ops.aten.leaky_relu_backward.grad_input(grad, x, slope.item(), False, grad_input=out)
    return grad_slope


class _GlobalLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, ctx.moments = torch.empty_like(x), []
        for x_b, y_b in zip(x, y, strict=True):
            ctx.moments.append(_moments(x_b, eps))
            scale, shift = _affine(gain, bias, ctx.moments[-1])
            torch.addcmul(shift, x_b, scale, out=y_b)
        ctx.save_for_backward(x, gain)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, gain = ctx.saved_tensors
        grad_x, grad_affine = torch.empty_like(x), torch.zeros(2, *gain.shape, dtype=gain.dtype)
        for g_b, x_b, out_b, moments in zip(grad, x, grad_x, ctx.moments, strict=True):
            sums = torch.mul(g_b, x_b, out=out_b).sum(0), g_b.sum(0)
            factor, offset = _global_layer_norm_backward(sums, gain, moments, x_b.numel(), grad_affine)
            torch.addcmul(offset, g_b, gain * moments[1], out=out_b).add_(x_b, alpha=factor)
        return grad_x, grad_affine[0], grad_affine[1], None


def _moments(x: Tensor, eps: float) -> Moments:
    """Mean and 1 / sqrt(variance + eps) of all elements; sums per frame, then over the frames in float64."""
    mean = x.sum(-1).double().sum().item() / x.numel()
    mean_square = torch.linalg.vector_norm(x, dim=-1).double().square().sum().item() / x.numel()
    return mean, (max(mean_square - mean**2, 0.0) + eps) ** -0.5


def _affine(gain: Tensor, bias: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """gLN(x) = scale x + shift, per channel."""
    scale = gain * moments[1]
    return scale, bias - moments[0] * scale


def _global_layer_norm_backward(
    sums: tuple[Tensor, Tensor], gain: Tensor, moments: Moments, size: int, grad_affine: Tensor
) -> tuple[float, Tensor]:
    """(factor, offset) of: gradient of x = scale * grad + factor * x + offset. Adds the gradients of gain and bias.

    sums: of grad * x and of grad over the frames, (channels,) each; size: number of elements of x.
    """
    (sum_gx, sum_g), (mean, inverse_std) = sums, moments
    sum_g_centred = sum_gx - mean * sum_g
    grad_affine[0] += inverse_std * sum_g_centred
    grad_affine[1] += sum_g
    factor = -(inverse_std**3) * torch.dot(gain, sum_g_centred).item() / size
    return factor, -inverse_std / size * torch.dot(gain, sum_g) - factor * mean


class Geometry(NamedTuple):
    """Hold the geometry of a depthwise convolution that keeps the number of frames."""

    dilation: int
    pad_left: int
    reflect: bool

    def taps(self, n_frames: int, kernel_size: int) -> list[list[Segment]]:
        """For each tap the views that it connects: (frames of y, frames of x, whether the latter run backwards)."""
        offsets = (k * self.dilation - self.pad_left for k in range(kernel_size))
        return [list(_segments(n_frames, offset, self.reflect)) for offset in offsets]


def _segments(n_frames: int, offset: int, reflect: bool) -> Iterator[Segment]:
    """Where y[t] reads x[t + offset], inside x and in its reflection."""
    inside = max(n_frames - abs(offset), 0)
    if offset <= 0:
        yield slice(n_frames - inside, n_frames), slice(0, inside), False
        if reflect and offset < 0:
            yield slice(0, -offset), slice(1, 1 - offset), True
    else:
        yield slice(0, inside), slice(n_frames - inside, n_frames), False
        if reflect:
            yield slice(inside, n_frames), slice(inside - 1, n_frames - 1), True


class _Depthwise(torch.autograd.Function):
    """One multiply-add per tap, on shifted views; the backward pass runs over the same pairs of views."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.taps = geometry.taps(x.shape[1], kernel.shape[-1])
        y = torch.empty_like(x)
        for x_b, y_b in zip(x, y, strict=True):
            _depthwise_forward(x_b, _rows(kernel), ctx.taps, out=y_b)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, kernel = ctx.saved_tensors
        grad_x, scratch = torch.empty_like(x), torch.empty_like(x[0])
        grad_rows = torch.zeros_like(_rows(kernel))
        for g_b, x_b, out_b in zip(grad, x, grad_x, strict=True):
            _depthwise_backward(g_b, x_b, _rows(kernel), ctx.taps, grad_rows, scratch, out=out_b)
        return grad_x, grad_rows.T.unsqueeze(1), None


def _rows(kernel: Tensor) -> Tensor:
    """(channels, 1, taps) -> contiguous (taps, channels)."""
    return kernel[:, 0].T.contiguous()


def _depthwise_forward(x: Tensor, rows: Tensor, taps: list[list[Segment]], out: Tensor) -> Tensor:
    out.zero_()
    for row, segments in zip(rows, taps, strict=True):
        for target, source, reverse in segments:
            out[target].addcmul_(x[source].flip(0) if reverse else x[source], row)
    return out


def _depthwise_backward(
    grad: Tensor, x: Tensor, rows: Tensor, taps: list[list[Segment]], grad_rows: Tensor, scratch: Tensor, out: Tensor
) -> Tensor:
    """Write the gradient of x to `out`, adds the kernel's to `grad_rows`."""
    out.zero_()
    for row, grad_row, segments in zip(rows, grad_rows, taps, strict=True):
        for target, source, reverse in segments:
            g = grad[target].flip(0) if reverse else grad[target]
            out[source].addcmul_(g, row)
            grad_row += torch.mul(g, x[source], out=scratch[: len(g)]).sum(0)
    return out


class _TemporalBlock(torch.autograd.Function):
    """Per item: z1 = expand x, a1 = prelu z1, n1 = gLN a1, z2 = depthwise n1, a2 = prelu z2, y = x + project gLN a2.

    The second gLN never runs over the frames: its scale and shift go into the weight and a bias of `project`, and
    their gradients come from that of the weight.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        expand: Tensor,
        slope1: Tensor,
        gain1: Tensor,
        bias1: Tensor,
        kernel: Tensor,
        slope2: Tensor,
        gain2: Tensor,
        bias2: Tensor,
        project: Tensor,
        geometry: Geometry,
        eps: float,
    ) -> Tensor:
        y, a1, z2 = torch.empty_like(x), *x.new_empty(2, x.shape[1], len(expand)).unbind()
        ctx.taps, ctx.moments, hidden = geometry.taps(x.shape[1], kernel.shape[-1]), [], []
        for x_b, y_b in zip(x, y, strict=True):
            z1 = pointwise(x_b[None], expand)[0]
            torch.ops.aten.leaky_relu.out(z1, slope1.item(), out=a1)
            moments1 = _moments(a1, eps)
            scale1, shift1 = _affine(gain1, bias1, moments1)
            n1 = torch.addcmul(shift1, a1, scale1, out=a1)
            a2 = F.leaky_relu_(_depthwise_forward(n1, _rows(kernel), ctx.taps, out=z2), slope2.item())
            moments2 = _moments(a2, eps)
            scale2, shift2 = _affine(gain2, bias2, moments2)
            change = pointwise(a2[None], project * scale2[:, None], project[..., 0] @ shift2)
            torch.add(x_b, change[0], out=y_b)
            hidden.append(z1)
            ctx.moments.append((moments1, moments2))
        ctx.save_for_backward(x, expand, slope1, gain1, bias1, kernel, slope2, gain2, bias2, project, *hidden)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors[:10]
        expand, slope1, gain1, bias1, kernel, slope2, gain2, bias2, project = parameters
        grad_expand, grad_project = torch.zeros_like(expand), torch.zeros_like(project)
        grad_slope1, grad_slope2 = torch.zeros_like(slope1), torch.zeros_like(slope2)
        grad_affine1, grad_affine2 = gain1.new_zeros(2, len(gain1)), gain2.new_zeros(2, len(gain2))
        rows = _rows(kernel)
        grad_rows = torch.zeros_like(rows)
        grad_x = torch.empty_like(x)
        a1, n1, z2, a2 = x.new_empty(4, x.shape[1], len(expand)).unbind()
        for g_b, x_b, z1, (moments1, moments2), out_b in zip(
            grad.contiguous(), x, ctx.saved_tensors[10:], ctx.moments, grad_x, strict=True
        ):
            # once more what forward did not keep
            torch.ops.aten.leaky_relu.out(z1, slope1.item(), out=a1)
            scale1, shift1 = _affine(gain1, bias1, moments1)
            torch.addcmul(shift1, a1, scale1, out=n1)
            _depthwise_forward(n1, rows, ctx.taps, out=z2)
            torch.ops.aten.leaky_relu.out(z2, slope2.item(), out=a2)
            # project and the second gLN
            scale2, shift2 = _affine(gain2, bias2, moments2)
            weight, sum_g = project[..., 0], g_b.sum(0)
            grad_scaled = _pointwise_weight_grad(g_b, a2, project)[..., 0]
            grad_project[..., 0] += grad_scaled * scale2 + torch.outer(sum_g, shift2)
            sums = (weight * grad_scaled).sum(0), weight.T @ sum_g
            factor, offset = _global_layer_norm_backward(sums, gain2, moments2, a2.numel(), grad_affine2)
            scaled = (weight * scale2).T.unsqueeze(-1)
            g = pointwise(g_b[None], scaled, offset.expand(len(gain2)))[0].add_(a2, alpha=factor)
            # prelu, depthwise
            grad_slope2 += _prelu_backward(g, z2, slope2, a2, out=g)
            _depthwise_backward(g, n1, rows, ctx.taps, grad_rows, a2, out=z2)
            # first gLN, prelu, expand
            sums = torch.mul(z2, a1, out=a2).sum(0), z2.sum(0)
            factor, offset = _global_layer_norm_backward(sums, gain1, moments1, a1.numel(), grad_affine1)
            torch.addcmul(offset, z2, scale1, out=g).add_(a1, alpha=factor)
            grad_slope1 += _prelu_backward(g, z1, slope1, a2, out=g)
            grad_expand += _pointwise_weight_grad(g, x_b, expand)
            torch.add(g_b, pointwise(g[None], expand.transpose(0, 1))[0], out=out_b)
        grads = (grad_expand, grad_slope1, *grad_affine1, grad_rows.T.unsqueeze(1), grad_slope2, *grad_affine2)
        return grad_x, *grads, grad_project, None, None


def _pointwise_weight_grad(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """grad: (frames, out), x: (frames, in) -> gradient of the 1x1 weight (out, in, 1)."""
    shape = weight.unsqueeze(-1).shape
    images = _image(x[None]), _image(grad[None])
    return conv2d_weight(images[0], shape, images[1], dilation=NO_SLOW_PATH).squeeze(-1)
