"""Conv-TasNet from and to SpeechBrain, equality with its network, and the script that converts."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.tasks.separation.networks.converters.conv_tasnet import (
    conv_tasnet_from_speechbrain,
    conv_tasnet_to_speechbrain,
)
from hydraudio.tasks.separation.networks.converters.files import read_speechbrain_folder, write_speechbrain_folder

needs_speechbrain = pytest.mark.skipif(
    importlib.util.find_spec("speechbrain") is None, reason="speechbrain is not installed (extra `speechbrain`)"
)
SIZES = {"N": 16, "B": 8, "H": 12, "P": 3, "X": 3, "R": 2, "C": 2}


def speechbrain_parts(norm: str, causal: bool, **sizes: int) -> dict[str, nn.Module]:
    """SpeechBrain's modules, with norms and slopes off their initial values."""
    install_torchaudio_standin()
    from speechbrain.lobes.models.conv_tasnet import MaskNet
    from speechbrain.lobes.models.dual_path import Decoder, Encoder

    sizes = {**SIZES, **sizes}
    torch.manual_seed(0)
    parts = {
        "encoder": Encoder(kernel_size=16, out_channels=sizes["N"]),
        "masknet": MaskNet(**sizes, norm_type=norm, causal=causal),
        "decoder": Decoder(in_channels=sizes["N"], out_channels=1, kernel_size=16, stride=8, bias=False),
    }
    with torch.no_grad():
        for part in parts.values():
            for parameter in part.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return parts


def speechbrain_forward(parts: dict[str, nn.Module], mixture: Tensor) -> Tensor:
    features = parts["encoder"](mixture)
    return torch.stack([parts["decoder"](features * mask) for mask in parts["masknet"](features)], dim=1)


