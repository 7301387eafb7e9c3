"""Mamba mixers: equations, initialisation, names, directions, padding, streams, precision."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.nn.layers.mamba import (
    BiMamba,
    ConcatenatedBiMamba,
    Mamba,
    RMSNorm,
    initialize_output_projections,
)

MIXERS = [Mamba, BiMamba, ConcatenatedBiMamba]
DIRECTIONS = [(Mamba, ""), (BiMamba, ""), (BiMamba, "_b")]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perturbed(net: nn.Module, seed: int = 0) -> nn.Module:
    """No parameter at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.double()


def build(mixer: type[nn.Module], d_model: int = 8, **sizes: int) -> nn.Module:
    torch.manual_seed(0)
    return perturbed(mixer(d_model, **{"d_state": 4, **sizes}))


def direction_by_equations(x: Tensor, p: dict[str, Tensor], suffix: str = "") -> Tensor:
    """Convolution, selection and scan of one direction, one step after the other. x: (batch, steps, d_inner)."""
    kernel = p[f"conv1d{suffix}.weight"]
    padded = F.pad(x.transpose(1, 2), (kernel.shape[-1] - 1, 0))
    x = F.silu(F.conv1d(padded, kernel, p[f"conv1d{suffix}.bias"], groups=x.shape[-1])).transpose(1, 2)
    A = -p[f"A{suffix}_log"].exp()
    low, B, C = F.linear(x, p[f"x_proj{suffix}.weight"]).split(
        (p["dt_proj.weight"].shape[1], A.shape[1], A.shape[1]), -1
    )
    dt = F.softplus(F.linear(low, p[f"dt_proj{suffix}.weight"], p[f"dt_proj{suffix}.bias"]))
    h, outputs = torch.zeros(len(x), *A.shape, dtype=x.dtype), []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1) + p[f"D{suffix}"] * x[:, t])
    return torch.stack(outputs, 1)


def mamba_by_equations(x: Tensor, p: dict[str, Tensor]) -> Tensor:
    x, z = F.linear(x, p["in_proj.weight"]).chunk(2, -1)
    return F.linear(direction_by_equations(x, p) * F.silu(z), p["out_proj.weight"])


@pytest.mark.parametrize("sizes", [{}, {"expand": 4, "d_conv": 2}, {"d_conv": 1, "dt_rank": 3}])
def test_mamba_equals_equations(sizes: dict[str, int]) -> None:
    net, x = build(Mamba, **sizes), noise(2, 40, 8).double()
    torch.testing.assert_close(net(x), mamba_by_equations(x, dict(net.named_parameters())))


def test_bimamba_equals_equations() -> None:
    net, x = build(BiMamba), noise(2, 40, 8).double()
    p = dict(net.named_parameters())
    u, z = F.linear(x, p["in_proj.weight"]).chunk(2, -1)
    mean = 0.5 * (direction_by_equations(u, p) + direction_by_equations(u.flip(1), p, "_b").flip(1))
    torch.testing.assert_close(net(x), F.linear(mean * F.silu(z), p["out_proj.weight"]))


def test_concatenated_equals_two_residual_blocks() -> None:
    net, x = build(ConcatenatedBiMamba), noise(2, 40, 8).double()
    forward, backward = net.forward_blocks[0], net.backward_blocks[0]

    def block(block: nn.Module, x: Tensor) -> Tensor:
        normed = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight
        return mamba_by_equations(normed, dict(block.mixer.named_parameters())) + x

    expected = torch.cat([block(forward, x), block(backward, x.flip(1)).flip(1)], -1)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(torch.cat([forward(x), backward(x.flip(1)).flip(1)], -1), expected)


def test_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    install_torchaudio_standin()  # transformers imports torchaudio where there is one
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = transformers.MambaConfig(hidden_size=8, state_size=4, num_hidden_layers=1, use_mambapy=False)
    torch.manual_seed(0)
    reference = MambaMixer(config, layer_idx=0)
    net = Mamba(8, d_state=4)
    net.load_state_dict(reference.state_dict(), strict=True)
    x = noise(2, 20, 8)
    torch.testing.assert_close(net(x), reference(x), rtol=1e-4, atol=1e-6)


def test_names_and_shapes_of_mamba_ssm() -> None:
    """As `mamba_ssm.Mamba(d_model=48)` stores them, and Vision Mamba's second direction."""
    direction = {
        "conv1d.weight": (96, 1, 4),
        "conv1d.bias": (96,),
        "x_proj.weight": (3 + 2 * 16, 96),
        "dt_proj.weight": (96, 3),
        "dt_proj.bias": (96,),
        "A_log": (96, 16),
        "D": (96,),
    }
    shared = {"in_proj.weight": (192, 48), "out_proj.weight": (48, 96)}
    names = {"A_log": "A_b_log", "D": "D_b"}
    second = {names.get(k, k.replace(".", "_b.")): shape for k, shape in direction.items()}
    assert {k: tuple(v.shape) for k, v in Mamba(48).state_dict().items()} == {**shared, **direction}
    assert {k: tuple(v.shape) for k, v in BiMamba(48).state_dict().items()} == {**shared, **direction, **second}
    pair = {
        f"{side}.0.mixer.{name}" for side in ("forward_blocks", "backward_blocks") for name in (*shared, *direction)
    }
    norms = {f"{side}.0.norm.weight" for side in ("forward_blocks", "backward_blocks")}
    assert set(ConcatenatedBiMamba(48).state_dict()) == pair | norms


