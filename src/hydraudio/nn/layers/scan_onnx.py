"""The selective scan as the loop operator of exported graphs, which ONNX has as well (`Scan`)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan


def scan_for_onnx(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, z: Tensor | None
) -> Tensor:
    """Compute `scan.selective_scan` step by step, for graphs alone: eagerly it is slow."""

    def advance(state: Tensor, step: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        delta_t, x_t, B_t, C_t = step
        decay = torch.exp(delta_t.unsqueeze(-1) * A.unsqueeze(1))
        state = decay * state + x_t.unsqueeze(-1) * B_t.unsqueeze(2)
        return state, (state * C_t.unsqueeze(2)).sum(-1)

    delta = F.softplus(delta + delta_bias[:, None, None])
    steps = tuple(x.movedim(2, 0) for x in (delta, delta * u, B, C))
    start = torch.zeros_like(u[:, :, 0].unsqueeze(-1) * A.unsqueeze(1))
    _, outputs = scan(advance, start, steps)
    y = outputs.movedim(0, 2) + D[:, None, None] * u
    return y if z is None else y * F.silu(z)
