"""TF-GridNet: sizes, and its LSTM against the equations. What it shares with SPMamba is in test_grid.py."""

import pytest
import torch
from torch import Tensor

from hydraudio.tasks.separation.networks.tf_gridnet import BLSTM, TFGridNet

PAPER = {"n_fft": 128, "n_channels": 64, "kernel_size": 4}
TINY = {"n_fft": 16, "hop": 4, "n_blocks": 1, "n_channels": 4, "kernel_size": 3, "n_heads": 2, "key_size": 20}
SMALL = {
    "n_fft": 256,
    "hop": 128,
    "n_blocks": 3,
    "n_channels": 24,
    "stride": 4,
    "hidden_size": 64,
    "key_size": 256,
}


def expected_count(n_sources: int, n_fft: int, blocks: int, d: int, i: int, h: int, heads: int, key_size: int) -> int:
    """Parameters by the paper's section III, with overlapped windows (J < I)."""
    bins = n_fft // 2 + 1
    e = -(-key_size // bins)
    lstm = 2 * (4 * h * (d * i + h) + 8 * h)
    path = 2 * d + lstm + 2 * h * d * i + d
    keys = 2 * heads * (d * e + e + 1 + 2 * e * bins)
    values = heads * (d * (d // heads) + d // heads + 1 + 2 * d // heads * bins)
    merge = d * d + d + 1 + 2 * d * bins
    ends = (2 * 9 * d + d) + 2 * d + (d * 2 * n_sources * 9 + 2 * n_sources)
    return blocks * (2 * path + keys + values + merge) + ends


@pytest.mark.parametrize("n_sources", [1, 2, 3])
def test_parameter_count_of_the_paper(n_sources: int) -> None:
    count = sum(p.numel() for p in TFGridNet(n_sources=n_sources, **PAPER).parameters())
    assert count == expected_count(n_sources, 128, 6, 64, 4, 256, 4, 512)
    assert round(count / 1e6, 1) == 14.4


@pytest.mark.parametrize(
    ("n_sources", "size", "expected"),
    [(1, {}, 14_434_448), (2, {}, 14_435_602), (1, SMALL, 627_569), (2, SMALL, 628_003)],
)
def test_parameter_count(n_sources: int, size: dict[str, int], expected: int) -> None:
    assert sum(p.numel() for p in TFGridNet(n_sources=n_sources, **{**PAPER, **size}).parameters()) == expected


def lstm_by_the_equations(x: Tensor, w_input: Tensor, w_state: Tensor, b_input: Tensor, b_state: Tensor) -> Tensor:
    """One sequence, one direction: (steps, features) -> (steps, hidden)."""
    h = c = torch.zeros(w_state.shape[1], dtype=x.dtype)
    outputs = []
    for step in x:
        i, f, g, o = (w_input @ step + b_input + w_state @ h + b_state).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("n_steps", [None, [6, 1, 4]])
def test_blstm_equals_the_equations(n_steps: list[int] | None) -> None:
    torch.manual_seed(0)
    blstm, x = BLSTM(3, 5).double(), torch.randn(3, 6, 3, dtype=torch.float64)
    y = blstm(x, None if n_steps is None else torch.tensor(n_steps))
    ahead, back = blstm.all_weights
    for item, result, n in zip(x, y, n_steps or [6, 6, 6], strict=True):
        expected = lstm_by_the_equations(item[:n], *ahead)
        expected_back = lstm_by_the_equations(item[:n].flip(0), *back).flip(0)
        torch.testing.assert_close(result[:n], torch.cat([expected, expected_back], -1))


def test_blstm_gradients_with_unequal_steps() -> None:
    torch.manual_seed(0)
    blstm, x = BLSTM(3, 2).double(), torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.float64).unsqueeze(-1)
    assert torch.autograd.gradcheck(lambda x: blstm(x, torch.tensor([4, 2])) * mask, (x,))
