"""Lists of experiments: what a file means, and runs in processes of their own that fail, are skipped and continue."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from hydra_preflight.errors import ConfigError
from hydraudio.core.experiment_list import (
    digest,
    find_state,
    last_line,
    override_text,
    read_experiments,
)
from hydraudio.core.experiment_list import (
    metrics_of_test as metrics_of,
)

REPOSITORY = Path(__file__).parents[4]
SCRIPT = REPOSITORY / "scripts" / "results" / "run_experiments.py"


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def test_base_is_shared_and_never_changed(tmp_path):
    content = {
        "base": {"experiment": "emotion/msp_wavlm_category", "seed": 1, "data.root": "/a b/c"},
        "experiments": [
            {"name": "focal", "overrides": {"model/emotion/loss": "focal", "seed": 2}},
            {"name": "plain"},
            "emotion/msp_wavlm_joint",
        ],
    }
    focal, plain, joint = read_experiments(write(tmp_path / "list.yaml", content))
    root = "data.root='/a b/c'"
    assert focal.overrides == (
        "experiment=emotion/msp_wavlm_category",
        "seed=2",
        root,
        "model/emotion/loss=focal",
        "name=focal",
    )
    assert plain.overrides == ("experiment=emotion/msp_wavlm_category", "seed=1", root, "name=plain")
    assert joint.overrides == ("experiment=emotion/msp_wavlm_joint", "seed=1", root, "name=msp_wavlm_joint")


def test_toml_says_the_same_as_yaml(tmp_path):
    toml = """
        [base]
        experiment = "emotion/msp_wavlm_category"
        data.root = "/a b/c"
        "report.groups" = {mode = "count", mid = []}
        [[experiments]]
        name = "focal"
        [experiments.overrides]
        "model/emotion/loss" = "focal"
        model.optimizer.lr = 1e-4
        trainer = {max_epochs = 2, accelerator = "cpu"}
        [[experiments]]
        name = "plain"
    """
    content = {
        "base": {
            "experiment": "emotion/msp_wavlm_category",
            "data.root": "/a b/c",
            "report.groups": {"mode": "count", "mid": []},
        },
        "experiments": [
            {
                "name": "focal",
                "overrides": {
                    "model/emotion/loss": "focal",
                    "model.optimizer.lr": 1e-4,
                    "trainer.max_epochs": 2,
                    "trainer.accelerator": "cpu",
                },
            },
            {"name": "plain"},
        ],
    }
    assert read_experiments(write(tmp_path / "a.toml", toml)) == read_experiments(write(tmp_path / "a.yaml", content))
    names = write(tmp_path / "names.toml", 'experiments = ["a", "b/c"]')
    assert read_experiments(names) == read_experiments(write(tmp_path / "names.yaml", ["a", "b/c"]))
    with pytest.raises(ValueError, match=r"a\.toml is no TOML file: "):
        read_experiments(write(tmp_path / "a.toml", "base = ["))


def test_plain_list_of_names(tmp_path):
    found = read_experiments(write(tmp_path / "list.yaml", ["a", "b/c"]))
    assert [each.overrides for each in found] == [("experiment=a", "name=a"), ("experiment=b/c", "name=c")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "no YAML"),
        ({"base": {}}, "list `experiments`"),
        ({"experiments": []}, "list `experiments`"),
        ({"experiment": ["a"], "experiments": ["a"]}, "unknown key 'experiment'"),
        (["a", "a"], "the name a is given to several"),
        (["a b"], "must consist of letters"),
        ([{"overrides": {}}], "experiment 1 must be a name"),
        ([{"name": "a", "override": {}}], "unknown key 'override'; there are name, overrides"),
        ([{"name": "a", "overrides": ["seed=1"]}], "overrides are a mapping"),
        ([{"name": "a", "overrides": {"ckpt_path": "last"}}], "ckpt_path is set for every experiment"),
    ],
)
def test_wrong_lists_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_experiments(write(tmp_path / "list.yaml", content))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        read_experiments(tmp_path / "nothing.yaml")


VALUES = [
    *(
        None,
        True,
        False,
        0,
        -3,
        1.5e-05,
        "a",
        "a b",
        "a,b",
        "it's",
        "1.0",
        "true",
        "null",
        "",
        "a=b",
        "[x]",
        "${data.root}",
    ),
    *("back\\slash", "end\\", "\\'", "~x", "/corpora/MSP-PODCAST", [1, "x y", None], {"a": 1, "b": "t, u"}, "1e-3"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_keep_their_type_on_the_command_line(value):
    """Read back by Hydra's own parser."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString

    found = OverridesParser.create().parse_override(override_text("key", value)).value()
    assert (found.text if isinstance(found, QuotedString) else found) == value


