"""What every YAML of a group promises. New files are picked up by themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from hydraudio.tasks.base import count_parameters

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
N_SAMPLES = 2003
NEEDS_GPU = {"gpu", "mps", "ddp", "fsdp2"}
NEEDS_PACKAGE = {"wandb", "mlflow", "aim", "comet", "many"}


def options(group: str) -> list[str]:
    """Names of a group's selectable files; those with a leading underscore are bases."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))


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


@pytest.fixture(params=options("model"))
def network(request, compose_train):
    """Name of the YAML and its network for one and for two sources, as configured."""
    networks = []
    for task in ("ES", "SB"):
        cfg = compose_train(f"model={request.param}", f"data.task={task}")
        bind(cfg)
        torch.manual_seed(0)
        networks.append(instantiate(cfg.model).net)
    return request.param, *networks


def test_network_contract(network):
    """Shape, length, a gradient in every parameter, independence of the batch, state dict, bf16 autocast."""
    _, _, net = network
    mixture = torch.randn(2, N_SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1
    estimate = net(mixture)
    assert estimate.shape == (2, net.n_sources, N_SAMPLES)
    assert net.n_sources == 2
    estimate.square().sum().backward()
    without = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []

    net.eval()
    with torch.no_grad():
        together = net(mixture)
        torch.testing.assert_close(net(mixture[:1]), together[:1], rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert net(mixture).isfinite().all()
            assert net(torch.zeros_like(mixture)).isfinite().all()
        state = {key: value.clone() for key, value in net.state_dict().items()}
        for value in net.parameters():
            value.add_(1)
        net.load_state_dict(state)
        torch.testing.assert_close(net(mixture), together)


def test_parameter_count_is_the_documented_one(network):
    name, single, double = network
    table = (ROOT / "docs" / "models.md").read_text()
    row = re.search(rf"^\| `{name}` \|([^|]*)\|([^|]*)\|", table, re.MULTILINE)
    assert row, f"docs/models.md has no row for {name}"
    documented = [int(cell.strip().replace(",", "")) for cell in row.groups()]
    assert documented == [count_parameters(single), count_parameters(double)]
