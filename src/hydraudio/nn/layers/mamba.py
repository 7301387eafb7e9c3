"""Mamba mixers, one- and bidirectional, for (batch, steps, channels) on any device.

Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 3.4 and figure 3. Parameters
are named as in mamba-ssm (`Mamba`), its bidirectional form of Zhu et al., "Vision Mamba", 2024 (`BiMamba`, second
direction `conv1d_b`, `x_proj_b`, `dt_proj_b`, `A_b_log`, `D_b`), and Li et al., "SPMamba", 2024
(`ConcatenatedBiMamba`), so that their checkpoints load.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.causal_conv import causal_conv_silu
from hydraudio.nn.layers.masking import flip_frames
from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.nn.layers.scan import selective_scan, selective_scan_from
from hydraudio.nn.weight_decay import exempt_from_weight_decay

DT_RANGE = (1e-3, 1e-1)  # of the initial steps, log-uniform
DT_FLOOR = 1e-4


class RMSNorm(nn.Module):
    """Compute x / sqrt(mean(x^2) + eps) times a gain, over the last axis, in float32. (..., dim) -> same."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        exempt_from_weight_decay(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        x32 = at_least_float32(x)
        scale = torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (x32 * scale * self.weight).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}"


class MambaState(NamedTuple):
    """What a causal mixer remembers between two pieces of a stream."""

    conv: Tensor  # (batch, d_conv - 1, d_inner), the last inputs of the convolution
    scan: Tensor  # (batch, d_state, d_inner), float32


