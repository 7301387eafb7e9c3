"""The selective scan as Triton kernels, float32.

A program takes a block of channels of one item and goes through the steps in chunks. The states of a chunk, (steps,
channels, states), come from an associative scan of the pairs (decay, input) and never leave the chip. Forward writes
the state before every chunk; backward starts each chunk from it again, last chunk first. What is summed over programs
(the gradients of B, C, A, D and the bias) is written per program and summed afterwards, so results are deterministic.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hydraudio.nn.layers.scan_torch import GPU_CHUNK_STEPS, LOG2_E, ScanInputs, ScanParameters

BLOCK_CHANNELS = 8
N_WARPS = 8  # with 4 the backward kernel needs more registers than there are (compiled for compute capability 9.0)
RATE_SCALE = tl.constexpr(LOG2_E)


@triton.jit
def _combine(decay_left, input_left, decay_right, input_right):
    return decay_left * decay_right, input_left * decay_right + input_right


@triton.jit
def _softplus(x):
    """log(1 + e) as e log(w) / (w - 1) with w = 1 + e rounded: exact to the last bits for small e."""
    e = tl.exp(tl.minimum(x, 20.0))
    w = 1.0 + e
    log1p = tl.where(w == 1.0, e, e * tl.log(w) / tl.where(w == 1.0, 1.0, w - 1.0))
    return tl.where(x > 20.0, x, log1p)


@triton.jit
def _row(x, index, ROWS: tl.constexpr):
    """x[index] of (rows, channels, states)."""
    return tl.sum(tl.where(tl.arange(0, ROWS)[:, None, None] == index, x, 0.0), 0)


@triton.jit
def _forward_kernel(
    u_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    bias_ptr,
    z_ptr,
    y_ptr,
    starts_ptr,
    n_items,
    n_steps,
    n_channels,
    n_chunks,
    GATED: tl.constexpr,
    N_STATES: tl.constexpr,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
    STEPS: tl.constexpr,
):
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    group = tl.program_id(2)
    row = group.to(tl.int64) * n_items + tl.program_id(0)
    n = tl.arange(0, STATES)
    valid_channel, valid_state = channel < n_channels, n < N_STATES
    valid = valid_channel[:, None] & valid_state[None, :]
    state_offset = n[None, :] * n_channels + channel[:, None]
    A = tl.load(A_ptr + group * N_STATES * n_channels + state_offset, mask=valid, other=0.0) * RATE_SCALE
    D = tl.load(D_ptr + group * n_channels + channel, mask=valid_channel, other=0.0)
    bias = tl.load(bias_ptr + group * n_channels + channel, mask=valid_channel, other=0.0)
    state = tl.zeros((CHANNELS, STATES), tl.float32)
    for chunk in range(n_chunks):
        tl.store(starts_ptr + (row * n_chunks + chunk) * N_STATES * n_channels + state_offset, state, mask=valid)
        step = chunk * STEPS + tl.arange(0, STEPS)
        valid_step = step < n_steps
        mask = valid_step[:, None] & valid_channel[None, :]
        offset = (row * n_steps + step)[:, None] * n_channels + channel[None, :]
        state_mask = valid_step[:, None] & valid_state[None, :]
        per_state = (row * n_steps + step)[:, None] * N_STATES + n[None, :]
        u = tl.load(u_ptr + offset, mask=mask, other=0.0)
        delta = _softplus(tl.load(delta_ptr + offset, mask=mask, other=0.0) + bias[None, :])
        delta = tl.where(mask, delta, 0.0)  # steps beyond the end keep the state
        B = tl.load(B_ptr + per_state, mask=state_mask, other=0.0)
        C = tl.load(C_ptr + per_state, mask=state_mask, other=0.0)
        decay = tl.exp2(delta[:, :, None] * A[None, :, :])
        inputs = (delta * u)[:, :, None] * B[:, None, :]
        product, states = tl.associative_scan((decay, inputs), 0, _combine)
        states += product * state[None, :, :]
        y = tl.sum(states * C[:, None, :], 2) + D[None, :] * u
        if GATED:
            z = tl.load(z_ptr + offset, mask=mask, other=0.0)
            y = y * z * tl.sigmoid(z)
        tl.store(y_ptr + offset, y, mask=mask)
        state = _row(states, STEPS - 1, STEPS)


@triton.jit
def _backward_kernel(
    grad_ptr,
    starts_ptr,
    u_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    bias_ptr,
    z_ptr,
    grad_u_ptr,
    grad_delta_ptr,
    grad_A_ptr,
    grad_B_ptr,
    grad_C_ptr,
    grad_D_ptr,
    grad_bias_ptr,
    grad_z_ptr,
    n_items,
    n_steps,
    n_channels,
    n_chunks,
    GATED: tl.constexpr,
    N_STATES: tl.constexpr,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
    STEPS: tl.constexpr,
):
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    group = tl.program_id(2)
    row = group.to(tl.int64) * n_items + tl.program_id(0)
    block_row = tl.program_id(1).to(tl.int64) * n_items * tl.num_programs(2) + row  # of the partial sums over channels
    n = tl.arange(0, STATES)
    valid_channel, valid_state = channel < n_channels, n < N_STATES
    valid = valid_channel[:, None] & valid_state[None, :]
    state_offset = n[None, :] * n_channels + channel[:, None]
    A = tl.load(A_ptr + group * N_STATES * n_channels + state_offset, mask=valid, other=0.0)
    D = tl.load(D_ptr + group * n_channels + channel, mask=valid_channel, other=0.0)
    bias = tl.load(bias_ptr + group * n_channels + channel, mask=valid_channel, other=0.0)
    grad_A = tl.zeros((CHANNELS, STATES), tl.float32)
    grad_D = tl.zeros((CHANNELS,), tl.float32)
    grad_bias = tl.zeros((CHANNELS,), tl.float32)
    grad_state = tl.zeros((CHANNELS, STATES), tl.float32)  # of the first step of the chunk after
    for i in range(n_chunks):
        chunk = n_chunks - 1 - i
        state = tl.load(
            starts_ptr + (row * n_chunks + chunk) * N_STATES * n_channels + state_offset, mask=valid, other=0.0
        )
        step = chunk * STEPS + tl.arange(0, STEPS)
        valid_step = step < n_steps
        mask = valid_step[:, None] & valid_channel[None, :]
        offset = (row * n_steps + step)[:, None] * n_channels + channel[None, :]
        state_mask = valid_step[:, None] & valid_state[None, :]
        per_state = (row * n_steps + step)[:, None] * N_STATES + n[None, :]
        u = tl.load(u_ptr + offset, mask=mask, other=0.0)
        raw = tl.load(delta_ptr + offset, mask=mask, other=0.0) + bias[None, :]
        delta = tl.where(mask, _softplus(raw), 0.0)
        B = tl.load(B_ptr + per_state, mask=state_mask, other=0.0)
        C = tl.load(C_ptr + per_state, mask=state_mask, other=0.0)
        grad = tl.load(grad_ptr + offset, mask=mask, other=0.0)
        # the states once more
        inputs = (delta * u)[:, :, None] * B[:, None, :]
        decay = tl.exp2(delta[:, :, None] * A[None, :, :] * RATE_SCALE)
        product, states = tl.associative_scan((decay, inputs), 0, _combine)
        states += product * state[None, :, :]
        if GATED:
            z = tl.load(z_ptr + offset, mask=mask, other=0.0)
            gate = tl.sigmoid(z)
            y = tl.sum(states * C[:, None, :], 2) + D[None, :] * u
            tl.store(grad_z_ptr + offset, grad * y * gate * (1.0 + z * (1.0 - gate)), mask=mask)
            grad = grad * z * gate
        grad_C = tl.sum(states * grad[:, :, None], 1)
        # gradient of state t: grad_t C_t + decay_{t+1} times that of state t+1
        next_mask = (step + 1 < n_steps)[:, None] & valid_channel[None, :]
        next_raw = tl.load(delta_ptr + offset + n_channels, mask=next_mask, other=0.0) + bias[None, :]
        next_delta = tl.where(next_mask, _softplus(next_raw), 0.0)
        next_decay = tl.exp2(next_delta[:, :, None] * A[None, :, :] * RATE_SCALE)
        outer = grad[:, :, None] * C[:, None, :]
        product, grad_states = tl.associative_scan((next_decay, outer), 0, _combine, reverse=True)
        grad_states += product * grad_state[None, :, :]
        grad_state = _row(grad_states, 0, STEPS)
        grad_B = tl.sum(grad_states * (delta * u)[:, :, None], 1)
        grad_x = tl.sum(grad_states * B[:, None, :], 2)
        grad_exponent = grad_states * (states - inputs)  # of delta A; states - inputs = decay times the state before
        grad_delta = (tl.sum(grad_exponent * A[None, :, :], 2) + grad_x * u) * tl.sigmoid(raw)
        grad_delta = tl.where(mask, grad_delta, 0.0)
        grad_A += tl.sum(grad_exponent * delta[:, :, None], 0)
        grad_D += tl.sum(grad * u, 0)
        grad_bias += tl.sum(grad_delta, 0)
        tl.store(grad_u_ptr + offset, grad_x * delta + grad * D[None, :], mask=mask)
        tl.store(grad_delta_ptr + offset, grad_delta, mask=mask)
        partial = (block_row * n_steps + step)[:, None] * N_STATES + n[None, :]
        tl.store(grad_B_ptr + partial, grad_B, mask=state_mask)
        tl.store(grad_C_ptr + partial, grad_C, mask=state_mask)
    tl.store(grad_A_ptr + row * N_STATES * n_channels + state_offset, grad_A, mask=valid)
    tl.store(grad_D_ptr + row * n_channels + channel, grad_D, mask=valid_channel)
    tl.store(grad_bias_ptr + row * n_channels + channel, grad_bias, mask=valid_channel)


def scan_forward(inputs: ScanInputs, parameters: ScanParameters) -> tuple[Tensor, Tensor]:
    """Compute the outputs and the states before each chunk, as `scan_torch.scan_forward`."""
    u, delta, B, C, z = _contiguous(inputs)
    n_groups, n_items, n_steps, n_channels = u.shape
    n_states, n_chunks = parameters.A.shape[1], triton.cdiv(n_steps, GPU_CHUNK_STEPS)
    A, D, bias = (x.contiguous() for x in parameters)
    y, starts = torch.empty_like(u), u.new_empty(n_groups, n_items, n_chunks, n_states, n_channels)
    tensors = (u, delta, A, B, C, D, bias, u if z is None else z, y, starts)
    _launch(_forward_kernel, tensors, u, n_states, n_chunks, z is not None)
    return y, starts


def scan_backward(
    grad: Tensor, starts: Tensor, inputs: ScanInputs, parameters: ScanParameters
) -> tuple[ScanInputs, ScanParameters]:
    """Compute gradients as `scan_torch.scan_backward`."""
    u, delta, B, C, z = _contiguous(inputs)
    A, D, bias = (x.contiguous() for x in parameters)
    n_groups, n_items, _, n_channels = u.shape
    n_blocks = triton.cdiv(n_channels, BLOCK_CHANNELS)
    grad_u, grad_delta = torch.empty_like(u), torch.empty_like(delta)
    grad_z = None if z is None else torch.empty_like(z)
    grad_B, grad_C = B.new_empty(n_blocks, *B.shape), C.new_empty(n_blocks, *C.shape)
    grad_A, grad_D, grad_bias = (x.new_empty(n_groups, n_items, *x.shape[1:]) for x in (A, D, bias))
    values = (grad.contiguous(), starts, u, delta, A, B, C, D, bias, u if z is None else z)
    outputs = (grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_u if grad_z is None else grad_z)
    _launch(_backward_kernel, (*values, *outputs), u, A.shape[1], starts.shape[2], z is not None)
    grads = ScanInputs(grad_u, grad_delta, grad_B.sum(0), grad_C.sum(0), grad_z)
    return grads, ScanParameters(grad_A.sum(1), grad_D.sum(1), grad_bias.sum(1))


def _contiguous(inputs: ScanInputs) -> ScanInputs:
    u, delta, B, C = (x.contiguous() for x in inputs[:4])
    return ScanInputs(u, delta, B, C, None if inputs.z is None else inputs.z.contiguous())


def _launch(kernel: Any, tensors: tuple[Tensor, ...], u: Tensor, n_states: int, n_chunks: int, gated: bool) -> None:
    n_groups, n_items, n_steps, n_channels = u.shape
    grid = (n_items, triton.cdiv(n_channels, BLOCK_CHANNELS), n_groups)  # only the first may exceed 65535
    kernel[grid](
        *tensors,
        n_items,
        n_steps,
        n_channels,
        n_chunks,
        GATED=gated,
        N_STATES=n_states,
        STATES=triton.next_power_of_2(n_states),
        CHANNELS=BLOCK_CHANNELS,
        STEPS=GPU_CHUNK_STEPS,
        num_warps=N_WARPS,
    )
