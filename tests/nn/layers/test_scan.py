"""Selective scan: equations, gradients, chunks and tiles, precision, memory, backends."""

import logging
import sys
import types
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hydraudio.nn.layers import scan, scan_torch
from hydraudio.nn.layers.scan import selective_scan, selective_scan_from
from hydraudio.nn.layers.scan_onnx import scan_for_onnx

SHAPES = [(1, 1, 1, 1, 1), (2, 3, 70, 5, 4), (1, 2, 16, 3, 2), (1, 1, 300, 40, 16), (2, 5, 33, 8, 3)]


def arguments(
    groups: int, batch: int, steps: int, channels: int, states: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Tensor]:
    """u, delta, A, B, C, D, delta_bias, z."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    per_step, per_state = (groups, batch, steps, channels), (groups, batch, steps, states)
    tensors = [noise(*per_step), noise(*per_step) - 1, -noise(groups, channels, states).exp(), noise(*per_state)]
    tensors += [noise(*per_state), noise(groups, channels), noise(groups, channels), noise(*per_step)]
    return [x.to(dtype).requires_grad_() for x in tensors]


def step_by_step(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, z: Tensor | None = None
) -> Tensor:
    """The equations, one step after the other."""
    step = F.softplus(delta + bias[:, None, None])
    h, outputs = 0.0, []
    for t in range(u.shape[2]):
        decay = torch.exp(step[:, :, t, :, None] * A[:, None])
        h = decay * h + (step[:, :, t] * u[:, :, t]).unsqueeze(-1) * B[:, :, t].unsqueeze(-2)
        outputs.append((h * C[:, :, t].unsqueeze(-2)).sum(-1) + D[:, None] * u[:, :, t])
    y = torch.stack(outputs, 2)
    return y if z is None else y * F.silu(z)


def published_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """What mamba-ssm documents: u, delta, z (batch, channels, steps), B and C (batch, groups, states, steps)."""
    step = F.softplus(delta + delta_bias[:, None])
    B, C = (x.repeat_interleave(len(A) // x.shape[1], 1) for x in (B, C))
    decay = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    change = torch.einsum("bdl,bdnl,bdl->bdln", step, B, u)
    h, outputs = torch.zeros_like(decay[:, :, 0]), []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + change[:, :, t]
        outputs.append(torch.einsum("bdn,bdn->bd", h, C[..., t]))
    return (torch.stack(outputs, 2) + u * D[:, None]) * F.silu(z)


def value_and_gradients(function: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    y = function(*tensors)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [y, *torch.autograd.grad((y * weight.to(y.dtype)).sum(), tensors)]


def assert_all_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_equations(shape: tuple[int, ...], gated: bool) -> None:
    tensors = arguments(*shape)[: 8 if gated else 7]
    expected = value_and_gradients(step_by_step, tensors)
    assert_all_close(value_and_gradients(selective_scan, tensors), expected, 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_equals_equations_in_float64(shape: tuple[int, ...]) -> None:
    expected = value_and_gradients(step_by_step, arguments(*shape))
    actual = value_and_gradients(selective_scan, arguments(*shape, dtype=torch.float32))
    assert all(x.dtype == torch.float32 for x in actual)
    assert_all_close([x.double() for x in actual], expected, 1e-5)


def test_equals_published_reference() -> None:
    u, delta, A, B, C, D, bias, z = arguments(2, 3, 40, 6, 4)

    def channels_first(x: Tensor) -> Tensor:
        return x.permute(1, 0, 3, 2).flatten(1, 2)

    y = published_reference(
        channels_first(u),
        channels_first(delta),
        A.flatten(0, 1),
        B.permute(1, 0, 3, 2),
        C.permute(1, 0, 3, 2),
        D.flatten(),
        channels_first(z),
        bias.flatten(),
    )
    torch.testing.assert_close(channels_first(selective_scan(u, delta, A, B, C, D, bias, z)), y)


def test_equals_mambapy() -> None:
    pscan = pytest.importorskip("mambapy.pscan").pscan
    u, delta, A, B, C, D, bias, _ = (x.detach()[0] for x in arguments(1, 2, 37, 8, 4, torch.float32))
    step = F.softplus(delta + bias)
    states = pscan(torch.exp(step.unsqueeze(-1) * A), (step * u).unsqueeze(-1) * B.unsqueeze(2))
    expected = (states @ C.unsqueeze(-1)).squeeze(-1) + D * u
    y = selective_scan(*(x[None] for x in (u, delta, A, B, C, D, bias)))[0]
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gated", [True, False])
def test_gradcheck(gated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_torch, "CHUNK_ELEMENTS", 1)  # 16 steps, so that there are two chunks
    tensors = arguments(2, 2, 19, 2, 2)[: 8 if gated else 7]
    assert torch.autograd.gradcheck(selective_scan, tensors)


@pytest.mark.parametrize(("tile", "chunk"), [(1, 1), (40, 1), (10**9, 10**9), (80, 2 * 40 * 50)])
def test_tiles_and_chunks_change_nothing(tile: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = arguments(2, 5, 100, 10, 4)
    expected = value_and_gradients(selective_scan, tensors)
    monkeypatch.setattr(scan_torch, "CPU_STEP_ELEMENTS", tile)
    monkeypatch.setattr(scan_torch, "CHUNK_ELEMENTS", chunk)
    assert_all_close(value_and_gradients(selective_scan, tensors), expected, 1e-13)


def test_strided_arguments() -> None:
    tensors = arguments(2, 3, 20, 6, 4)
    strided = [x.detach().transpose(1, -1).contiguous().transpose(1, -1).requires_grad_() for x in tensors]
    expected = value_and_gradients(selective_scan, tensors)
    assert_all_close(value_and_gradients(selective_scan, strided), expected, 1e-13)


def test_groups_are_separate_scans() -> None:
    tensors = arguments(3, 2, 30, 4, 2)
    together = selective_scan(*tensors)
    for i in range(3):
        torch.testing.assert_close(selective_scan(*(x[i : i + 1] for x in tensors))[0], together[i])


def test_extreme_steps() -> None:
    """Steps from 0 to where a state forgets everything at once, over many of them."""
    tensors = arguments(1, 1, 3000, 4, 3, torch.float32)
    with torch.no_grad():
        tensors[1] *= 60
    results = value_and_gradients(selective_scan, tensors)
    assert all(x.isfinite().all() for x in results)
    expected = value_and_gradients(step_by_step, [x.detach().double().requires_grad_() for x in tensors])
    assert_all_close([x.double() for x in results], expected, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_inside_autocast_and_for_half_precision(dtype: torch.dtype) -> None:
    tensors = arguments(1, 2, 50, 6, 4, torch.float32)
    expected = value_and_gradients(selective_scan, tensors)
    with torch.autocast("cpu", dtype=dtype):
        under_autocast = value_and_gradients(selective_scan, tensors)
    assert all(torch.equal(a, b) for a, b in zip(under_autocast, expected, strict=True))
    halves = [x.detach().to(dtype).requires_grad_() for x in tensors]
    results = value_and_gradients(selective_scan, halves)
    assert all(x.dtype == dtype for x in results)
    exact = selective_scan(*(x.float() for x in halves))
    torch.testing.assert_close(results[0], exact.to(dtype), rtol=0, atol=0)


def test_same_bits_every_time() -> None:
    tensors = arguments(2, 3, 100, 16, 8, torch.float32)
    first, second = (value_and_gradients(selective_scan, tensors) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_second_order_raises() -> None:
    tensors = arguments(1, 1, 5, 2, 2)
    (grad,) = torch.autograd.grad(selective_scan(*tensors).square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()


class LargestTensor(TorchDispatchMode):
    """The most elements that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.n_elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor):
                self.n_elements = max(self.n_elements, x.numel())
        return out