def states(parts: dict[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {name: part.state_dict() for name, part in parts.items()}


@needs_speechbrain
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", ["gLN", "cLN"])
def test_equals_speechbrain(norm: str, causal: bool, taps: int) -> None:
    reference = speechbrain_parts(norm, causal, P=taps)
    net = conv_tasnet_from_speechbrain(states(reference), norm, causal)
    mixture = torch.randn(2, 1600)
    expected, estimate = speechbrain_forward(reference, mixture), net(mixture)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-5)
    target = torch.randn(2, 2, 1600)
    (expected * target).mean().backward()
    (estimate * target).mean().backward()
    for parameter, theirs in ((net.encoder.conv.weight, "encoder"), (net.decoder.conv.weight, "decoder")):
        torch.testing.assert_close(parameter.grad, next(reference[theirs].parameters()).grad, rtol=1e-3, atol=1e-6)


@needs_speechbrain
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", ["gLN", "cLN"])
def test_round_trip_through_files(norm: str, causal: bool, tmp_path: Path) -> None:
    original = states(speechbrain_parts(norm, causal))
    write_speechbrain_folder(original, tmp_path / "there")
    net = conv_tasnet_from_speechbrain(read_speechbrain_folder(tmp_path / "there"), norm, causal)
    write_speechbrain_folder(conv_tasnet_to_speechbrain(net, causal), tmp_path / "back")
    back = read_speechbrain_folder(tmp_path / "back")
    for part, state in original.items():
        assert list(back[part]) == list(state)
        assert all(torch.equal(back[part][key], value) for key, value in state.items())
    speechbrain_parts(norm, causal)["masknet"].load_state_dict(back["masknet"])


@needs_speechbrain
@pytest.mark.parametrize(("sources", "expected"), [(1, 1_249_060), (2, 1_265_444)])
def test_parameter_count_is_speechbrains(sources: int, expected: int) -> None:
    parts = speechbrain_parts("gLN", False, N=128, B=128, H=256, X=6, R=3, C=sources)
    assert sum(p.numel() for part in parts.values() for p in part.parameters()) == expected


def tiny(**options: object) -> ConvTasNet:
    sizes = {"n_filters": 8, "bottleneck_channels": 4, "hidden_channels": 6, "n_blocks": 2, "n_repeats": 1}
    return ConvTasNet(**{"n_sources": 1, "padding": "reflect", **sizes, **options})


@pytest.mark.parametrize(
    ("options", "causal", "message"),
    [
        ({"padding": "zero"}, False, "needs padding='reflect'"),
        ({"mask_activation": "sigmoid"}, False, "needs mask_activation='relu'"),
        ({"eps": 1e-5}, False, "needs eps=1e-08"),
        ({"norm": "BN"}, False, "does not run with norm='BN'"),
        ({"padding": "zero", "norm": "cLN", "causal": True}, True, "block_kernel_size=3 does not come from"),
        ({"padding": "zero", "norm": "cLN", "causal": True, "block_kernel_size": 4}, True, "are not zero"),
    ],
)
def test_refuses_what_speechbrain_cannot_compute(options: dict[str, object], causal: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conv_tasnet_to_speechbrain(tiny(**options), causal)


def test_missing_file_is_named(tmp_path: Path) -> None:
    write_speechbrain_folder(conv_tasnet_to_speechbrain(tiny(), causal=False), tmp_path)
    (tmp_path / "masknet.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"masknet\.ckpt"):
        read_speechbrain_folder(tmp_path)


def test_unknown_tensors_are_refused() -> None:
    parts = conv_tasnet_to_speechbrain(tiny(), causal=False)
    parts["decoder"]["bias"] = torch.zeros(1)
    with pytest.raises(ValueError, match="not a Conv-TasNet of SpeechBrain"):
        conv_tasnet_from_speechbrain(parts, "gLN", causal=False)


@pytest.fixture
def script(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "convert", repository / "scripts" / "separation" / "convert_checkpoint.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT_CASES = {
    "conv_tasnet": ({"bottleneck_channels": 4, "n_blocks": 2, "padding": "reflect"}, ["--norm", "gLN"]),
    "dprnn": ({"chunk_size": 6, "n_layers": 2, "hidden_size": 3}, ["--chunk-size", "6", "--norm", "gLN"]),
    "sepformer": ({"chunk_size": 6, "n_layers": 1, "n_heads": 2}, ["--chunk-size", "6", "--n-heads", "2"]),
    "resepformer": ({"segment_frames": 6, "n_heads": 2, "n_layers": 1}, ["--n-heads", "2", "--segment-frames", "6"]),
}


@pytest.mark.parametrize("model", SCRIPT_CASES)
def test_script_both_ways(model: str, script: ModuleType, tmp_path: Path) -> None:
    converter, (sizes, options) = script.CONVERTERS[model], SCRIPT_CASES[model]
    given = {"n_sources": 2, "n_filters": 8, **sizes}
    net = converter.net(**given)
    parts = converter.write(net, causal=False) if model == "conv_tasnet" else converter.write(net)
    write_speechbrain_folder(parts, tmp_path / "theirs")
    reading = ["from-speechbrain", "--model", model, str(tmp_path / "theirs"), str(tmp_path / "ours.pt"), *options]
    script.main(reading)
    assert torch.load(tmp_path / "ours.pt", weights_only=True)["arguments"].items() >= given.items()
    script.main(["to-speechbrain", str(tmp_path / "ours.pt"), str(tmp_path / "back")])
    node = {"_target_": script.target(converter.net), **given}
    checkpoint = {
        "hydraudio_config": OmegaConf.to_yaml({"model": {"net": node}}),
        "state_dict": {f"net.{key}": value for key, value in net.state_dict().items()},
    }
    torch.save(checkpoint, tmp_path / "last.ckpt")
    script.main(["to-speechbrain", str(tmp_path / "last.ckpt"), str(tmp_path / "trained")])
    expected = read_speechbrain_folder(tmp_path / "theirs")
    for folder in ("back", "trained"):
        for part, state in read_speechbrain_folder(tmp_path / folder).items():
            assert state.keys() == expected[part].keys()
            assert all(torch.equal(state[key], value) for key, value in expected[part].items())


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("sepformer", ["--chunk-size", "6"], "sepformer needs --n-heads"),
        ("dprnn", ["--chunk-size", "6", "--norm", "gLN", "--n-heads", "2"], "dprnn has no --n-heads"),
        ("dprnn", ["--chunk-size", "6", "--norm", "gLN", "--causal"], "dprnn has no --causal"),
    ],
)
def test_script_refuses_wrong_options(
    model: str, options: list[str], message: str, script: ModuleType, tmp_path: Path
) -> None:
    write_speechbrain_folder(conv_tasnet_to_speechbrain(tiny(), causal=False), tmp_path)
    with pytest.raises(SystemExit, match=message):
        script.main(["from-speechbrain", "--model", model, str(tmp_path), str(tmp_path / "ours.pt"), *options])


def test_script_refuses_other_networks(script: ModuleType, tmp_path: Path) -> None:
    torch.save({"target": "torch.nn.Linear", "arguments": {}, "state_dict": {}}, tmp_path / "weights.pt")
    with pytest.raises(
        ValueError, match=r"holds a torch\.nn\.Linear; those that convert to SpeechBrain are conv_tasnet"
    ):
        script.main(["to-speechbrain", str(tmp_path / "weights.pt"), str(tmp_path)])
