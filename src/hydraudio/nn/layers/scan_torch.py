"""The selective scan in PyTorch operations, chunk by chunk, with the backward pass by hand.

A tile is what is worked on at once: some items of one group, with all their channels. On a CPU it is as wide as makes
one step worth a call, and a chunk of steps as long as stays in the cache while a dozen vectorised passes run over it.
Steps follow one another as one multiply-add over (items, states, channels) each. Forward keeps the state before every
chunk; backward computes the states within a chunk anew, so nothing of size steps x channels x states exists.

Layout within a tile: steps first, channels last, so that every step is contiguous.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LOG2_E = 1.4426950408889634  # exp2 takes a quarter of the time of exp on a CPU
CPU_STEP_ELEMENTS = 2**14  # states of a tile at one step: less, and the calls cost more than the arithmetic
CHUNK_ELEMENTS = 2**19  # states of a tile in one chunk: more, and they leave the cache
GPU_CHUNK_STEPS = 32  # a power of two: also the tile of the Triton kernels


class ScanInputs(NamedTuple):
    """(groups, batch, steps, ...) tensors of one scan, or of one tile in its layout."""

    u: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor
    z: Tensor | None

    def tile(self, group: int, items: slice) -> "ScanInputs":
        """Return views of one group and some items, steps first."""
        u, delta, B, C = (x[group, items].transpose(0, 1) for x in self[:4])
        return ScanInputs(u, delta, B, C, None if self.z is None else self.z[group, items].transpose(0, 1))

    def chunk(self, steps: slice) -> "ScanInputs":
        """Return the steps of a chunk, of a tile."""
        u, delta, B, C = (x[steps] for x in self[:4])
        return ScanInputs(u, delta, B, C, None if self.z is None else self.z[steps])

    def empty(self) -> "ScanInputs":
        u, delta, B, C = (x.new_empty(x.shape) for x in self[:4])
        return ScanInputs(u, delta, B, C, None if self.z is None else self.z.new_empty(self.z.shape))


class ScanParameters(NamedTuple):
    """A (groups, states, channels), D and bias of delta (groups, channels), or of one group."""

    A: Tensor
    D: Tensor
    bias: Tensor

    def group(self, index: int) -> "ScanParameters":
        return ScanParameters(self.A[index], self.D[index], self.bias[index])


def chunk_steps(n_items: int, step_elements: int, device: str) -> int:
    """Count the steps from one kept state to the next. step_elements: states times channels."""
    if device != "cpu":
        return GPU_CHUNK_STEPS
    tile_elements = step_elements * min(n_items, items_per_tile(step_elements, device) or n_items)
    return min(max(CHUNK_ELEMENTS // tile_elements, 16), 128)


def items_per_tile(step_elements: int, device: str) -> int | None:
    """Count the items that are computed together; None for all."""
    return max(1, CPU_STEP_ELEMENTS // step_elements) if device == "cpu" else None


def scan_forward(
    inputs: ScanInputs, parameters: ScanParameters, initial: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`initial`: (groups, batch, states, channels), zeros if None.

    Returns:
        outputs (groups, batch, steps, channels), the states before each chunk (groups, batch, chunks, states,
        channels), the last states (groups, batch, states, channels)
    """
    n_groups, n_items, _, n_channels = inputs.u.shape
    plan = _Plan(inputs, parameters)
    n_states = parameters.A.shape[1]
    y = inputs.u.new_empty(inputs.u.shape)
    starts = y.new_empty(n_groups, n_items, len(plan.chunks), n_states, n_channels)
    last = y.new_zeros(n_groups, n_items, n_states, n_channels) if initial is None else initial.clone()
    for group, items, scratch in plan.tiles():
        tile, p, out = inputs.tile(group, items), parameters.group(group), y[group, items].transpose(0, 1)
        state = last[group, items]
        for index, chunk in enumerate(plan.chunks):
            starts[group, items, index] = state
            out[chunk], end = _chunk_forward(tile.chunk(chunk), p, state, scratch)
            state.copy_(end)
    return y, starts, last


