"""RE-SepFormer: sizes, lengths, independence of the batch, equality with SpeechBrain, precision, options."""

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.separation.networks.converters.resepformer import (
    resepformer_from_speechbrain,
    resepformer_to_speechbrain,
)
from hydraudio.tasks.separation.networks.resepformer import RESepFormer

needs_speechbrain = pytest.mark.skipif(
    importlib.util.find_spec("speechbrain") is None, reason="speechbrain is not installed (extra `speechbrain`)"
)
TINY = {"n_filters": 16, "n_layers": 2, "n_heads": 4, "feedforward_channels": 24, "segment_frames": 20, "n_blocks": 3}


def shaken(net: nn.Module) -> nn.Module:
    """With norms and biases off their initial values."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def tiny(seed: int = 0, **options: object) -> RESepFormer:
    torch.manual_seed(seed)
    return shaken(RESepFormer(**{"n_sources": 2, **TINY, **options}))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def speechbrain_parts(nonlinear: str = "relu", positions: bool = True, n_sources: int = 2) -> dict[str, nn.Module]:
    install_torchaudio_standin()
    from speechbrain.lobes.models.dual_path import Decoder, Encoder
    from speechbrain.lobes.models.resepformer import ResourceEfficientSeparator, SBTransformerBlock_wnormandskip

    torch.manual_seed(0)
    blocks = [
        SBTransformerBlock_wnormandskip(
            num_layers=2,
            d_model=16,
            nhead=4,
            d_ffn=24,
            dropout=0.0,
            use_positional_encoding=positions,
            norm_before=True,
        )
        for _ in range(2)
    ]
    parts = {
        "encoder": Encoder(kernel_size=16, out_channels=16),
        "masknet": ResourceEfficientSeparator(
            16,
            causal=False,
            num_spk=n_sources,
            nonlinear=nonlinear,
            layer=3,
            unit=32,
            segment_size=20,
            mem_type="av",
            seg_model=blocks[0],
            mem_model=blocks[1],
        ),
        "decoder": Decoder(in_channels=16, out_channels=1, kernel_size=16, stride=8, bias=False),
    }
    return {name: shaken(part).eval() for name, part in parts.items()}


def speechbrain_forward(parts: dict[str, nn.Module], mixture: Tensor) -> Tensor:
    features = parts["encoder"](mixture)
    estimates = [parts["decoder"](features * mask).view(len(mixture), -1) for mask in parts["masknet"](features)]
    return torch.stack(estimates, dim=1)


def states(parts: dict[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {name: part.state_dict() for name, part in parts.items()}


def converted(reference: dict[str, nn.Module], nonlinear: str = "relu") -> RESepFormer:
    return resepformer_from_speechbrain(states(reference), n_heads=4, segment_frames=20, mask_activation=nonlinear)


@needs_speechbrain
@pytest.mark.parametrize("n_frames", [1, 19, 20, 21, 60, 97])
@pytest.mark.parametrize(("nonlinear", "positions"), [("relu", True), ("sigmoid", False)])
def test_equals_speechbrain_for_one_item(nonlinear: str, positions: bool, n_frames: int) -> None:
    reference = speechbrain_parts(nonlinear, positions)
    net = converted(reference, nonlinear)
    mixture = noise(1, 8 * n_frames + 8)
    expected = speechbrain_forward(reference, mixture)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(net(mixture), expected, rtol=0, atol=1e-5)


@needs_speechbrain
def test_gradients_equal_speechbrains() -> None:
    reference = speechbrain_parts()
    net, mixture, target = converted(reference), noise(1, 800), noise(1, 2, 800, seed=2)
    (speechbrain_forward(reference, mixture) * target).sum().backward()
    (net(mixture) * target).sum().backward()
    gradients = {name: {k: p.grad for k, p in part.named_parameters()} for name, part in reference.items()}
    expected = resepformer_from_speechbrain(with_positions(gradients), n_heads=4, segment_frames=20)
    for (name, parameter), theirs in zip(net.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-3, atol=1e-4, msg=name)


def with_positions(parts: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {**parts, "masknet": {**parts["masknet"], "model.seg_model.0.pos_enc.pe": torch.zeros(1)}}


@needs_speechbrain
def test_speechbrains_memory_sees_other_items_and_ours_does_not() -> None:
    reference = speechbrain_parts()
    net, mixture = converted(reference), noise(2, 1200) * torch.tensor([[1.0], [3.0]])
    theirs, ours = speechbrain_forward(reference, mixture), net(mixture)
    assert (theirs[0] - speechbrain_forward(reference, mixture[:1])[0]).abs().max() > 1e-2
    for item, estimate in zip(mixture, ours, strict=True):
        torch.testing.assert_close(estimate, speechbrain_forward(reference, item[None])[0], rtol=0, atol=1e-5)


@needs_speechbrain
@pytest.mark.parametrize("n_sources", [1, 2])
@pytest.mark.parametrize("positions", [True, False])
def test_round_trip(positions: bool, n_sources: int) -> None:
    reference = speechbrain_parts(positions=positions, n_sources=n_sources)
    back = resepformer_to_speechbrain(converted(reference))
    for name, state in states(reference).items():
        assert back[name].keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(back[name][key], value, rtol=0, atol=1e-6 if "pos_enc" in key else 0)


def test_conversion_refuses_other_networks() -> None:
    parts = resepformer_to_speechbrain(tiny())
    with pytest.raises(ValueError, match=r"tensors too many or too few \(masknet\.ckpt: model\.extra"):
        resepformer_from_speechbrain({**parts, "masknet": {**parts["masknet"], "model.extra": torch.zeros(1)}}, 4, 20)
    with pytest.raises(ValueError, match="is not an RE-SepFormer"):
        resepformer_from_speechbrain({**parts, "masknet": {"a": torch.zeros(1)}}, 4, 20)


@pytest.mark.parametrize(
    ("n_sources", "size", "expected"),
    [(1, {}, 7_938_689), (2, {}, 7_955_201), (1, {"n_filters": 256}, 19_031_297), (2, {"n_filters": 256}, 19_097_089)],
)
def test_parameter_count(n_sources: int, size: dict[str, int], expected: int) -> None:
    assert (
        sum(p.numel() for p in RESepFormer(n_sources=n_sources, **{"n_filters": 128, **size}).parameters()) == expected
    )


@pytest.mark.parametrize("n_samples", [1, 7, 16, 17, 168, 169, 1000])
def test_any_length(n_samples: int) -> None:
    estimate = tiny()(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_independent_of_batch_and_padding(training: bool) -> None:
    net = tiny().train(training)
    lengths = torch.tensor([1300, 1, 168, 1288, 700])  # 168 samples are 20 frames: one whole segment
    mixture = noise(5, 1300) * torch.tensor([[1.0], [1.0], [100.0], [1e-3], [5.0]])
    together = net(mixture, lengths)
    for item, estimate, length in zip(mixture, together, lengths.tolist(), strict=True):
        alone = net(item[None, :length])[0]
        torch.testing.assert_close(estimate[:, :length], alone, rtol=0, atol=1e-5 * alone.abs().max().item())
    torch.testing.assert_close(net(mixture), net(mixture, torch.full((5,), 1300)), rtol=1e-4, atol=1e-4)


def test_memory_carries_over_segments() -> None:
    mixture = noise(1, 1000)
    changed = torch.cat([mixture[:, :800], noise(1, 200, seed=3)], dim=1)
    assert (tiny()(mixture) - tiny()(changed))[..., :100].abs().max() > 1e-4
    assert (tiny(n_blocks=1)(mixture) - tiny(n_blocks=1)(changed))[..., :100].abs().max() == 0


def test_silence() -> None:
    net = tiny()
    estimate = net(torch.zeros(2, 500))
    (estimate + noise(2, 2, 500)).square().sum().backward()
    assert torch.equal(estimate, torch.zeros(2, 2, 500))
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite_and_near_float32(dtype: torch.dtype, amplitude: float) -> None:
    net, mixture = tiny(), amplitude * noise(2, 600)
    expected = net(mixture)
    with torch.autocast("cpu", dtype=dtype):
        estimate = net(mixture)
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 600, seed=2)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.1 if dtype == torch.bfloat16 else 0.02) * expected.norm()


@pytest.mark.parametrize(
    "change",
    [
        {"mask_activation": "sigmoid"},
        {"positional_encoding": False},
        {"n_blocks": 2},
        {"n_heads": 2},
        {"segment_frames": 30},
        {"dropout": 0.5},
    ],
)
def test_option_has_effect(change: dict[str, object]) -> None:
    assert (tiny()(noise(1, 600)) - tiny(**change)(noise(1, 600))).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_activation": "tanh"}, "mask_activation='tanh' is unknown; choose one of relu, sigmoid"),
        ({"n_heads": 3}, "n_heads=3 must divide"),
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
        ({"segment_frames": 0}, "segment_frames=0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"n_filters": 15, "n_heads": 5}, "must be even"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_exported_graph_equals() -> None:
    net, mixture = tiny().eval(), noise(2, 400)
    exported = torch.export.export(net, (mixture,)).module()
    torch.testing.assert_close(exported(mixture), net(mixture), rtol=1e-4, atol=1e-4)
