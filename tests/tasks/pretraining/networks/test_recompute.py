"""Functions that compute anew in the backward pass, against the plain equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import LayerNorm
from hydraudio.tasks.pretraining.networks import recompute
from hydraudio.tasks.pretraining.networks.blocks import Attention, FeedForward, SwiGLU
from hydraudio.tasks.pretraining.networks.recompute import activated_linear, attend, gated_linear, normed_linear


def plain_swiglu(ffn: SwiGLU, x: Tensor, norm: LayerNorm) -> Tensor:
    gate, value = ffn.gate_value(norm(x)).chunk(2, dim=-1)
    product = F.silu(gate) * value
    return ffn.project(product if ffn.inner_norm is None else ffn.inner_norm(product))


def plain_ffn(ffn: FeedForward, x: Tensor, norm: LayerNorm) -> Tensor:
    return ffn.project((F.silu if ffn.activation == "silu" else F.gelu)(ffn.expand(norm(x))))


def plain_attention(layer: Attention, x: Tensor, norm: LayerNorm) -> Tensor:
    q, k, v = layer.qkv(norm(x)).unflatten(-1, (3, layer.n_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return layer.project((weights @ v).transpose(1, 2).flatten(2))


LAYERS = {
    "silu": (lambda: FeedForward(24, activation="silu"), lambda layer, x, norm: layer(x, norm), plain_ffn),
    "gelu": (lambda: FeedForward(24, activation="gelu"), lambda layer, x, norm: layer(x, norm), plain_ffn),
    "swiglu": (lambda: SwiGLU(24), lambda layer, x, norm: layer(x, norm), plain_swiglu),
    "swiglu without norm and bias": (
        lambda: SwiGLU(24, ratio=4, inner_norm=False, bias=False),
        lambda layer, x, norm: layer(x, norm),
        plain_swiglu,
    ),
    "attention": (lambda: Attention(24, 3, True), lambda layer, x, norm: layer(x, norm, None), plain_attention),
    "attention without bias": (
        lambda: Attention(24, 3, False),
        lambda layer, x, norm: layer(x, norm, None),
        plain_attention,
    ),
}
each = pytest.mark.parametrize(("make", "ours", "plain"), LAYERS.values(), ids=LAYERS)


def prepared(make, dtype: torch.dtype) -> tuple[nn.Module, LayerNorm, Tensor]:
    torch.manual_seed(0)
    layer, norm = make().to(dtype), LayerNorm(24, eps=1e-6).to(dtype)
    with torch.no_grad():
        for parameter in (*layer.parameters(), *norm.parameters()):
            parameter += 0.1 * torch.randn_like(parameter)
    return layer, norm, torch.randn(3, 151, 24, dtype=dtype, requires_grad=True)


def results(call, layer: nn.Module, x: Tensor, norm: LayerNorm) -> dict[str, Tensor]:
    """Output and all gradients."""
    inputs = {"x": x, **dict(layer.named_parameters()), **{f"norm.{k}": p for k, p in norm.named_parameters()}}
    y = call(layer, x, norm)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    gradients = torch.autograd.grad((y * weights).sum(), list(inputs.values()))
    return {"output": y, **dict(zip(inputs, gradients, strict=True))}


@each
def test_equals_the_plain_equations(make, ours, plain, monkeypatch):
    monkeypatch.setattr(recompute, "ROWS", 100)  # of 453, so that the last rows are fewer
    prepared_layer = prepared(make, torch.float64)
    layer, norm, x = prepared_layer
    found, expected = results(ours, layer, x, norm), results(plain, layer, x, norm)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11, msg=f"{name}: {{}}".format)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_as_close_to_full_precision_as_the_plain_equations(make, ours, plain, dtype):
    layer, norm, x = prepared(make, torch.float32)
    exact = results(plain, layer, x, norm)
    with torch.autocast("cpu", dtype=dtype):
        found, expected = results(ours, layer, x, norm), results(plain, layer, x, norm)
    assert found["output"].dtype == expected["output"].dtype == dtype
    for name, value in exact.items():
        allowed = 1.5 * (expected[name].float() - value).norm() + 1e-3 * value.norm()
        assert (found[name].float() - value).norm() <= allowed, name
        assert name == "output" or found[name].dtype == torch.float32


@each
def test_keeps_less(make, ours, plain):
    layer, norm, x = prepared(make, torch.float32)
    kept, kept_by_plain = (kept_bytes(lambda call=call: call(layer, x, norm), layer) for call in (ours, plain))
    assert kept < (1 if isinstance(layer, Attention) else 0.7) * kept_by_plain


def kept_bytes(call, layer: nn.Module) -> int:
    """Of what autograd keeps for the backward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = call()
    del y
    return sum(kept.values())


def test_plain_equations_stand_where_no_backward_pass_follows():
    torch.manual_seed(0)
    norm, layer, x = LayerNorm(8), nn.Linear(8, 6), torch.randn(2, 5, 8)
    gated, qkv = torch.randn(2, 5, 16), torch.randn(2, 5, 3, 2, 4)
    calls = [
        lambda: normed_linear(x, norm, layer),
        lambda: activated_linear(x, "gelu", layer),
        lambda: gated_linear(gated, norm, layer),
        lambda: attend(qkv),
    ]
    for call in calls:
        trained = call()
        with torch.no_grad():
            torch.testing.assert_close(call(), trained.detach(), rtol=1e-5, atol=1e-6)
