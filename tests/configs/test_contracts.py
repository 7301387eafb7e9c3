"""What every YAML of a group promises. New files are picked up by themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from hydraudio.tasks.base import count_parameters

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
N_SAMPLES = 2003
NEEDS_GPU = {"gpu", "mps", "ddp", "fsdp2"}
NEEDS_PACKAGE = {"wandb", "mlflow", "aim", "comet", "many"}


def options(group: str) -> list[str]:
    """Names of a group's selectable files; those with a leading underscore are bases."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))


def read_model(option: str) -> dict:
    return yaml.safe_load((CONFIGS / "model" / f"{option}.yaml").read_text())


def parent(content: dict) -> str:
    """The YAML that one of `model` inherits from."""
    return next(entry for entry in content["defaults"] if isinstance(entry, str) and entry != "_self_")


def yaml_class(option: str) -> str:
    """Class of the network that a YAML of `model` or the files it inherits from name."""
    content = read_model(option)
    return (content.get("net") or {}).get("_target_") or yaml_class(parent(content))


def models_of(base: str) -> list[str]:
    """The networks of an objective: the options of `model` that inherit from its base."""

    def root(option: str) -> str:
        above = parent(read_model(option))
        return above if above.startswith("_") else root(above)

    return [option for option in options("model") if root(option) == base]


@pytest.fixture
def compose_train(tmp_path, monkeypatch):
    """Compose train.yaml as the entry script does, with the run folder below tmp_path."""
    from hydraudio.utils.compose import compose_run

    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(tmp_path / "logs"))
    return lambda *overrides: compose_run(overrides, tmp_path)


def bind(cfg: DictConfig, **data: str) -> None:
    """Resolve what a run would read from its datamodule."""
    from hydraudio.utils.resolvers import bind_data_attributes

    bind_data_attributes(instantiate(cfg.data, **data))


GROUPS = [
    "callbacks",
    "data",
    "debug",
    "experiment",
    "hparams_search",
    "logger",
    "model",
    "report",
    "trainer",
]
EVERY = [(group, option) for group in GROUPS for option in options(group)]


@pytest.mark.parametrize(("group", "option"), EVERY)
def test_composes_and_passes_the_check(compose_train, group, option):
    from hydraudio.utils.config_check import check_targets

    cfg = compose_train(f"{group}={option}")
    if option not in NEEDS_PACKAGE:
        check_targets(cfg, HydraConfig.get())


@pytest.mark.parametrize("option", options("experiment"))
def test_experiments_are_short_lists_of_differences(option):
    text = (CONFIGS / "experiment" / f"{option}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize("option", sorted(set(options("trainer")) - NEEDS_GPU))
def test_trainers_instantiate(compose_train, option):
    trainer = instantiate(compose_train(f"trainer={option}").trainer)
    assert trainer.num_devices == (2 if option == "ddp_sim" else 1)


@pytest.mark.parametrize("option", options("callbacks"))
def test_callbacks_instantiate(compose_train, option):
    from lightning.pytorch import Callback

    cfg = compose_train(f"callbacks={option}")
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    assert callbacks
    assert all(isinstance(callback, Callback) for callback in callbacks)


@pytest.mark.parametrize("option", sorted(set(options("logger")) - NEEDS_PACKAGE))
def test_loggers_instantiate(compose_train, option):
    from lightning.pytorch.loggers import Logger

    loggers = [instantiate(node) for node in (compose_train(f"logger={option}").logger or {}).values()]
    assert all(isinstance(logger, Logger) for logger in loggers)
    assert loggers


TINY = yaml.safe_load((ROOT / "tests" / "configs" / "tiny_networks.yaml").read_text()) or {}
SEPARATION = models_of("_separation")
NET_CLASSES = {option: yaml_class(option) for option in SEPARATION}
ONE_PER_CLASS = sorted({name: option for option, name in reversed(NET_CLASSES.items())}.values())


_ARGUMENTS: dict[tuple[str, str], dict] = {}


def net_arguments(compose_train, option: str, task: str) -> dict:
    """The network of a YAML, resolved; composed once for all tests."""
    if (option, task) not in _ARGUMENTS:
        cfg = compose_train(f"model={option}", f"data.task={task}")
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
    table = (ROOT / "docs" / "models.md").read_text()
    row = re.search(rf"^\| `{option}` \|([^|]*)\|([^|]*)\|", table, re.MULTILINE)
    assert row, f"docs/models.md has no row for {option}"
    documented = [int(cell.strip().replace(",", "")) for cell in row.groups()]
    with torch.device("meta"):
        counted = [count_parameters(build(compose_train, option, task, tiny=False)) for task in ("ES", "SB")]
    assert documented == counted
