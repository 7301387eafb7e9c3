"""Multiply-accumulate operations (MACs) of one forward pass, counted without computing it."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hydraudio.nn.layers.scan  # noqa: F401 - registers its operator

FLOPS_PER_MAC = 2
# Of a selective scan, per item, step, channel and state: Gu & Dao's count for Mamba (state-spaces/mamba, issue 110).
SCAN_FLOPS = 9


def count_macs(net: nn.Module, n_samples: int, batch_size: int = 1) -> int:
    """Count the MACs of ``net(mixture)`` with mixture (batch_size, n_samples).

    Counted are convolutions, linear layers, matrix products (attention included), recurrent layers and selective
    scans, one MAC being two floating point operations. Not counted, as is the custom: sums of biases, norms,
    activations, products by element and Fourier transforms.

    The network is copied to the meta device, on which tensors have a shape and no content. So nothing is computed, and
    the fused functions of the CPU, which a counter cannot see into, are not taken. While it counts, ``torch.lstm`` and
    its relatives are replaced in the whole process: do not run other networks in other threads meanwhile.

    Args:
        net: takes (batch, time), any length.
        n_samples: length of the mixture, in samples.
        batch_size: number of mixtures.
    """
    if n_samples < 1 or batch_size < 1:
        raise ValueError(f"n_samples and batch_size must be at least 1, got {n_samples} and {batch_size}")
    meta = copy.deepcopy(net).to("meta").eval()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.hydraudio.selective_scan: _scan_flops})
    with torch.no_grad(), torch.device("meta"), counter, _opaque() as opaque:
        meta(torch.empty(batch_size, n_samples))
    return counter.get_total_flops() // FLOPS_PER_MAC + opaque.macs


class _Opaque:
    """Counts what is not made of countable operators; the results have the right shape and no content."""

    def __init__(self) -> None:
        self.macs = 0

    def recurrent(
        self,
        x: Tensor,
        state: Any,
        weights: Sequence[Tensor],
        has_biases: bool,
        n_layers: int,
        dropout: float,
        training: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        """Stands in for ``torch.lstm`` and its relatives; x: (batch, steps, features) or (steps, batch, features)."""
        self.macs += x.shape[0] * x.shape[1] * sum(weight.numel() for weight in weights if weight.dim() == 2)
        states = [torch.empty_like(part) for part in (state if isinstance(state, (tuple, list)) else [state])]
        width = states[0].shape[-1] * (2 if bidirectional else 1)
        return x.new_empty(*x.shape[:2], width), *states


def _scan_flops(
    u_shape: Sequence[int], delta_shape: Sequence[int], A_shape: Sequence[int], *rest: Any, **out: Any
) -> int:
    """u: (groups, batch, steps, channels), A: (groups, states, channels)."""
    return SCAN_FLOPS * math.prod(u_shape) * A_shape[1]


@contextmanager
def _opaque() -> Iterator[_Opaque]:
    """Replace what cannot be counted from operators, and autocast, which does not know the meta device."""
    opaque = _Opaque()
    with ExitStack() as stack:
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            stack.enter_context(patch.object(torch, name, opaque.recurrent))
            stack.enter_context(patch.object(torch._VF, name, opaque.recurrent))  # what nn.LSTM calls
        stack.enter_context(patch.object(torch, "autocast", lambda *_, **__: nullcontext()))
        yield opaque


def real_time_factor(net: nn.Module, sample_rate: int, duration_s: float = 4.0, n_passes: int = 3) -> float:
    """Measure the seconds of computation per second of audio, of a forward pass for one mixture, without gradients.

    Args:
        net: on the device that is to be measured.
        sample_rate: in Hz.
        duration_s: length of the mixture, noise of amplitude 0.1.
        n_passes: timed passes after one that is not; the median counts.
    """
    device = next(net.parameters()).device
    mixture = 0.1 * torch.randn(1, round(duration_s * sample_rate), device=device)
    times_s = []
    with torch.inference_mode():
        for _ in range(n_passes + 1):
            begin_s = time.perf_counter()
            net(mixture)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times_s.append(time.perf_counter() - begin_s)
    return statistics.median(times_s[1:]) / duration_s