def test_numbers_are_read_as_in_configuration_files(tmp_path):
    text = "experiments: [{name: a, overrides: {model.optimizer.lr: 1e-4}}]"
    assert "model.optimizer.lr=0.0001" in read_experiments(write(tmp_path / "list.yaml", text))[0].overrides


def test_deletion(tmp_path):
    content = [{"name": "a", "overrides": {"~callbacks.throughput": None}}]
    assert read_experiments(write(tmp_path / "list.yaml", content))[0].overrides == ("~callbacks.throughput", "name=a")


@pytest.fixture
def project(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(REPOSITORY))


def make_run(log_dir: Path, name: str, overrides: list[str], *files: str, stamp: str = "2030-01-01_00-00-00") -> Path:
    """A run folder as src/train.py leaves it."""
    from omegaconf import OmegaConf

    from hydra_preflight.compose import compose_run

    folder = log_dir / name / stamp
    for file in (".hydra/config.yaml", *files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    cfg = compose_run(overrides, log_dir)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    OmegaConf.save({"data": {"root": cfg.data.root}}, folder / "config.yaml")
    link = log_dir / name / "latest"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    return folder


def digest_of(overrides: list[str], log_dir: Path) -> str:
    from hydra_preflight.compose import compose_run

    return digest(compose_run(overrides, log_dir))


def test_state_of_an_experiment(project, tmp_path):
    given = ["experiment=emotion/msp_wavlm_category", "name=a"]
    wanted = digest_of(given, tmp_path)
    assert wanted == digest_of([*given, "ckpt_path=last"], tmp_path)  # continuing is no other experiment
    assert wanted != digest_of([*given, "seed=7"], tmp_path)
    assert find_state(tmp_path, "a", wanted).status == "new"
    other = make_run(tmp_path, "a", [*given, "seed=7"], "report/index.html", "checkpoints/last.ckpt")
    assert find_state(tmp_path, "a", wanted).status == "new"
    begun = make_run(tmp_path, "a", given, stamp="2030-01-02_00-00-00")
    assert find_state(tmp_path, "a", wanted).status == "new"  # killed before its first checkpoint
    (begun / "checkpoints").mkdir()
    (begun / "checkpoints" / "last.ckpt").touch()
    state = find_state(tmp_path, "a", wanted)
    assert (state.status, state.folder) == ("interrupted", begun.resolve())
    (begun / "report").mkdir()
    (begun / "report" / "index.html").touch()
    assert find_state(tmp_path, "a", wanted).status == "finished"
    (other / ".hydra" / "config.yaml").write_text("{")
    assert find_state(tmp_path, "a", wanted).status == "finished"


def test_runs_without_a_test_are_refused(project, tmp_path):
    with pytest.raises(ConfigError, match="test=false"):
        digest_of(["experiment=emotion/msp_wavlm_category", "test=false"], tmp_path)


def test_metrics_are_those_of_the_last_test(tmp_path):
    assert metrics_of(tmp_path) == {}
    text = "step,epoch,train/loss,test/f1,test/loss\n1,0,3.0,,\n2,0,,0.25,1.5\n3,1,2.0,,\n4,1,,0.5,\n"
    write(tmp_path / "metrics.csv", text)
    assert metrics_of(tmp_path) == {"f1": 0.5}


def test_last_line(tmp_path):
    assert last_line(write(tmp_path / "log", "Traceback\n  x\nValueError: so\n\n")) == "ValueError: so"
    assert last_line(write(tmp_path / "log", "")) == "no output"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    specification = importlib.util.spec_from_file_location("run_experiments", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["run_experiments"] = module  # for its dataclasses
    specification.loader.exec_module(module)
    return module


def test_dry_run_only_prints(script, project, tmp_path, monkeypatch, capsys):
    path = write(
        tmp_path / "list.yaml", ["emotion/msp_wavlm_category", "emotion/msp_frozen_probe", "no_such_experiment"]
    )
    arguments = ["run_experiments.py", str(path), "--dry-run", "--log-dir", str(tmp_path / "logs")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script.main() == 1
    printed = capsys.readouterr().out
    assert "src/train.py experiment=emotion/msp_wavlm_category name=msp_wavlm_category" in printed
    assert "no_such_experiment" in printed
    assert not (tmp_path / "logs").exists()
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "msp_frozen_probe"])
    assert script.main() == 0
    assert "msp_wavlm_category" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "nonsense"])
    assert script.main() == 2
