"""DPRNN: equality with SpeechBrain, sizes, padding, options, precision."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.separation.networks.converters.dprnn import dprnn_from_speechbrain, dprnn_to_speechbrain
from hydraudio.tasks.separation.networks.converters.files import read_speechbrain_folder, write_speechbrain_folder
from hydraudio.tasks.separation.networks.dprnn import DPRNN
from hydraudio.testing import NetworkContract

needs_speechbrain = pytest.mark.skipif(
    importlib.util.find_spec("speechbrain") is None, reason="speechbrain is not installed (extra `speechbrain`)"
)
TINY = {"n_filters": 12, "chunk_size": 10, "n_layers": 2, "hidden_size": 5}


class SpeechBrainDPRNN(nn.Module):
    """Encoder, mask net and decoder as SpeechBrain's recipe puts them together; parameters off their initial values."""

    def __init__(self, rnn_type: str = "LSTM", n_rnn_layers: int = 1, norm: str = "ln", chunk_size: int = 10) -> None:
        super().__init__()
        install_torchaudio_standin()
        from speechbrain.lobes.models.dual_path import Decoder, Dual_Path_Model, Encoder, SBRNNBlock

        torch.manual_seed(0)
        blocks = [SBRNNBlock(12, 5, n_rnn_layers, rnn_type, bidirectional=True) for _ in range(2)]
        self.encoder = Encoder(kernel_size=16, out_channels=12)
        self.masknet = Dual_Path_Model(12, 12, *blocks, num_layers=2, norm=norm, K=chunk_size, num_spks=2)
        self.decoder = Decoder(in_channels=12, out_channels=1, kernel_size=16, stride=8, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += 0.1 * torch.randn_like(parameter)

    def forward(self, mixture: Tensor) -> Tensor:
        features = self.encoder(mixture)
        return torch.stack([self.decoder(features * mask) for mask in self.masknet(features)], dim=1)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {name: module.state_dict() for name, module in self.named_children()}


def tiny(seed: int = 0, **options: object) -> DPRNN:
    torch.manual_seed(seed)
    net = DPRNN(**{"n_sources": 2, **TINY, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needs_speechbrain
@pytest.mark.parametrize(
    ("options", "norm"),
    [
        ({}, "gLN"),
        ({"norm": "gln", "chunk_size": 7}, "gLN"),
        ({"norm": "cln", "rnn_type": "GRU"}, "cLN"),
        ({"rnn_type": "RNN", "n_rnn_layers": 2}, "gLN"),
        ({"n_rnn_layers": 2}, "gLN"),
    ],
)
def test_equals_speechbrain(options: dict[str, object], norm: str) -> None:
    reference = SpeechBrainDPRNN(**options)
    net = dprnn_from_speechbrain(reference.parts(), options.get("chunk_size", 10), norm)
    for n_samples in (16, 88, 96, 400, 808, 1208):  # of which several are a multiple of the chunk
        mixture = noise(2, n_samples)
        expected, features = reference(mixture), reference.encoder(mixture)
        assert expected.abs().max() > 0.05
        torch.testing.assert_close(net(mixture), expected, rtol=0, atol=1e-5)
        masks = reference.masknet(features).transpose(0, 1)
        torch.testing.assert_close(net.mask_net(features), masks, rtol=0, atol=1e-5)


@needs_speechbrain
def test_gradients_equal_speechbrains() -> None:
    reference, mixture = SpeechBrainDPRNN(), noise(2, 808)
    net = dprnn_from_speechbrain(reference.parts(), 10, "gLN")
    for module in (reference, net):
        (module(mixture) * noise(2, 2, 808, seed=2)).sum().backward()
    keys = dprnn_to_speechbrain(net)["masknet"].keys()
    gradients = {name: parameter.grad for name, parameter in reference.masknet.named_parameters()}
    assert keys == gradients.keys()
    ours = tiny()
    ours.load_state_dict({name: parameter.grad for name, parameter in net.named_parameters()})
    for name, gradient in dprnn_to_speechbrain(ours)["masknet"].items():
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(gradient, gradients[name], rtol=0, atol=1e-4 * scale + 1e-6, msg=name)


@needs_speechbrain
def test_round_trip_through_files(tmp_path: Path) -> None:
    reference = SpeechBrainDPRNN()
    write_speechbrain_folder(reference.parts(), tmp_path / "there")
    net = dprnn_from_speechbrain(read_speechbrain_folder(tmp_path / "there"), 10, "gLN")
    write_speechbrain_folder(dprnn_to_speechbrain(net), tmp_path / "back")
    back = read_speechbrain_folder(tmp_path / "back")
    for part, state in reference.parts().items():
        assert back[part].keys() == state.keys()
        assert all(torch.equal(back[part][key], value) for key, value in state.items())
    reference.masknet.load_state_dict(back["masknet"])


def test_converter_refuses() -> None:
    with pytest.raises(ValueError, match="runs with bidirectional=True alone"):
        dprnn_to_speechbrain(tiny(bidirectional=False))
    parts = dprnn_to_speechbrain(tiny())
    parts["masknet"]["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"not a DPRNN of SpeechBrain: 1 tensors .*masknet\.ckpt: extra"):
        dprnn_from_speechbrain(parts, 10, "gLN")
    with pytest.raises(ValueError, match="has no recurrent weights"):
        dprnn_from_speechbrain({"encoder": {}, "masknet": {}, "decoder": {}}, 10, "gLN")


@pytest.mark.parametrize(("n_sources", "expected"), [(1, 2_605_633), (2, 2_609_793)])
def test_parameter_count(n_sources: int, expected: int) -> None:
    assert sum(p.numel() for p in DPRNN(n_sources=n_sources, n_filters=64).parameters()) == expected


@pytest.mark.parametrize("n_samples", [1, 7, 16, 17, 96, 1000])
def test_any_length(n_samples: int) -> None:
    estimate = tiny()(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": False},
        {"rnn_type": "GRU", "norm": "cLN"},
        {"rnn_type": "RNN"},
        {"n_rnn_layers": 2, "rnn_type": "GRU"},
        {"n_rnn_layers": 2, "bidirectional": False},
        {"chunk_size": 7},
    ],
)
def test_padding_changes_nothing(options: dict[str, object]) -> None:
    net, lengths = tiny(**options), torch.tensor([1208, 900, 401, 30, 1])
    mixture = noise(5, 1208)
    estimate = net(mixture, lengths)
    for item, together, n in zip(mixture, estimate, lengths.tolist(), strict=True):
        torch.testing.assert_close(together[:, :n], net(item[None, :n])[0], rtol=0, atol=1e-4)


def test_independent_of_batch() -> None:
    net, mixture = tiny(), noise(3, 700) * torch.tensor([[1.0], [100.0], [1e-3]])
    for item, estimate in zip(mixture, net(mixture), strict=True):
        torch.testing.assert_close(net(item[None])[0], estimate, rtol=0, atol=1e-5 * estimate.abs().max().item())


def test_unidirectional_across_chunks_does_not_look_ahead() -> None:
    net = tiny(bidirectional=False, norm="cLN").eval()
    features = noise(1, 12, 100).abs()
    changed = features.clone()
    changed[..., 80:] = noise(1, 12, 20, seed=3).abs()
    with torch.no_grad():
        difference = (net.mask_net(features) - net.mask_net(changed)).abs().amax((0, 1, 2))
    assert difference[:70].max() < 1e-6  # chunks are heard as a whole: ten frames of look-ahead
    assert difference[80:].max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [{"bidirectional": False}, {"rnn_type": "GRU"}, {"rnn_type": "RNN"}, {"n_rnn_layers": 2}, {"norm": "cLN"}]
    + [{name: value + 2} for name, value in TINY.items()],
)
def test_option_has_effect(change: dict[str, object]) -> None:
    mixture = noise(1, 600)
    assert (tiny(**change)(mixture) - tiny()(mixture)).abs().max() > 1e-3


def test_dropout_between_recurrent_layers() -> None:
    net, mixture = tiny(n_rnn_layers=2, dropout=0.5), noise(1, 300)
    assert not torch.equal(net(mixture), net(mixture))
    lengths = torch.tensor([300])
    assert not torch.equal(net(mixture, lengths), net(mixture, lengths))
    net.eval()
    assert torch.equal(net(mixture), net(mixture))
    torch.testing.assert_close(net(mixture, lengths), net(mixture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"bidirectional": False}, {"rnn_type": "GRU", "n_rnn_layers": 2}])
def test_gradient_in_every_parameter(options: dict[str, object]) -> None:
    NetworkContract(tiny(**options), 400).every_parameter_learns()


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rnn_type": "lstm"}, "rnn_type='lstm' is unknown .did you mean 'LSTM'.*; choose one of LSTM, GRU, RNN"),
        ({"norm": "bn"}, "norm='bn' is unknown"),
        ({"dropout": 0.1}, "dropout=0.1 lies between recurrent layers, of which n_rnn_layers=1 has none"),
        ({"dropout": 1.0, "n_rnn_layers": 2}, "must be at least 0 and below 1"),
        ({"n_layers": 0}, "n_layers=0 must be at least 1"),
        ({"chunk_size": 1}, "chunk_size=1 leaves no half overlap"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)
