"""Selective scan, the recurrence of Mamba, on any device.

Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, eq. (2) discretised as in section
3.2 (zero-order hold for A, Euler for B). Per channel and state

    step_t = softplus(delta_t + delta_bias)
    h_t = exp(step_t A) h_{t-1} + step_t u_t B_t
    y_t = (<C_t, h_t> + D u_t) SiLU(z_t)

Several scans with parameters of their own, such as the two directions of a bidirectional block, are one call: the
first axis of every argument is the group. The scan is an operator of its own, `hydraudio::selective_scan`, that
torch.compile and torch.export leave whole; in ONNX it becomes a `Scan` over the steps.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hydraudio.nn.layers import scan_torch
from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.nn.layers.scan_torch import ScanInputs, ScanParameters

log = logging.getLogger(__name__)


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, z: Tensor | None = None
) -> Tensor:
    """Scan over the steps, in float32 (float64 if u is) under any autocast, from a state of zeros.

    On CUDA by mamba-ssm's kernels where they are installed (not while a graph is captured), else by Triton's where that
    is; see `scan_backend`. Deterministic but for the gradients of mamba-ssm's. Memory beyond inputs and output: one
    state per chunk of 16 to 128 steps, and the states of a chunk.

    Args:
        u: (groups, batch, steps, channels).
        delta: as u, before bias and softplus.
        A: (groups, channels, states), negative.
        B: (groups, batch, steps, states).
        C: as B.
        D: (groups, channels).
        delta_bias: (groups, channels).
        z: as u; None: no gate.

    Returns:
        as u, in its dtype. Gradients of first order in every argument; second order raises.

    Raises:
        ValueError: if the shapes do not fit.
    """
    _check_shapes(u, delta, A, B, C, D, delta_bias, z)
    if torch.onnx.is_in_onnx_export():
        from hydraudio.nn.layers.scan_onnx import scan_for_onnx

        return scan_for_onnx(u, delta, A, B, C, D, delta_bias, z)
    dtype = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        if u.is_cuda and dtype == torch.float32 and not torch.compiler.is_compiling():
            kernel = _mamba_ssm_kernel()
            if kernel is not None:
                _announce("cuda")
                return _scan_with_mamba_ssm(kernel, u, delta, A, B, C, D, delta_bias, z)
        u32, delta, A, B, C, D, delta_bias = (x.to(dtype) for x in (u, delta, A, B, C, D, delta_bias))
        y, _ = _scan(u32, delta, A.transpose(1, 2), B, C, D, delta_bias, None if z is None else z.to(dtype))
        return y.to(u.dtype)


@torch.no_grad()
def selective_scan_from(
    state: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan from `state` (groups, batch, states, channels) on, as `selective_scan` but without gradients.

    Returns:
        outputs as u, the state after the last step as `state`
    """
    _check_shapes(u, delta, A, B, C, D, delta_bias, z)
    with torch.autocast(u.device.type, enabled=False):
        tensors = (x.to(state.dtype) for x in (u, delta, B, C, z))
        parameters = ScanParameters(*(x.to(state.dtype) for x in (A.transpose(1, 2), D, delta_bias)))
        y, _, last = scan_torch.scan_forward(ScanInputs(*tensors), parameters, state)
        return y.to(u.dtype), last


def scan_backend(device_type: str) -> str:
    """Name what computes float32 scans on "cpu", "cuda", ...: "mamba-ssm", "triton" or "torch"."""
    if device_type != "cuda":
        return "torch"
    if _mamba_ssm_kernel() is not None:
        return "mamba-ssm"
    return "triton" if importlib.util.find_spec("triton") else "torch"


@functools.cache
def _announce(device_type: str) -> None:
    log.info("selective scan on %s: %s", device_type, scan_backend(device_type))


def _implementation(u: Tensor) -> Any:
    """The module with scan_forward and scan_backward for tensors like u."""
    _announce(u.device.type)
    if u.is_cuda and u.dtype == torch.float32 and importlib.util.find_spec("triton"):
        from hydraudio.nn.layers import scan_triton

        return scan_triton
    return scan_torch