def scan_backward(
    grad: Tensor, starts: Tensor, inputs: ScanInputs, parameters: ScanParameters
) -> tuple[ScanInputs, ScanParameters]:
    """Compute the gradients of the inputs and of the parameters. starts: as from `scan_forward`."""
    plan = _Plan(inputs, parameters)
    grads, grad_parameters = inputs.empty(), ScanParameters(*map(torch.zeros_like, parameters))
    for group, items, scratch in plan.tiles():
        tile, grad_tile, grad_out = (
            inputs.tile(group, items),
            grads.tile(group, items),
            grad[group, items].transpose(0, 1),
        )
        p, grad_p = parameters.group(group), grad_parameters.group(group)
        scratch.carry.zero_()
        for index, chunk in reversed(list(enumerate(plan.chunks))):
            start = starts[group, items, index]
            parts = _chunk_backward(grad_out[chunk], start, tile.chunk(chunk), p, grad_p, scratch)
            for whole, part in zip(grad_tile, parts, strict=True):
                if whole is not None and part is not None:
                    whole[chunk] = part
    return grads, grad_parameters


class _Scratch:
    """What a chunk needs of size (steps, items, states, channels), with the views of each step taken once."""

    def __init__(self, n_steps: int, shape: tuple[int, int, int], like: Tensor) -> None:
        self.decay = like.new_empty(n_steps, *shape)
        self.states = like.new_empty(n_steps + 1, *shape)  # the first is the one before the chunk
        self.decay_steps, self.state_steps = self.decay.unbind(), self.states.unbind()
        self.grads = torch.empty_like(self.decay)  # takes no memory before it is written
        self.carry = like.new_empty(shape)  # gradient of a chunk's last state from the chunks after it


class _Plan:
    """Tiles and chunks of one call."""

    def __init__(self, inputs: ScanInputs, parameters: ScanParameters) -> None:
        self.like = inputs.u
        self.n_groups, self.n_items, n_steps, self.n_channels = inputs.u.shape
        self.n_states, device = parameters.A.shape[1], inputs.u.device.type
        step_elements = self.n_states * self.n_channels
        self.width = min(items_per_tile(step_elements, device) or self.n_items, self.n_items)
        n_chunk = chunk_steps(self.n_items, step_elements, device)
        self.chunks = [slice(i, min(i + n_chunk, n_steps)) for i in range(0, n_steps, n_chunk)]

    def tiles(self) -> Iterator[tuple[int, slice, _Scratch]]:
        """(group, items, scratch); tiles of the same width share it."""
        scratch: dict[int, _Scratch] = {}
        for group in range(self.n_groups):
            for start in range(0, self.n_items, self.width):
                items = slice(start, min(start + self.width, self.n_items))
                width = items.stop - start
                if width not in scratch:
                    shape = (width, self.n_states, self.n_channels)
                    scratch[width] = _Scratch(self.chunks[0].stop, shape, self.like)
                yield group, items, scratch[width]


def _compute_states(c: ScanInputs, p: ScanParameters, start: Tensor, scratch: _Scratch) -> tuple[Tensor, ...]:
    """softplus(delta + bias), its product with u, and the states (steps, items, states, channels), in the scratch.

    Leaves exp(delta A) in `scratch.decay`.
    """
    n = len(c.u)
    delta = F.softplus(c.delta + p.bias)
    x = delta * c.u
    torch.mul(delta.unsqueeze(2), p.A * LOG2_E, out=scratch.decay[:n]).exp2_()
    scratch.states[0] = start
    states = torch.mul(x.unsqueeze(2), c.B.unsqueeze(3), out=scratch.states[1 : n + 1])
    previous = scratch.state_steps[0]
    for decay, state in zip(scratch.decay_steps[:n], scratch.state_steps[1 : n + 1], strict=True):
        state.addcmul_(decay, previous)
        previous = state
    return delta, x, states


