"""SepFormer: equality with SpeechBrain, sizes, padding, options, precision."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.nn.layers.transformer import TransformerEncoder, sinusoids
from hydraudio.tasks.separation.networks.converters.files import read_speechbrain_folder, write_speechbrain_folder
from hydraudio.tasks.separation.networks.converters.sepformer import (
    sepformer_from_speechbrain,
    sepformer_to_speechbrain,
)
from hydraudio.tasks.separation.networks.sepformer import SepFormer

needs_speechbrain = pytest.mark.skipif(
    importlib.util.find_spec("speechbrain") is None, reason="speechbrain is not installed (extra `speechbrain`)"
)
TINY = {"n_filters": 16, "chunk_size": 10, "n_blocks": 2, "n_layers": 2, "n_heads": 4, "feedforward_channels": 20}


class SpeechBrainSepFormer(nn.Module):
    """Encoder, mask net and decoder as SpeechBrain's recipe puts them together; parameters off their initial values."""

    def __init__(self, positional_encoding: bool = True, chunk_size: int = 10) -> None:
        super().__init__()
        install_torchaudio_standin()
        from speechbrain.lobes.models.dual_path import Decoder, Dual_Path_Model, Encoder, SBTransformerBlock

        torch.manual_seed(0)
        options = {"dropout": 0.0, "use_positional_encoding": positional_encoding, "norm_before": True}
        blocks = [SBTransformerBlock(2, 16, 4, 20, **options) for _ in range(2)]
        options = {"num_layers": 2, "K": chunk_size, "num_spks": 2, "linear_layer_after_inter_intra": False}
        self.encoder = Encoder(kernel_size=16, out_channels=16)
        self.masknet = Dual_Path_Model(16, 16, *blocks, norm="ln", **options)
        self.decoder = Decoder(in_channels=16, out_channels=1, kernel_size=16, stride=8, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += 0.1 * torch.randn_like(parameter)

    def forward(self, mixture: Tensor) -> Tensor:
        features = self.encoder(mixture)
        return torch.stack([self.decoder(features * mask) for mask in self.masknet(features)], dim=1)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {name: module.state_dict() for name, module in self.named_children()}


def tiny(seed: int = 0, **options: object) -> SepFormer:
    torch.manual_seed(seed)
    net = SepFormer(**{"n_sources": 2, **TINY, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needs_speechbrain
@pytest.mark.parametrize(("positional_encoding", "chunk_size"), [(True, 10), (False, 10), (True, 7)])
def test_equals_speechbrain(positional_encoding: bool, chunk_size: int) -> None:
    reference = SpeechBrainSepFormer(positional_encoding, chunk_size)
    net = sepformer_from_speechbrain(reference.parts(), chunk_size, n_heads=4)
    for n_samples in (16, 88, 96, 400, 808, 1208):
        mixture = noise(2, n_samples)
        expected, features = reference(mixture), reference.encoder(mixture)
        assert expected.abs().max() > 0.05
        torch.testing.assert_close(net(mixture), expected, rtol=0, atol=1e-5)
        masks = reference.masknet(features).transpose(0, 1)
        torch.testing.assert_close(net.mask_net(features), masks, rtol=0, atol=1e-5)


@needs_speechbrain
def test_gradients_equal_speechbrains() -> None:
    reference, mixture = SpeechBrainSepFormer(), noise(2, 808)
    net = sepformer_from_speechbrain(reference.parts(), 10, n_heads=4)
    for module in (reference, net):
        (module(mixture) * noise(2, 2, 808, seed=2)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in reference.masknet.named_parameters()}
    ours = tiny(positional_encoding=False)
    ours.load_state_dict({name: parameter.grad for name, parameter in net.named_parameters()})
    converted = sepformer_to_speechbrain(ours)["masknet"]
    assert converted.keys() == gradients.keys()
    for name, gradient in converted.items():
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(gradient, gradients[name], rtol=0, atol=1e-4 * scale + 1e-5, msg=name)


@needs_speechbrain
@pytest.mark.parametrize("positional_encoding", [True, False])
def test_round_trip_through_files(positional_encoding: bool, tmp_path: Path) -> None:
    reference = SpeechBrainSepFormer(positional_encoding)
    write_speechbrain_folder(reference.parts(), tmp_path / "there")
    net = sepformer_from_speechbrain(read_speechbrain_folder(tmp_path / "there"), 10, n_heads=4)
    assert net.positional_encoding == positional_encoding
    write_speechbrain_folder(sepformer_to_speechbrain(net), tmp_path / "back")
    back = read_speechbrain_folder(tmp_path / "back")
    for part, state in reference.parts().items():
        assert back[part].keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(back[part][key], value, rtol=0, atol=1e-6 if key.endswith(".pe") else 0)
    reference.masknet.load_state_dict(back["masknet"])


def test_older_checkpoint() -> None:
    net = tiny()
    parts = sepformer_to_speechbrain(net)
    old = {key.replace("_mdl.mdl.", "_mdl.transformer."): value for key, value in parts["masknet"].items()}
    assert old.keys() != parts["masknet"].keys()
    state = sepformer_from_speechbrain(parts | {"masknet": old}, 10, n_heads=4).state_dict()
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


def test_converter_refuses() -> None:
    parts = sepformer_to_speechbrain(tiny())
    del parts["masknet"]["output.0.bias"]
    with pytest.raises(ValueError, match=r"not a SepFormer of SpeechBrain: 1 tensors .*output\.0\.bias"):
        sepformer_from_speechbrain(parts, 10, 4)
    with pytest.raises(ValueError, match="is not a Dual_Path_Model"):
        sepformer_from_speechbrain(parts | {"masknet": {}}, 10, 4)


@pytest.mark.parametrize(("n_sources", "expected"), [(1, 25_613_569), (2, 25_679_361)])
def test_parameter_count(n_sources: int, expected: int) -> None:
    assert sum(p.numel() for p in SepFormer(n_sources=n_sources, n_filters=256).parameters()) == expected


@pytest.mark.parametrize("n_samples", [1, 7, 16, 17, 96, 1000])
def test_any_length(n_samples: int) -> None:
    estimate = tiny()(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


def test_more_chunks_than_speechbrains_table() -> None:
    net = tiny(chunk_size=2, n_layers=1, n_blocks=1).eval()
    with torch.no_grad():
        estimate = net(noise(1, 2600 * 8))
    assert net.mask_net.chunk_size == 2
    assert estimate.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"positional_encoding": False}, {"chunk_size": 7}])
def test_padding_changes_nothing(options: dict[str, object]) -> None:
    net, lengths = tiny(**options), torch.tensor([1208, 900, 401, 30, 1])
    mixture = noise(5, 1208)
    estimate = net(mixture, lengths)
    for item, together, n in zip(mixture, estimate, lengths.tolist(), strict=True):
        torch.testing.assert_close(together[:, :n], net(item[None, :n])[0], rtol=0, atol=1e-4)


def test_gradients_with_padding() -> None:
    net, lengths = tiny(), torch.tensor([600, 250])
    mixture, weight = noise(2, 600), noise(2, 2, 600, seed=2)
    weight[1, :, 250:] = 0
    (net(mixture, lengths) * weight).sum().backward()
    together = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    for item, w, n in zip(mixture, weight, lengths.tolist(), strict=True):
        (net(item[None, :n]) * w[None, :, :n]).sum().backward()
    for gradient, parameter in zip(together, net.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-4)


def test_independent_of_batch() -> None:
    net, mixture = tiny(), noise(3, 700) * torch.tensor([[1.0], [100.0], [1e-3]])
    for item, estimate in zip(mixture, net(mixture), strict=True):
        torch.testing.assert_close(net(item[None])[0], estimate, rtol=0, atol=1e-5 * estimate.abs().max().item())


def test_transformer_equals_pytorchs() -> None:
    torch.manual_seed(0)
    ours = TransformerEncoder(1, 16, 4, 20, 0.0, positional_encoding=False)
    layer = nn.TransformerEncoderLayer(16, 4, 20, 0.0, batch_first=True, norm_first=True, layer_norm_eps=1e-6)
    theirs = nn.TransformerEncoder(layer, 1, nn.LayerNorm(16, eps=1e-6), enable_nested_tensor=False)
    names = {"attention.in_proj.": "self_attn.in_proj_", "attention.": "self_attn."}
    state = ours.state_dict()
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    theirs.load_state_dict(state)
    x, n_steps = noise(3, 9, 16), torch.tensor([9, 4, 1])
    expected = theirs(x, src_key_padding_mask=torch.arange(9) >= n_steps[:, None])
    valid = (torch.arange(9) < n_steps[:, None])[..., None]
    torch.testing.assert_close(ours(x, n_steps) * valid, expected * valid, rtol=0, atol=1e-5)


def test_sinusoids_by_definition() -> None:
    table = sinusoids(50, 6).double()
    for t in (0, 1, 49):
        for i in range(3):
            angle = torch.tensor(t * 10000.0 ** (-2 * i / 6), dtype=torch.float64)
            torch.testing.assert_close(table[t, 2 * i], angle.sin(), rtol=0, atol=1e-5)
            torch.testing.assert_close(table[t, 2 * i + 1], angle.cos(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"positional_encoding": False},
        *({name: 2 * value} for name, value in TINY.items()),
    ],
)
def test_option_has_effect(change: dict[str, object]) -> None:
    mixture = noise(1, 600)
    assert (tiny(**change)(mixture) - tiny()(mixture)).abs().max() > 1e-3


def test_dropout_in_training_alone() -> None:
    net, mixture = tiny(dropout=0.3), noise(1, 300)
    assert not torch.equal(net(mixture), net(mixture))
    net.eval()
    assert torch.equal(net(mixture), net(mixture))


@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite_and_near_float32(dtype: torch.dtype, amplitude: float) -> None:
    net, mixture = tiny(), amplitude * noise(2, 600)
    expected, lengths = net(mixture), torch.tensor([600, 300])
    with torch.autocast("cpu", dtype=dtype):
        estimate, masked = net(mixture), net(mixture, lengths)
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 600, seed=2)).square().mean().backward()
    assert masked.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.1 if dtype == torch.bfloat16 else 0.02) * expected.norm()


def test_exported_graph_equals() -> None:
    net, mixture = tiny().eval(), noise(2, 800)
    exported = torch.export.export(net, (mixture,)).module()
    torch.testing.assert_close(exported(mixture), net(mixture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 3}, "n_heads=3 must divide the 16 channels"),
        ({"n_filters": 15, "n_heads": 3}, "15 channels must be even"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
        ({"chunk_size": 1}, "chunk_size=1 leaves no half overlap"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)
