"""How options nest, what GROUP=null means, and that a loader that keeps what it read composes as Hydra does."""

from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_preflight.compose import open_loader
from hydra_preflight.loading import Loader

FILES = {
    "train.yaml": (
        "defaults: [_self_, {data: null}, {model: null}, {model/rate: slow}, {callbacks: default}, {task: one}]\n"
        "seed: 1\n"
    ),
    "task/one.yaml": "# @package _global_\ndefaults:\n  - override /model: one/net\n",
    "model/rate/slow.yaml": "# @package model\nrate: 1\n",
    "model/rate/fast.yaml": "# @package model\nrate: 9\n",
    "model/one/_base.yaml": "# @package model\nkind: base\nwidth: 1\ndepth: 1\n",
    "model/one/_second.yaml": "# @package model\ndefaults: [/model/one/_base, _self_]\nwidth: 2\n",
    "model/one/net.yaml": "# @package model\ndefaults: [/model/one/_second, {one/part: small}, _self_]\ndepth: 3\n",
    "model/one/part/small.yaml": "# @package model.part\nsize: 1\n",
    "model/one/part/large.yaml": "# @package model.part\nsize: 5\n",
    "callbacks/default.yaml": "# @package callbacks\na: 1\n",
    "callbacks/one/extra.yaml": "# @package callbacks\nb: 2\n",
}


@pytest.fixture
def config_dir(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def loader(config_dir) -> Loader:
    return open_loader(create_config_search_path(str(config_dir)), "train")


def composed(loader: Loader, *overrides: str) -> dict:
    cfg = OmegaConf.to_container(loader.load("train.yaml", list(overrides))[0])
    return {key: value for key, value in cfg.items() if key != "hydra"}


NET = {"rate": 1, "kind": "base", "width": 2, "depth": 3, "part": {"size": 1}}


@pytest.mark.parametrize(
    ("overrides", "model", "callbacks"),
    [
        ([], NET, {"a": 1}),
        (["model/one/part=large"], {**NET, "part": {"size": 5}}, {"a": 1}),
        (["model/rate=fast"], {**NET, "rate": 9}, {"a": 1}),
        (["callbacks=[default,one/extra]"], NET, {"a": 1, "b": 2}),
        (["callbacks=one/extra"], NET, {"b": 2}),
    ],
)
def test_nesting(loader, overrides, model, callbacks):
    assert composed(loader, *overrides) == {"seed": 1, "model": model, "callbacks": callbacks}


def test_null_leaves_a_group_out(loader):
    without = composed(loader, "callbacks=null", "data=null", "model/rate=null")
    assert without == {"seed": 1, "model": {key: value for key, value in NET.items() if key != "rate"}}
    lines = ["callbacks=null", "seed=null", "model/one/part=null", "+callbacks=null"]
    assert loader.without_null_groups("train.yaml", lines) == ["~callbacks", *lines[1:]]


@pytest.mark.parametrize("overrides", [[], ["seed=2", "model/one/part=large"], ["callbacks=[default,one/extra]"]])
def test_keeping_what_was_read_changes_nothing(config_dir, loader, overrides):
    plain = ConfigLoaderImpl(create_config_search_path(str(config_dir)))
    expected = plain.load_configuration("train.yaml", overrides, RunMode.RUN)
    for _ in range(3):
        assert OmegaConf.to_container(loader.load("train.yaml", overrides)[0]) == OmegaConf.to_container(expected)
        loader.load("train.yaml", ["model.width=7", "callbacks.a=3"])


def test_a_changed_file_is_read_again(config_dir):
    for width in (11, 222):
        (config_dir / "model/one/_base.yaml").write_text(f"# @package model\nkind: {width}\nwidth: 1\ndepth: 1\n")
        assert composed(open_loader(create_config_search_path(str(config_dir)), "train"))["model"]["kind"] == width


def test_sources_name_files_choices_and_the_command_line(loader):
    _, sources = loader.load("train.yaml", ["model/one/part=large", "seed=3"])
    assert sources.origin("seed") == "command line"
    assert sources.origin("model.width").endswith("model/one/_second.yaml:3")
    assert sources.given == {"model/one/part"}
    assert (sources.chosen["model"], sources.chosen["data"]) == ("one/net", None)
    file = next(file for file in sources.files if file.config_path == "model/one/_second")
    assert sources.choice(file) == ("model", "one/net")
    assert sources.choice_origin("model", file).endswith("task/one.yaml:3")
