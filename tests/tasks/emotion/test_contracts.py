"""What every network of emotion recognition promises. New files are picked up by themselves."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from hydraudio.core.task import count_parameters

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "configs" / "model" / "emotion"
N_SAMPLES = 6003
TINY_UPSTREAM = yaml.safe_load(Path(__file__).with_name("tiny_upstream.yaml").read_text())
DATA = SimpleNamespace(  # what a network reads of its corpus
    n_classes=8,
    class_names=["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"],
    class_counts=[70, 60, 120, 10, 8, 8, 8, 160],
    attribute_names=["arousal", "valence", "dominance"],
    waveform_mean=1e-4,
    waveform_std=0.1,
)


EMOTION = sorted(path.stem for path in MODELS.glob("*.yaml") if not path.stem.startswith("_"))
_ARGUMENTS: dict[str, dict] = {}


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Make the network of a YAML; `tiny`: with the upstream of tiny_networks.yaml."""
    from hydra_preflight.compose import compose_run
    from hydra_preflight.resolvers import bind_data_attributes
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    install_torchaudio_standin()

    def make(option: str, tiny: bool = True) -> nn.Module:
        if option not in _ARGUMENTS:
            cfg = compose_run(["task=emotion", f"model=emotion/{option}"], tmp_path)
            bind_data_attributes(DATA)
            _ARGUMENTS[option] = OmegaConf.to_container(cfg.model.net, resolve=True)  # type: ignore[assignment]
        arguments: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(_ARGUMENTS[option]))  # type: ignore[assignment]
        if tiny:
            arguments["upstream"]["architecture"] = TINY_UPSTREAM
        torch.manual_seed(0)
        return instantiate(arguments, _convert_="all")

    return make


@pytest.fixture(params=EMOTION)
def network(request, build):
    """The network of a YAML, tiny."""
    return build(request.param)


def noise(*shape: int, amplitude: float = 0.1) -> torch.Tensor:
    return amplitude * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def scored(output: dict[str, torch.Tensor]) -> torch.Tensor:
    """A scalar in which every output of every head counts differently."""
    terms = [
        value.float() * noise(*value.shape, amplitude=1.0) for name, value in output.items() if name != "embedding"
    ]
    return torch.stack([term.sum() for term in terms]).sum()


def test_network_contract(network):
    """Shapes, a gradient in every trained parameter, independence of the batch, state dict."""
    net, waveform = network, noise(2, N_SAMPLES)
    output = net(waveform, None, torch.tensor([0, 2]))
    assert output["embedding"].shape[0] == 2
    assert ("logits" in output, "attributes" in output) == (net.n_classes > 0, net.n_attributes > 0)
    assert output.get("logits", torch.zeros(2, 8)).shape == (2, 8)
    attributes = output.get("attributes", torch.full((2, 3), 0.5))
    assert attributes.shape == (2, 3)
    assert ((attributes > 0) & (attributes < 1)).all()
    scored(output).backward()
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    moved = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == trained

    net.eval()
    with torch.no_grad():
        together = net(waveform)
        assert_equal(net(waveform[:1]), {name: value[:1] for name, value in together.items()})
        state = {key: value.clone() for key, value in net.state_dict().items()}
        for value in net.parameters():
            value.add_(1)
        net.load_state_dict(state)
        assert_equal(net(waveform), together)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing(network):
    """An item of a padded batch gets what it gets alone, whatever the padding holds; so do its features."""
    net, lengths = network.eval(), [N_SAMPLES, 2500, 300]
    waveform, gender = noise(3, N_SAMPLES), torch.tensor([0, 1, 2])
    with torch.no_grad():
        together = net(waveform, torch.tensor(lengths), gender)
        assert_equal(net.classify(*net.encode(waveform, torch.tensor(lengths)), gender), together)
        for item, length in enumerate(lengths):
            alone = net(waveform[item : item + 1, :length], None, gender[item : item + 1])
            assert_equal({name: value[item : item + 1] for name, value in together.items()}, alone)


def test_gradients_of_padded_batches(network):
    """The gradient of a padded batch is the sum of the gradients of its items."""
    net, lengths, waveform = network.eval(), [3000, 1702], noise(2, 3000)
    weights = {name: noise(*value.shape) for name, value in net(waveform).items()}
    together = net(waveform, torch.tensor(lengths))
    sum((together[name] * weights[name]).sum() for name in together).backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    for item, length in enumerate(lengths):
        alone = net(waveform[item : item + 1, :length])
        sum((alone[name] * weights[name][item : item + 1]).sum() for name in alone).backward()
    for name, p in net.named_parameters():
        if p.grad is not None:
            tolerance = 1e-3 * float(p.grad.abs().max()) + 1e-7
            torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=tolerance)


def test_any_length(network, subtests):
    for n_samples in (1, 17, 399, 400, 719, 1001):
        with subtests.test(n_samples=n_samples), torch.no_grad():
            output = network.eval()(noise(1, n_samples))
            assert all(value.isfinite().all() for value in output.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_at_any_level_and_precision(network, dtype, subtests):
    """Output and gradients from full scale to silence."""
    for amplitude in (1.0, 1e-4, 0.0):
        with subtests.test(amplitude=amplitude):
            waveform = noise(2, 1601, amplitude=amplitude)
            network.zero_grad()
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                output = network(waveform, torch.tensor([1601, 700]))
            assert all(value.isfinite().all() for value in output.values())
            scored(output).backward()
            gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
            assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []


@pytest.mark.slow
def test_compiles_in_place(network):
    """Traced by the compiler, with the same keys and the same result."""
    net, waveform = network.eval(), noise(2, 1601)
    keys = list(net.state_dict())
    with torch.no_grad():
        expected = net(waveform)
        net.compile(backend="eager")
        assert_equal(net(waveform), expected)
    assert list(net.state_dict()) == keys
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("option", EMOTION)
def test_parameter_count_is_the_documented_one(build, option):
    """With the embedded upstream: trained and all."""
    table = (ROOT / "docs/emotion/networks.md").read_text()
    row = re.search(rf"^\| `{option}` \|([^|]*)\|([^|]*)\|", table, re.MULTILINE)
    assert row, f"docs/emotion/networks.md has no row for {option}: run python scripts/docs_tables.py"
    documented = [int(cell.strip().replace(",", "")) for cell in row.groups()]
    net = build(option, tiny=False)
    assert documented == [count_parameters(net), sum(p.numel() for p in net.parameters())]