def test_parameter_count() -> None:
    """3 d d_inner + 2 (...) for the form with two directions."""
    d, n, k, r = 64, 16, 4, 4
    e = 2 * d
    direction = e * k + e + e * (r + 2 * n) + r * e + e + e * n + e
    assert sum(p.numel() for p in BiMamba(d).parameters()) == 3 * d * e + 2 * direction
    assert sum(p.numel() for p in Mamba(d).parameters()) == 3 * d * e + direction


@pytest.mark.parametrize(("mixer", "suffix"), DIRECTIONS)
def test_initial_values(mixer: type[Mamba], suffix: str) -> None:
    torch.manual_seed(0)
    net = mixer(256)
    p = {name: value.detach() for name, value in net.named_parameters()}
    step = F.softplus(p[f"dt_proj{suffix}.bias"])
    assert step.min() >= 0.999e-3
    assert step.max() <= 1.001e-1
    assert step.log().mean() == pytest.approx((math.log(1e-3) + math.log(1e-1)) / 2, abs=0.2)  # log-uniform
    weight = p[f"dt_proj{suffix}.weight"]
    assert 0.95 * 16**-0.5 < weight.abs().max() <= 16**-0.5
    torch.testing.assert_close(p[f"A{suffix}_log"].exp(), torch.arange(1.0, 17).expand(512, 16))
    assert torch.equal(p[f"D{suffix}"], torch.ones(512))


def test_directions_start_apart() -> None:
    net = BiMamba(32)
    assert not torch.equal(net.dt_proj.bias, net.dt_proj_b.bias)
    assert not torch.equal(net.x_proj.weight, net.x_proj_b.weight)


@pytest.mark.parametrize("mixer", MIXERS)
def test_weight_decay_and_later_initialisation(mixer: type[nn.Module]) -> None:
    net = mixer(16)
    exempt = {name for name, p in net.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert exempt == {name for name, p in net.named_parameters() if p.ndim == 1 or name.endswith("_log")}
    marked = {name for name, p in net.named_parameters() if getattr(p, "_no_reinit", False)}
    assert marked == {name for name in net.state_dict() if "dt_proj" in name and name.endswith("bias")}
    before = {name: p.clone() for name, p in net.named_parameters()}
    initialize_output_projections(net, 4)
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "out_proj" in name}


@pytest.mark.parametrize("mixer", [BiMamba, ConcatenatedBiMamba])
def test_padding_does_not_count(mixer: type[nn.Module]) -> None:
    net, x, n_steps = build(mixer), noise(3, 50, 8).double(), torch.tensor([50, 23, 1])
    together = net(x, n_steps)
    for item, n, y in zip(x, n_steps, together, strict=True):
        torch.testing.assert_close(net(item[None, :n])[0], y[:n])


@pytest.mark.parametrize("mixer", [BiMamba, ConcatenatedBiMamba])
def test_every_output_sees_every_step(mixer: type[nn.Module]) -> None:
    net, x = build(mixer), noise(1, 12, 8).double().requires_grad_()
    for t in (0, 5, 11):
        (grad,) = torch.autograd.grad(net(x)[0, t].sum(), x)
        assert (grad[0].abs().amax(-1) > 0).all()


def test_mamba_is_causal() -> None:
    net, x = build(Mamba), noise(1, 12, 8).double().requires_grad_()
    (grad,) = torch.autograd.grad(net(x)[0, 5].sum(), x)
    assert grad[0, :6].abs().amax(-1).min() > 0
    assert not grad[0, 6:].any()


@pytest.mark.parametrize("pieces", [(1,) * 6 + (44,), (3, 46, 1), (50,), (2, 48)])
def test_stream_equals_whole(pieces: tuple[int, ...]) -> None:
    net, x = build(Mamba).float(), noise(2, 50, 8)
    state, outputs = net.initial_state(2), []
    for piece in x.split(pieces, 1):
        y, state = net.stream(piece, state)
        assert not y.requires_grad
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), net(x), rtol=0, atol=1e-5)


def test_stream_without_convolution_memory() -> None:
    net, x = build(Mamba, d_conv=1), noise(1, 9, 8).double()
    first, state = net.stream(x[:, :4], net.initial_state(1))
    second, _ = net.stream(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), net(x))


def test_rms_norm() -> None:
    norm = RMSNorm(6, eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(noise(6))
    x = noise(4, 6, seed=2)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (6,), norm.weight, 1e-3))
    tiny = (1e-4 * x).half()  # its squares are below what float16 holds
    expected = RMSNorm(6)(tiny.float()).half()
    assert torch.equal(RMSNorm(6)(tiny), expected)
    assert expected.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("mixer", MIXERS)
def test_autocast_is_finite_and_near_float32(mixer: type[nn.Module], amplitude: float, dtype: torch.dtype) -> None:
    net, x = build(mixer, 16).float(), amplitude * noise(2, 60, 16)
    expected = net(x)
    with torch.autocast("cpu", dtype=dtype):
        y = net(x)
    (y.float() * noise(*y.shape)).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (y - expected).norm() <= (0.05 if dtype == torch.bfloat16 else 0.01) * expected.norm()


@pytest.mark.parametrize("mixer", MIXERS)
def test_compiled_equals(mixer: type[nn.Module]) -> None:
    net, x = build(mixer), noise(2, 20, 8).double()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.parametrize("name", ["d_model", "d_state", "d_conv", "expand", "dt_rank"])
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        Mamba(**{"d_model": 8, name: 0})
