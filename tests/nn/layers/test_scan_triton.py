"""The Triton kernels against the scan in PyTorch, in Triton's interpreter, which needs no GPU."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from hydraudio.nn.layers import scan_torch
from hydraudio.nn.layers import scan_triton
from hydraudio.nn.layers.scan_torch import ScanInputs, ScanParameters

torch.manual_seed(0)
for groups, batch, steps, channels, states, gated in {cases}:
    shape = (groups, batch, steps)
    u, delta, z = torch.randn(3, *shape, channels)
    B, C = torch.randn(2, *shape, states)
    inputs = ScanInputs(u, delta - 1, B, C, z if gated else None)
    D, bias = torch.randn(2, groups, channels)
    parameters = ScanParameters(-torch.randn(groups, states, channels).exp(), D, bias)
    y, starts = scan_triton.scan_forward(inputs, parameters)
    expected, _, _ = scan_torch.scan_forward(inputs, parameters)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    grad = torch.randn(*shape, channels)
    actual = scan_triton.scan_backward(grad, starts, inputs, parameters)
    scan_torch.chunk_steps = lambda *_: scan_torch.GPU_CHUNK_STEPS
    starts = scan_torch.scan_forward(inputs, parameters)[1]
    expected = scan_torch.scan_backward(grad, starts, inputs, parameters)
    for a, b in zip((*actual[0], *actual[1]), (*expected[0], *expected[1]), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1, b.abs().max().item()))
print("equal")
"""


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([(2, 1, 3, 2, 3, True)], id="one chunk"),
        pytest.param([(1, 2, 40, 9, 2, False), (2, 2, 64, 4, 3, True)], marks=pytest.mark.slow, id="several chunks"),
    ],
)
def test_kernels_equal_pytorch(cases: list[tuple[int, ...]]) -> None:
    pytest.importorskip("triton.language")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM.format(cases=cases)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "equal"
