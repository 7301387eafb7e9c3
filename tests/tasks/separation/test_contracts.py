"""What every network of separation promises. New files are picked up by themselves."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from hydraudio.core.task import count_parameters
from hydraudio.tasks.separation.spec import SPEC
from hydraudio.testing import CorpusContract, NetworkContract, assert_predicts, make_data, make_task, noise

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


ON_ALL = ("every_parameter_learns", "batch_changes_nothing", "padding_changes_nothing", "state_dict_restores")
"""Promises of every YAML; the others are asked of one per class."""


def test_output_has_the_promised_shape(tiny_network):
    assert tiny_network(noise(2, N_SAMPLES)).shape == (2, 2, N_SAMPLES)
    assert tiny_network.n_sources == 2


@pytest.mark.parametrize("promise", ON_ALL)
def test_promise_of_every_network(tiny_network, promise):
    getattr(NetworkContract(tiny_network, N_SAMPLES), promise)()


ON_CLASSES = [
    pytest.param(promise, marks=[pytest.mark.slow] if promise == "compiles_in_place" else [])
    for promise in sorted({*NetworkContract.PROMISES} - {*ON_ALL})
]


@pytest.mark.parametrize("promise", ON_CLASSES)
def test_promise_of_every_class(network_class, promise):
    getattr(NetworkContract(network_class, 1301), promise)()


def test_one_source(compose_train, subtests):
    for option in ONE_PER_CLASS:
        with subtests.test(option):
            net = build(compose_train, option, "ES")
            assert net(noise(1, 500)).shape == (1, 1, 500)


def contract_of(corpus: str, request, compose_train) -> CorpusContract:
    """A corpus of this floor on its small miniature of the tests."""
    cfg = compose_train(f"data=separation/{corpus}", "data.segment_s=0.5", "data.batch_size=3")
    root = str(request.getfixturevalue(f"{corpus}_root"))
    return CorpusContract(partial(make_data, cfg, root=root, num_workers=0), SPEC)


CORPORA = sorted(path.stem for path in (ROOT / "configs" / "data" / "separation").glob("*.yaml"))


@pytest.mark.parametrize("promise", CorpusContract.PROMISES)
@pytest.mark.parametrize("corpus", CORPORA)
def test_promise_of_every_corpus(corpus, promise, request, compose_train):
    getattr(contract_of(corpus, request, compose_train), promise)()


def test_prediction_has_the_axes_of_the_specification(compose_train, polsess_root):
    cfg = compose_train("data.problem=SB", f"data.root={polsess_root}", "data.num_workers=0")
    data = make_data(cfg)
    data.setup("test")
    assert_predicts(make_task(cfg), next(iter(data.test_dataloader())))


@pytest.mark.parametrize("option", SEPARATION)
def test_parameter_count_is_the_documented_one(compose_train, option):
    table = (ROOT / "docs/separation/networks.md").read_text()
    row = re.search(rf"^\| `{option}` \|([^|]*)\|([^|]*)\|", table, re.MULTILINE)
    assert row, f"docs/separation/networks.md has no row for {option}: run python scripts/docs_tables.py"
    documented = [int(cell.strip().replace(",", "")) for cell in row.groups()]
    with torch.device("meta"):
        counted = [count_parameters(build(compose_train, option, task, tiny=False)) for task in ("ES", "SB")]
    assert documented == counted