@torch.library.custom_op("hydraudio::selective_scan", mutates_args=())
def _scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, z: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Output and the states before each chunk; A (groups, states, channels)."""
    with torch.autocast(u.device.type, enabled=False):
        inputs, parameters = ScanInputs(u, delta, B, C, z), ScanParameters(A.contiguous(), D, delta_bias)
        return _implementation(u).scan_forward(inputs, parameters)[:2]


@_scan.register_fake
def _(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, z: Tensor | None
) -> tuple[Tensor, Tensor]:
    n_groups, n_items, n_steps, n_channels = u.shape
    n_chunk = scan_torch.chunk_steps(n_items, A.shape[1] * n_channels, u.device.type)
    starts = u.new_empty(n_groups, n_items, -(-n_steps // n_chunk), A.shape[1], n_channels)
    return u.new_empty(u.shape), starts


@torch.library.custom_op("hydraudio::selective_scan_backward", mutates_args=())
def _scan_backward(
    grad: Tensor,
    starts: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    z: Tensor | None,
) -> list[Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        inputs, parameters = ScanInputs(u, delta, B, C, z), ScanParameters(A.contiguous(), D, delta_bias)
        g, p = _implementation(u).scan_backward(grad, starts, inputs, parameters)
    return [g.u, g.delta, p.A, g.B, g.C, p.D, p.bias, *([] if z is None else [g.z])]


@_scan_backward.register_fake
def _(grad: Tensor, starts: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in inputs if x is not None]


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # the states before each chunk never have one
    ctx.save_for_backward(output[1], *inputs)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    grads = _scan_backward(grad.contiguous(), *ctx.saved_tensors)
    return tuple(grads) if len(grads) == 8 else (*grads, None)


_scan.register_autograd(_backward, setup_context=_save)


@functools.cache
def _mamba_ssm_kernel() -> Callable[..., Tensor] | None:
    """`selective_scan_fn` of mamba-ssm 2.x; None where it is not installed or does not load."""
    if importlib.util.find_spec("mamba_ssm") is None:
        return None
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:  # built for another PyTorch or CUDA
        log.warning("mamba-ssm is installed but does not load, so its kernels are not used: %s", error)
        return None
    return selective_scan_fn


def _scan_with_mamba_ssm(
    kernel: Callable[..., Tensor],
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    z: Tensor | None,
) -> Tensor:
    """In its layout: u, delta, z (batch, groups * channels, steps), B and C (batch, groups, states, steps)."""
    per_channel = [None if x is None else x.to(u.dtype).permute(1, 0, 3, 2).flatten(1, 2) for x in (u, delta, z)]
    per_state = [x.to(u.dtype).permute(1, 0, 3, 2).contiguous() for x in (B, C)]
    rates, skip, bias = (at_least_float32(x).flatten(0, 1).contiguous() for x in (A, D, delta_bias))
    y = kernel(*per_channel[:2], rates, *per_state, D=skip, z=per_channel[2], delta_bias=bias, delta_softplus=True)
    return y.unflatten(1, (len(A), -1)).permute(1, 0, 3, 2)


def _check_shapes(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, z: Tensor | None
) -> None:
    if u.ndim != 4 or A.ndim != 3:
        raise ValueError(
            "selective_scan needs u (groups, batch, steps, channels) and A (groups, channels, states), "
            f"got {tuple(u.shape)} and {tuple(A.shape)}"
        )
    n_groups, n_items, n_steps, n_channels = u.shape
    n_states = A.shape[2]
    per_step, per_channel = (n_groups, n_items, n_steps, n_states), (n_groups, n_channels)
    expected = {
        "delta": (delta, u.shape),
        "A": (A, (n_groups, n_channels, n_states)),
        "B": (B, per_step),
        "C": (C, per_step),
        "D": (D, per_channel),
        "delta_bias": (delta_bias, per_channel),
        "z": (u if z is None else z, u.shape),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"{name} is {tuple(tensor.shape)}, u {tuple(u.shape)} needs {tuple(shape)}")