def test_memory_is_that_of_a_chunk() -> None:
    groups, batch, steps, channels, states = 1, 4, 4000, 32, 16
    tensors = arguments(groups, batch, steps, channels, states, torch.float32)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        y = selective_scan(*tensors)
    # u, delta, z, B, C, and a state every 16 steps or more
    assert sum(saved) <= batch * steps * (3 * channels + 2 * states) * 1.01 + batch * steps * channels * states / 16
    inputs = scan_torch.ScanInputs(*(tensors[i].detach() for i in (0, 1, 3, 4, 7)))
    A, D, bias = (tensors[i].detach() for i in (2, 5, 6))
    parameters = scan_torch.ScanParameters(A.transpose(1, 2).contiguous(), D, bias)
    with LargestTensor() as largest:
        y, starts, _ = scan_torch.scan_forward(inputs, parameters)
        scan_torch.scan_backward(y, starts, inputs, parameters)
    assert largest.n_elements < batch * steps * channels * states / 8


@pytest.mark.parametrize("pieces", [(1, 1, 38), (17, 23), (40,)])
def test_continues_from_a_state(pieces: tuple[int, ...]) -> None:
    tensors = [x.detach() for x in arguments(2, 3, 40, 6, 4)]
    u, delta, A, B, C, D, bias, z = tensors
    state, outputs, start = torch.zeros(2, 3, 4, 6, dtype=torch.float64), [], 0
    for n in pieces:
        part = [x[:, :, start : start + n] for x in (u, delta, B, C, z)]
        y, state = selective_scan_from(state, part[0], part[1], A, part[2], part[3], D, bias, part[4])
        outputs.append(y)
        start += n
    torch.testing.assert_close(torch.cat(outputs, 2), selective_scan(*tensors))


