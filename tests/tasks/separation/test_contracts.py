"""What every network of separation promises. New files are picked up by themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from hydraudio.core.task import count_parameters

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "model" / "separation"
N_SAMPLES = 2003


def read_model(option: str) -> dict:
    return yaml.safe_load((CONFIGS / f"{option}.yaml").read_text())


def parent(content: dict) -> str:
    """The YAML of the same folder that one of `model/separation` inherits from."""
    above = next(entry for entry in content["defaults"] if isinstance(entry, str) and entry != "_self_")
    return above.rpartition("/")[2]


def yaml_class(option: str) -> str:
    """Class of the network that a YAML of `model` or the files it inherits from name."""
    content = read_model(option)
    return (content.get("net") or {}).get("_target_") or yaml_class(parent(content))


@pytest.fixture
def compose_train(tmp_path, monkeypatch):
    """Compose train.yaml as the entry script does, with the run folder below tmp_path."""
    from hydra_preflight.compose import compose_run

    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(tmp_path / "logs"))
    return lambda *overrides: compose_run(overrides, tmp_path)


def bind(cfg: DictConfig, **data: str) -> None:
    """Resolve what a run would read from its datamodule."""
    from hydra_preflight.resolvers import bind_data_attributes

    bind_data_attributes(instantiate(cfg.data, **data))


TINY = yaml.safe_load((ROOT / "tests" / "tasks" / "separation" / "tiny_networks.yaml").read_text()) or {}
SEPARATION = sorted(path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("_"))
NET_CLASSES = {option: yaml_class(option) for option in SEPARATION}
ONE_PER_CLASS = sorted({name: option for option, name in reversed(NET_CLASSES.items())}.values())


_ARGUMENTS: dict[tuple[str, str], dict] = {}


def net_arguments(compose_train, option: str, task: str) -> dict:
    """The network of a YAML, resolved; composed once for all tests."""
    if (option, task) not in _ARGUMENTS:
        cfg = compose_train(f"model=separation/{option}", f"data.problem={task}")
        bind(cfg)
        _ARGUMENTS[option, task] = OmegaConf.to_container(cfg.model.net, resolve=True)
    return dict(_ARGUMENTS[option, task])


def build(compose_train, option: str, task: str, tiny: bool = True) -> nn.Module:
    """The network of a YAML; `tiny`: at the size of tiny_networks.yaml."""
    arguments = net_arguments(compose_train, option, task)
    name = arguments.pop("_target_")
    if tiny:
        arguments |= TINY.get(name, {})
    torch.manual_seed(0)
    return get_class(name)(**arguments)


@pytest.fixture(params=SEPARATION)
def tiny_network(request, compose_train):
    """The network of a YAML with two sources, tiny."""
    return build(compose_train, request.param, "SB")


@pytest.fixture(params=ONE_PER_CLASS)
def network_class(request, compose_train):
    """One network of each class with two sources, tiny."""
    return build(compose_train, request.param, "SB")


def noise(*shape: int, amplitude: float = 0.1) -> torch.Tensor:
    return amplitude * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_network_contract(tiny_network):
    """Shape, length, a gradient in every parameter, independence of the batch, state dict."""
    net, mixture = tiny_network, noise(2, N_SAMPLES)
    estimate = net(mixture)
    assert estimate.shape == (2, 2, N_SAMPLES)
    assert net.n_sources == 2
    (estimate * noise(2, 2, N_SAMPLES)).sum().backward()
    without = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []

    net.eval()
    with torch.no_grad():
        together = net(mixture)
        torch.testing.assert_close(net(mixture[:1]), together[:1], rtol=1e-4, atol=1e-5)
        state = {key: value.clone() for key, value in net.state_dict().items()}
        for value in net.parameters():
            value.add_(1)
        net.load_state_dict(state)
        torch.testing.assert_close(net(mixture), together)


def test_one_source(compose_train, subtests):
    for option in ONE_PER_CLASS:
        with subtests.test(option):
            net = build(compose_train, option, "ES")
            assert net(noise(1, 500)).shape == (1, 1, 500)


def test_padding_changes_nothing(tiny_network):
    """An item of a padded batch gets what it gets alone, whatever the padding holds."""
    net = tiny_network.eval()
    lengths = [N_SAMPLES, 1201, 402]
    mixture = noise(3, N_SAMPLES)
    with torch.no_grad():
        together = net(mixture, torch.tensor(lengths))
        assert together.shape == (3, 2, N_SAMPLES)
        assert together.isfinite().all()
        for item, length in enumerate(lengths):
            alone = net(mixture[item : item + 1, :length])
            torch.testing.assert_close(together[item : item + 1, :, :length], alone, rtol=1e-4, atol=1e-4)


def test_gradients_of_padded_batches(network_class):
    """The gradient of a padded batch is the sum of the gradients of its items."""
    net, lengths = network_class.eval(), torch.tensor([1300, 702])
    mixture, weights = noise(2, 1300), noise(2, 2, 1300)
    weights[1, :, 702:] = 0
    (net(mixture, lengths) * weights).sum().backward()
    together = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    for item, length in enumerate(lengths.tolist()):
        alone = net(mixture[item : item + 1, :length]) * weights[item : item + 1, :, :length]
        alone.sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(together[name], p.grad, rtol=1e-3, atol=1e-4 * float(p.grad.abs().max()) + 1e-7)


@pytest.mark.parametrize("n_samples", [1, 17, 100, 1001])
def test_any_length(network_class, n_samples):
    estimate = network_class(noise(1, n_samples))
    assert estimate.shape == (1, 2, n_samples)
    assert estimate.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("amplitude", [1.0, 1e-2, 1e-4, 0.0])
def test_finite_at_any_level_and_precision(network_class, dtype, amplitude):
    """Output and gradients from full scale to silence (facts: eps vanishes in float16)."""
    net, mixture = network_class, noise(2, 1001, amplitude=amplitude)
    mixture[1, 300:] = 0
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        estimate = net(mixture)
    assert estimate.isfinite().all()
    (estimate.float() * noise(2, 2, 1001)).sum().backward()
    infinite = [name for name, p in net.named_parameters() if not p.grad.isfinite().all()]
    assert infinite == []


def test_compiles_in_place(network_class):
    """Traced by the compiler, with the same keys and the same result."""
    net, mixture = network_class.eval(), noise(2, 1001)
    keys = list(net.state_dict())
    with torch.no_grad():
        expected = net(mixture)
        net.compile(backend="eager")
        torch.testing.assert_close(net(mixture), expected, rtol=1e-4, atol=1e-5)
    assert list(net.state_dict()) == keys
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("option", SEPARATION)
def test_parameter_count_is_the_documented_one(compose_train, option):
    table = (ROOT / "docs/separation/networks.md").read_text()
    row = re.search(rf"^\| `{option}` \|([^|]*)\|([^|]*)\|", table, re.MULTILINE)
    assert row, f"docs/separation/networks.md has no row for {option}: run python scripts/docs_tables.py"
    documented = [int(cell.strip().replace(",", "")) for cell in row.groups()]
    with torch.device("meta"):
        counted = [count_parameters(build(compose_train, option, task, tiny=False)) for task in ("ES", "SB")]
    assert documented == counted