def _compute_grad_states(c: ScanInputs, grad: Tensor, scratch: _Scratch) -> Tensor:
    """As `_compute_states`, backwards; `scratch.carry` becomes that of the chunk before."""
    n = len(grad)
    grad_states = torch.mul(grad.unsqueeze(2), c.C.unsqueeze(3), out=scratch.grads[:n])
    steps = grad_states.unbind()
    steps[-1].add_(scratch.carry)
    for i in range(n - 1, 0, -1):
        steps[i - 1].addcmul_(scratch.decay_steps[i], steps[i])
    torch.mul(scratch.decay_steps[0], steps[0], out=scratch.carry)
    return grad_states


def _chunk_forward(c: ScanInputs, p: ScanParameters, start: Tensor, scratch: _Scratch) -> tuple[Tensor, Tensor]:
    """Output (steps, items, channels) and last state."""
    _, _, states = _compute_states(c, p, start, scratch)
    y = _contract_states(c.C, states).addcmul_(c.u, p.D)
    return y if c.z is None else y.mul_(F.silu(c.z)), states[-1]


def _chunk_backward(
    grad: Tensor, start: Tensor, c: ScanInputs, p: ScanParameters, grad_p: ScanParameters, scratch: _Scratch
) -> ScanInputs:
    """Gradients of the chunk's inputs; adds those of the parameters. grad: (steps, items, channels)."""
    delta, x, states = _compute_states(c, p, start, scratch)
    grad_z = None
    if c.z is not None:
        gate = torch.sigmoid(c.z)
        y = _contract_states(c.C, states).addcmul_(c.u, p.D)
        grad_z = y.mul_(grad).mul_(gate * (1 + c.z * (1 - gate)))
        grad = gate.mul_(c.z).mul_(grad)
    grad_states = _compute_grad_states(c, grad, scratch)
    grad_B, grad_C = _contract_channels(x, grad_states), _contract_channels(grad, states)
    grad_x = _contract_states(c.B, grad_states)
    grad_exponent = scratch.decay[: len(x)].mul_(scratch.states[: len(x)]).mul_(grad_states)  # of delta A
    grad_delta = torch.mul(grad_exponent, p.A, out=grad_states).sum(2)
    grad_p.A.add_(_sum_steps(grad_exponent.mul_(delta.unsqueeze(2))))
    grad_delta.addcmul_(grad_x, c.u).mul_(torch.sigmoid(c.delta + p.bias))
    grad_p.bias.add_(_sum_steps(grad_delta))
    grad_p.D.add_(_sum_steps(grad * c.u))
    grad_u = grad_x.mul_(delta).addcmul_(grad, p.D)
    return ScanInputs(grad_u, grad_delta, grad_B, grad_C, grad_z)


def _contract_states(weights: Tensor, states: Tensor) -> Tensor:
    """sum_n weights[.., n] states[.., n, c]: (steps, items, channels)."""
    rows = weights.reshape(-1, 1, weights.shape[-1])
    return torch.bmm(rows, states.flatten(0, 1)).view(*weights.shape[:2], -1)


def _contract_channels(weights: Tensor, states: Tensor) -> Tensor:
    """sum_c weights[.., c] states[.., n, c]: (steps, items, states)."""
    rows = weights.reshape(-1, 1, weights.shape[-1])
    return torch.bmm(rows, states.flatten(0, 1).transpose(1, 2)).view(*weights.shape[:2], -1)


def _sum_steps(x: Tensor) -> Tensor:
    """Sum over steps and items of a contiguous tensor, as a matrix product: half the time of sum()."""
    rows = x.flatten(0, 1)
    return torch.mv(rows.flatten(1).T, x.new_ones(len(rows))).view(x.shape[2:])