def test_mamba_ssm_gets_its_own_layout() -> None:
    tensors = arguments(2, 3, 20, 6, 4)

    def kernel(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
        assert delta_softplus
        return published_reference(u, delta, A, B, C, D, z, delta_bias)

    actual = value_and_gradients(lambda *x: scan._scan_with_mamba_ssm(kernel, *x), tensors)
    assert_all_close(actual, value_and_gradients(selective_scan, tensors), 1e-12)


@pytest.fixture
def fresh_probe() -> None:
    scan._mamba_ssm_kernel.cache_clear()
    yield
    scan._mamba_ssm_kernel.cache_clear()


def fake_package(monkeypatch: pytest.MonkeyPatch, **content: object) -> None:
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, name, module)
    for name, value in content.items():
        setattr(sys.modules["mamba_ssm.ops.selective_scan_interface"], name, value)


def test_mamba_ssm_is_preferred_on_cuda(monkeypatch: pytest.MonkeyPatch, fresh_probe: None) -> None:
    fake_package(monkeypatch, selective_scan_fn=published_reference)
    assert scan.scan_backend("cuda") == "mamba-ssm"
    assert scan.scan_backend("cpu") == "torch"


def test_broken_mamba_ssm_is_said(
    monkeypatch: pytest.MonkeyPatch, fresh_probe: None, caplog: pytest.LogCaptureFixture
) -> None:
    fake_package(monkeypatch)  # without the function, as where its extension does not load
    with caplog.at_level(logging.WARNING, scan.__name__):
        assert scan.scan_backend("cuda") in ("triton", "torch")
    assert "installed but does not load" in caplog.text


def test_backend_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    scan._announce.cache_clear()
    with caplog.at_level(logging.INFO, scan.__name__):
        for _ in range(3):
            selective_scan(*arguments(1, 1, 3, 2, 2))
    assert [record.getMessage() for record in caplog.records] == ["selective scan on cpu: torch"]


def test_compiled_and_exported_equal() -> None:
    class Scan(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return selective_scan(*tensors)

    tensors = arguments(1, 2, 20, 4, 3)
    compiled = torch.compile(Scan(), backend="aot_eager", fullgraph=True)
    assert_all_close(value_and_gradients(compiled, tensors), value_and_gradients(selective_scan, tensors), 1e-12)
    exported = torch.export.export(Scan(), tuple(tensors)).module()
    torch.testing.assert_close(exported(*tensors), selective_scan(*tensors))


@pytest.mark.parametrize("index", range(1, 8))
def test_wrong_shape(index: int) -> None:
    tensors = arguments(2, 3, 10, 4, 2)
    tensors[index] = tensors[index][:1]
    with pytest.raises(ValueError, match=r"is \(1, .*needs \(2, "):
        selective_scan(*tensors)


def test_wrong_number_of_axes() -> None:
    tensors = arguments(2, 3, 10, 4, 2)
    with pytest.raises(ValueError, match=r"needs u \(groups, batch, steps, channels\)"):
        selective_scan(tensors[0][0], *tensors[1:])


@pytest.mark.parametrize("gated", [True, False])
def test_form_for_onnx_equals(gated: bool) -> None:
    tensors = [x.detach() for x in arguments(2, 2, 9, 4, 3)[: 8 if gated else 7]]
    y = scan_for_onnx(*tensors, *([] if gated else [None]))
    torch.testing.assert_close(y, selective_scan(*tensors))
