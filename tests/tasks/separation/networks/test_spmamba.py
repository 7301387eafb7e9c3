"""SPMamba: sizes, the residual Mamba pair in its paths, memory. What it shares with TF-GridNet is in test_grid.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.layers.mamba import PreNormMamba
from hydraudio.tasks.separation.networks.spmamba import SPMamba

SCRIPT = Path(__file__).parents[4] / "scripts" / "separation" / "benchmark_spmamba_memory.py"
AT_16_KHZ = {"n_fft": 512, "hop": 128}
REDUCED = {"kernel_size": 4, "n_blocks": 4, "n_heads": 2, "key_size": 256}
SMALL = {**REDUCED, "hop": 128, "n_blocks": 2, "stride": 4, "d_state": 4, "expand": 2}
PAPER = {"n_fft": 256, "n_channels": 16, "kernel_size": 8}
TINY = {"n_fft": 16, "hop": 4, "n_blocks": 1, "n_channels": 4, "kernel_size": 3, "n_heads": 2, "key_size": 20}


@pytest.mark.parametrize(
    ("n_sources", "size", "expected"),
    [
        (1, {}, 6_094_208),
        (2, {}, 6_094_498),
        (2, AT_16_KHZ, 6_141_826),
        (2, {"kernel_size": 4}, 1_773_730),
        (2, REDUCED, 1_156_368),
        (2, SMALL, 280_850),
    ],
)
def test_parameter_count(n_sources: int, size: dict[str, int], expected: int) -> None:
    assert sum(p.numel() for p in SPMamba(n_sources=n_sources, **{**PAPER, **size}).parameters()) == expected


def test_most_parameters_are_mamba() -> None:
    net = SPMamba(n_sources=2, **PAPER)
    mamba = sum(p.numel() for name, p in net.named_parameters() if ".sequence." in name)
    assert mamba == 6 * 2 * 2 * 233_088  # blocks, paths, directions


def mamba_by_the_equations(block: PreNormMamba, x: Tensor) -> Tensor:
    """y = Mamba(RMSNorm(x)) + x of one sequence, step by step. (steps, features) -> same."""
    mixer = block.mixer
    u = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5) * block.norm.weight
    u, z = (u @ mixer.in_proj.weight.T).chunk(2, -1)
    n_taps, taps = mixer.d_conv, mixer.conv1d.weight[:, 0]
    padded = torch.cat([u.new_zeros(n_taps - 1, u.shape[1]), u])
    u = F.silu(torch.stack([(padded[t : t + n_taps] * taps.T).sum(0) for t in range(len(x))]) + mixer.conv1d.bias)
    state, outputs = u.new_zeros(u.shape[1], mixer.d_state), []
    for u_t, z_t in zip(u, z, strict=True):
        dt, b, c = (mixer.x_proj.weight @ u_t).split([mixer.dt_rank, mixer.d_state, mixer.d_state])
        dt = F.softplus(mixer.dt_proj.weight @ dt + mixer.dt_proj.bias)
        state = torch.exp(dt[:, None] * -mixer.A_log.exp()) * state + (dt * u_t)[:, None] * b
        outputs.append(mixer.out_proj.weight @ ((state @ c + mixer.D * u_t) * F.silu(z_t)))
    return torch.stack(outputs) + x


@pytest.mark.parametrize("n_steps", [None, [7, 2]])
def test_sequence_net_is_a_residual_mamba_per_direction(n_steps: list[int] | None) -> None:
    torch.manual_seed(0)
    sequence = SPMamba(n_sources=2, **TINY).blocks[0].sub_band.sequence.double()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    y = sequence(x, None if n_steps is None else torch.tensor(n_steps))
    for item, result, n in zip(x, y, n_steps or [7, 7], strict=True):
        ahead = mamba_by_the_equations(sequence.forward_blocks[0], item[:n])
        back = mamba_by_the_equations(sequence.backward_blocks[0], item[:n].flip(0)).flip(0)
        torch.testing.assert_close(result[:n], torch.cat([ahead, back], -1))


def test_steps_sizes_start_small_in_both_directions() -> None:
    net = SPMamba(n_sources=2, **TINY)
    biases = [p for name, p in net.named_parameters() if name.endswith("dt_proj.bias")]
    assert len(biases) == 4  # two paths, two directions
    for bias in biases:
        assert (F.softplus(bias) > 0.9e-4).all()
        assert (F.softplus(bias) < 0.11).all()


@pytest.mark.slow
def test_checkpointing_lowers_peak_memory() -> None:
    command = [sys.executable, str(SCRIPT), "--seconds", "0.5", "--blocks", "3", "--also-without"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (recomputed, before), (kept, _) = (
        map(float, numbers) for numbers in re.findall(r"peak ([\d.]+) GB, of which ([\d.]+) GB", output)
    )
    assert recomputed - before < 0.75 * (kept - before)