class Mamba(nn.Module):
    """Mix steps by a causal selective state space. (batch, steps, d_model) -> same.

    Args:
        d_model: channels of input and output.
        d_state: states per inner channel.
        d_conv: taps of the causal depthwise convolution.
        expand: inner channels per channel of the input.
        dt_rank: channels from which the step sizes are computed; None: ceil(d_model / 16).
    """

    conv1d: nn.Conv1d

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, dt_rank: int | None = None
    ) -> None:
        super().__init__()
        dt_rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        sizes = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand": expand, "dt_rank": dt_rank}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self.d_model, self.d_inner = d_model, expand * d_model
        self.d_state, self.d_conv, self.dt_rank = d_state, d_conv, dt_rank
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self._add_direction("")
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def _add_direction(self, suffix: str) -> None:
        """Convolution, projections, A_log and D of one direction, initialised."""
        conv1d = nn.Conv1d(self.d_inner, self.d_inner, self.d_conv, groups=self.d_inner)
        dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        initialize_dt_projection(dt_proj)
        A_log = nn.Parameter(torch.arange(1.0, self.d_state + 1).log().repeat(self.d_inner, 1))
        D = nn.Parameter(torch.ones(self.d_inner))
        exempt_from_weight_decay(conv1d.bias, dt_proj.bias, A_log, D)
        self.add_module(f"conv1d{suffix}", conv1d)
        self.add_module(f"x_proj{suffix}", nn.Linear(self.d_inner, self.dt_rank + 2 * self.d_state, bias=False))
        self.add_module(f"dt_proj{suffix}", dt_proj)
        self.register_parameter(f"A{suffix}_log", A_log)
        self.register_parameter(f"D{suffix}", D)

    def direction(self, suffix: str = "") -> "Direction":
        """Return the parameters of the direction whose names end in `suffix`."""
        conv1d, dt_proj = getattr(self, f"conv1d{suffix}"), getattr(self, f"dt_proj{suffix}")
        return Direction(
            conv1d.weight,
            conv1d.bias,
            getattr(self, f"x_proj{suffix}").weight,
            dt_proj.weight,
            dt_proj.bias,
            getattr(self, f"A{suffix}_log"),
            getattr(self, f"D{suffix}"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, steps, d_model) -> same."""
        x, z = self.in_proj(x).unsqueeze(0).chunk(2, -1)
        return self.out_proj(mix(x, stack_directions([self.direction()]), z)[0])

    def initial_state(self, batch_size: int) -> MambaState:
        """Return the state before the first step of a stream."""
        weight = self.conv1d.weight
        conv = weight.new_zeros(batch_size, self.d_conv - 1, self.d_inner)
        return MambaState(conv, weight.new_zeros(batch_size, self.d_state, self.d_inner))

    @torch.no_grad()
    def stream(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Compute the next piece of a stream: (batch, steps, d_model) -> (same, state for the piece after it).

        The outputs of successive pieces are those of `forward` on the whole. Without gradients.
        """
        x, z = self.in_proj(x).chunk(2, -1)
        padded = torch.cat([state.conv, x], 1)
        direction = stack_directions([self.direction()])
        u = causal_conv_silu(padded.unsqueeze(0), direction.conv_weight, direction.conv_bias)[:, :, self.d_conv - 1 :]
        y, last = selective_scan_from(state.scan.unsqueeze(0), *scan_arguments(u, direction), z.unsqueeze(0))
        return self.out_proj(y[0]), MambaState(padded[:, x.shape[1] :], last[0])


class BiMamba(Mamba):
    """Mix in both directions between shared projections: W_out (0.5 (forward + backward) SiLU(z)).

    (batch, steps, d_model) -> same. With `n_steps` (batch,), the steps of each item of a padded batch, the backward
    direction starts at each item's own last step.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, dt_rank: int | None = None
    ) -> None:
        super().__init__(d_model, d_state, d_conv, expand, dt_rank)
        self._add_direction("_b")

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        x, z = self.in_proj(x).chunk(2, -1)
        both = torch.stack([x, flip_frames(x, n_steps, 1)])
        forward, backward = mix(both, stack_directions([self.direction(), self.direction("_b")]))
        return self.out_proj(0.5 * (forward + flip_frames(backward, n_steps, 1)) * F.silu(z))


class PreNormMamba(nn.Module):
    """The parameters of y = Mamba(RMSNorm(x)) + x, as mamba-ssm's `Block` names them."""

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        self.mixer = Mamba(d_model, d_state, d_conv, expand)
        self.norm = RMSNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.mixer(self.norm(x)) + x


class ConcatenatedBiMamba(nn.Module):
    """A residual block per direction, concatenated. (batch, steps, d_model) -> (batch, steps, 2 d_model).

    State dict as `MambaBlock(bidirectional=True)` of SPMamba: `forward_blocks.0.{norm,mixer}.*` and
    `backward_blocks.0.{norm,mixer}.*`. `n_steps` as in `BiMamba`.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 4) -> None:
        super().__init__()
        self.forward_blocks = nn.ModuleList([PreNormMamba(d_model, d_state, d_conv, expand)])
        self.backward_blocks = nn.ModuleList([PreNormMamba(d_model, d_state, d_conv, expand)])

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        first, second = (cast(PreNormMamba, blocks[0]) for blocks in (self.forward_blocks, self.backward_blocks))
        mixers = [first.mixer, second.mixer]
        both = torch.stack([first.norm(x), flip_frames(second.norm(x), n_steps, 1)])
        u, z = linear(both, torch.stack([mixer.in_proj.weight for mixer in mixers])).chunk(2, -1)
        y = mix(u, stack_directions([mixer.direction() for mixer in mixers]), z)
        forward, backward = linear(y, torch.stack([mixer.out_proj.weight for mixer in mixers]))
        return torch.cat([forward + x, flip_frames(backward, n_steps, 1) + x], -1)


class Direction(NamedTuple):
    """Parameters of one direction or, with a leading axis, of several."""

    conv_weight: Tensor  # (d_inner, 1, d_conv)
    conv_bias: Tensor  # (d_inner,)
    x_proj: Tensor  # (dt_rank + 2 d_state, d_inner)
    dt_proj: Tensor  # (d_inner, dt_rank)
    dt_bias: Tensor  # (d_inner,)
    A_log: Tensor  # (d_inner, d_state)
    D: Tensor  # (d_inner,)


def stack_directions(directions: Sequence[Direction]) -> Direction:
    """Stack the parameters of the directions along a leading axis."""
    if len(directions) == 1:
        return Direction(*(x.unsqueeze(0) for x in directions[0]))
    return Direction(*(torch.stack(parts) for parts in zip(*directions, strict=True)))


def mix(x: Tensor, directions: Direction, z: Tensor | None = None) -> Tensor:
    """Apply convolution, SiLU and scan. x and z: (directions, batch, steps, d_inner) -> same."""
    u = causal_conv_silu(x, directions.conv_weight, directions.conv_bias)
    return selective_scan(*scan_arguments(u, directions), z)


ScanArguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def scan_arguments(u: Tensor, directions: Direction) -> ScanArguments:
    """Return the first seven arguments of `selective_scan`."""
    dt_rank, d_state = directions.dt_proj.shape[-1], directions.A_log.shape[-1]
    dt, B, C = linear(u, directions.x_proj).split((dt_rank, d_state, d_state), -1)
    A = -torch.exp(at_least_float32(directions.A_log))
    return u, linear(dt, directions.dt_proj), A, B, C, directions.D, directions.dt_bias


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Apply a matrix per group. x: (groups, batch, steps, in), weight: (groups, out, in) -> (..., out)."""
    if len(weight) == 1:
        return F.linear(x, weight[0])
    return torch.bmm(x.flatten(1, 2), weight.transpose(1, 2)).unflatten(1, x.shape[1:3])


def initialize_dt_projection(dt_proj: nn.Linear) -> None:
    """Draw W uniform in +-rank^-0.5, b so that softplus(b) is log-uniform in DT_RANGE; mark b `_no_reinit`."""
    nn.init.uniform_(dt_proj.weight, -(dt_proj.in_features**-0.5), dt_proj.in_features**-0.5)
    low, high = map(math.log, DT_RANGE)
    with torch.no_grad():
        dt = torch.empty_like(dt_proj.bias).uniform_(low, high).exp().clamp_min(DT_FLOOR)
        dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
    setattr(dt_proj.bias, "_no_reinit", True)  # noqa: B010 - as in the public code of Mamba; no attribute of Parameter


def initialize_output_projections(net: nn.Module, n_layers: int) -> None:
    """W_out of all mixers: Kaiming uniform, as `nn.Linear`, over sqrt(n_layers), the mixers that feed one residual."""
    for module in net.modules():
        if isinstance(module, Mamba):
            nn.init.kaiming_uniform_(module.out_proj.weight, a=math.sqrt(5))
            with torch.no_grad():
                module.out_proj.weight /= math.sqrt(n_layers)
