"""How options nest, what GROUP=null means, and that a loader that keeps what it read composes as Hydra does."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra._internal import defaults_list as hydra_defaults
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_preflight import loading
from hydra_preflight.catalogue import Case, Catalogue
from hydra_preflight.compose import open_loader, running_job
from hydra_preflight.loading import Loader
from hydra_preflight.resolvers import register_resolvers
from hydra_preflight.tree import MISSING, to_tree

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


def hydras_own(config_dir: Path, primary: str, overrides: list[str]) -> DictConfig:
    """What Hydra composes with nothing of ours but the parsed files."""
    ours, hydra_defaults._create_interpolation_map = hydra_defaults._create_interpolation_map, loading._every_map
    try:
        plain = ConfigLoaderImpl(create_config_search_path(str(config_dir)))
        return plain.load_configuration(primary, overrides, RunMode.RUN)
    finally:
        hydra_defaults._create_interpolation_map = ours


def assert_same(ours: DictConfig, hydras: DictConfig) -> None:
    assert list(ours) == list(hydras)
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(hydras)
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(hydras)  # the order of keys, too
    assert OmegaConf.is_struct(ours) == OmegaConf.is_struct(hydras)
    assert OmegaConf.get_type(ours.hydra) is OmegaConf.get_type(hydras.hydra)


@pytest.mark.parametrize("overrides", [[], ["seed=2", "model/one/part=large"], ["callbacks=[default,one/extra]"]])
def test_keeping_what_was_read_changes_nothing(config_dir, loader, overrides):
    expected = hydras_own(config_dir, "train.yaml", overrides)
    for _ in range(3):
        assert_same(loader.load("train.yaml", overrides)[0], expected)
        loader.load("train.yaml", ["model.width=7", "callbacks.a=3"])


@pytest.mark.parametrize(
    "pair",
    [
        ("x: {a: 1, b: {c: 2}}", "x: {b: {d: 3}, a: {e: 4}}"),
        ("x: {a: {b: 1}}", "x: {a: null}"),
        ("x: {a: null}", "x: {a: {b: 1}}"),
        ('x: {a: {b: 1}, c: 2, d: "???"}', 'x: {a: "???", c: "???", d: 3, e: "???"}'),
        ("x: {a: [1, 2], b: {c: 1}}", "x: {a: [3], b: 4}"),
        ("x: {a: [1]}", "x: {a: {b: 1}}"),
        ("y: {a: 1}\nx: ${y}", "x: {b: 2}"),
        ("y: {a: 1}\nx: {z: '${y}'}", "x: {z: {b: 2}}"),
        ("y: 1\nx: {z: '${y}'}", "x: {z: 3}"),
        ("x: {1: a, true: b, 1.5: c}", "x: {1: d, true: {e: f}}"),
        ("hydra: {job: {env_set: {A: b}}}", "hydra: {job: {env_set: {C: d}}, sweep: {dir: e}}"),
        ("hydra: {job: {name: a}}\nx: 1", "x: 2"),
        ("x: {b: {c: 1}}", "x: {b: [4]}"),
        ("y: {a: 1}\nx: ${y}", "x: [1]"),
        ("hydra: {job: {name: a}}", "hydra: {jobb: {name: a}}"),
    ],
)
def test_files_are_merged_as_hydra_merges_them(tmp_path, pair):
    (tmp_path / "g").mkdir()
    (tmp_path / "train.yaml").write_text("defaults: [_self_, g: [first, second]]\n")
    for name, text in zip(("first", "second"), pair, strict=True):
        (tmp_path / "g" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    loader = open_loader(create_config_search_path(str(tmp_path)), "train")
    for _ in range(2):
        try:
            expected = hydras_own(tmp_path, "train.yaml", [])
        except HydraException as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                loader.load("train.yaml", [])
        else:
            assert_same(loader.load("train.yaml", [])[0], expected)


@dataclass
class Typed:
    width: int = 1
    depth: int = 2


def test_typed_configurations_stay_typed(tmp_path):
    ConfigStore.instance().store("typed_for_a_test", Typed, group="typed")
    (tmp_path / "train.yaml").write_text("defaults: [{typed: typed_for_a_test}, _self_]\ntyped: {width: 7}\n")
    loader = open_loader(create_config_search_path(str(tmp_path)), "train")
    cfg = loader.load("train.yaml", [])[0]
    assert_same(cfg, hydras_own(tmp_path, "train.yaml", []))
    assert OmegaConf.get_type(cfg.typed) is Typed
    (tmp_path / "train.yaml").write_text("defaults: [{typed: typed_for_a_test}, _self_]\ntyped: {width: x}\n")
    with pytest.raises(HydraException, match="train"):
        open_loader(create_config_search_path(str(tmp_path)), "train").load("train.yaml", [])


def test_further_folders_are_searched_for_one_composition_only(tmp_path, config_dir):
    (tmp_path / "more/model/one").mkdir(parents=True)
    (tmp_path / "more/model/one/wide.yaml").write_text("# @package model\nwidth: 100\n")
    loader = open_loader(create_config_search_path(str(config_dir)), "train")
    further = [f"hydra.searchpath=[file://{tmp_path / 'more'}]", "model=one/wide"]
    assert composed(loader, *further)["model"] == {"width": 100, "rate": 1}
    with pytest.raises(MissingConfigException):
        loader.load("train.yaml", ["model=one/wide"])
    assert composed(loader)["model"] == NET


HOUSE = Path(__file__).parents[2] / "configs"
YAMLS = sorted(HOUSE.rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_libyaml_reads_the_house_as_omegaconf_does(path):
    header, config = loading._parsed(str(path), 0, 0)
    assert config == OmegaConf.load(path)
    assert header == ConfigSource._get_header_dict(path.read_text()[:512])


def assert_house_is_composed_as_hydra_does(cases: list[Case]) -> None:
    register_resolvers(read_sources=False)
    OmegaConf.register_new_resolver("data_attribute", lambda name: f"<{name}>", replace=True)
    loader = open_loader(create_config_search_path(str(HOUSE)), "check")
    for case in cases:
        overrides = [*case.choices, *({"eval.yaml": ["ckpt_path=x"], "predict.yaml": GIVEN}.get(case.primary, []))]
        cfg = loader.load(case.primary, overrides)[0]
        assert_same(cfg, hydras_own(HOUSE, case.primary, overrides))
        with running_job(cfg):
            tree = to_tree(cfg)
            assert tree.written == without_hydra(cfg, resolve=False)
            assert tree.failures == []
            assert tree.resolved == with_markers(without_hydra(cfg, resolve=True))


GIVEN = ["ckpt_path=x", "input=x", "output=x"]


def without_hydra(cfg: DictConfig, resolve: bool) -> dict:
    tree = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), resolve=resolve)
    assert isinstance(tree, dict)
    return tree


def with_markers(node):
    if isinstance(node, dict):
        return {key: with_markers(value) for key, value in node.items()}
    return [with_markers(value) for value in node] if isinstance(node, list) else MISSING if node == "???" else node


def test_one_experiment_of_each_task_is_composed_as_hydra_does(monkeypatch):
    """With the debug option that inherits from another."""
    monkeypatch.setenv("PROJECT_ROOT", str(HOUSE.parent))
    folders = sorted(path for path in (HOUSE / "experiment").glob("*/"))
    names = [f"{folder.name}/{min(path.stem for path in folder.glob('*.yaml'))}" for folder in folders]
    pairs = [Case("train.yaml", (f"experiment={name}", "debug=overfit")) for name in names]
    assert_house_is_composed_as_hydra_does([Case("eval.yaml"), Case("predict.yaml"), *pairs])


@pytest.mark.slow
def test_the_house_is_composed_as_hydra_does(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(HOUSE.parent))
    assert_house_is_composed_as_hydra_does(list(Catalogue(HOUSE).first_cases()))


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


def test_a_pipe_in_place_of_an_option_is_refused(config_dir, loader, pipe):
    path = pipe(config_dir / "callbacks" / "mine.yaml")
    with pytest.raises(MissingConfigException, match="Could not find 'callbacks/mine'"):
        composed(loader, "callbacks=mine")
    assert path not in Catalogue(config_dir).contents
    assert composed(loader, "callbacks=default")["callbacks"] == {"a": 1}
