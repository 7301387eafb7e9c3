"""Where the corpora lie on this machine: `paths.corpora` in every corpus's file, and what is said without a folder."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import yaml
from hydra._internal.utils import create_config_search_path
from omegaconf import OmegaConf

from hydra_preflight.compose import compose_job, compose_run, open_loader
from hydra_preflight.disk import check_disk
from hydra_preflight.errors import ConfigError
from hydra_preflight.resolvers import register_resolvers
from hydraudio.core.experiment_list import digest, find_state
from hydraudio.core.generated import say_what_stands_in
from hydraudio.core.run_folder import portable_config

ROOT = Path(__file__).parents[2]
CORPORA = sorted(path.relative_to(ROOT / "configs/data") for path in (ROOT / "configs/data").glob("*/*.yaml"))
EXPERIMENTS = sorted(path.relative_to(ROOT / "configs/experiment") for path in ROOT.glob("configs/experiment/*/*.yaml"))


@pytest.fixture(autouse=True)
def project(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))


def compose(folder: Path, *overrides: str):
    return compose_run(overrides, folder)


@pytest.mark.parametrize("corpus", CORPORA, ids=str)
def test_the_environment_names_the_folder_of_every_corpus(tmp_path, monkeypatch, corpus):
    task, name = corpus.parent.name, corpus.stem
    overrides = [f"task={task}", f"data={task}/{name}"]
    variable = f"{name.upper()}_DATA_ROOT"
    assert f"# {variable}=" in (ROOT / ".env.example").read_text()
    for given, expected in (("", None), ("/corpora/here", "/corpora/here"), ("~/here", str(Path.home() / "here"))):
        monkeypatch.setenv(variable, given)
        assert compose(tmp_path, *overrides).data.root == expected
    assert compose(tmp_path, *overrides, f"paths.corpora.{name}=/other").data.root == "/other"
    assert compose(tmp_path, *overrides, "data.root=null").data.root is None


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_a_recipe_without_its_corpus_says_so_in_one_line_and_a_quick_one_nothing(tmp_path, caplog, experiment):
    cfg = compose(tmp_path, f"experiment={experiment.with_suffix('')}")
    with caplog.at_level(logging.WARNING):
        say_what_stands_in(cfg.data)
    own = yaml.safe_load((ROOT / "configs/experiment" / experiment).read_text()).get("data", {})
    if own.get("root", "") is None:
        assert not caplog.messages
    else:
        (line,) = caplog.messages
        assert line.startswith("paths.corpora.")
        assert "data.root=FOLDER" in line


def test_a_quick_experiment_stays_on_the_miniature_on_every_machine(tmp_path, monkeypatch):
    for corpus in CORPORA:
        monkeypatch.setenv(f"{corpus.stem.upper()}_DATA_ROOT", "/corpora/here")
    for experiment in EXPERIMENTS:
        root = compose(tmp_path, f"experiment={experiment.with_suffix('')}").data.root
        is_short = any(word in experiment.stem for word in ("quick", "budget", "example"))
        assert root == (None if is_short else "/corpora/here")


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_on_apple_silicon_no_process_loads(tmp_path, experiment):
    name = f"experiment={experiment.with_suffix('')}"
    assert compose(tmp_path, name, "trainer=mps").data.num_workers == 0
    assert compose(tmp_path, name, "trainer=mps", "data.num_workers=3").data.num_workers == 3


def test_a_checkpoint_keeps_its_corpus_and_no_other_of_the_machine(tmp_path, monkeypatch):
    for corpus in CORPORA:
        monkeypatch.setenv(f"{corpus.stem.upper()}_DATA_ROOT", f"/corpora/{corpus.stem}")
    corpus = CORPORA[0]
    cfg = compose(tmp_path, f"task={corpus.parent.name}", f"data={corpus.with_suffix('')}")
    cfg.model = None  # what it takes from the data is known only with a datamodule
    text = portable_config(cfg)
    stored = yaml.safe_load(text)
    assert stored["data"]["root"] == f"/corpora/{corpus.stem}"
    assert "corpora" not in stored["paths"]
    assert all(f"/corpora/{other.stem}" not in text for other in CORPORA[1:])


def test_a_run_on_another_folder_is_another_run(tmp_path, monkeypatch):
    """A list of experiments is not finished when the same settings now mean another corpus."""
    corpus = CORPORA[0]
    variable, overrides = (
        f"{corpus.stem.upper()}_DATA_ROOT",
        [f"task={corpus.parent.name}", f"data={corpus.with_suffix('')}"],
    )
    monkeypatch.setenv(variable, "/corpora/one")
    cfg = compose(tmp_path, *overrides)
    run = tmp_path / "name" / "2030-01-01_00-00-00"
    (run / ".hydra").mkdir(parents=True)
    (run / "report").mkdir()
    (run / "report" / "index.html").touch()
    (run / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    (run / "config.yaml").write_text("data: {root: /corpora/one}")
    assert find_state(tmp_path, "name", digest(cfg)).status == "finished"
    monkeypatch.setenv(variable, "/corpora/two")
    assert find_state(tmp_path, "name", digest(compose(tmp_path, *overrides))).status == "new"


@pytest.mark.parametrize("corpus", CORPORA, ids=str)
def test_a_folder_of_this_machine_that_is_none_is_traced_to_its_key(tmp_path, corpus):
    (tmp_path / "file").touch()
    register_resolvers()
    named = re.search(r"^root: \$\{(paths\.corpora\.\w+)\}", (ROOT / "configs/data" / corpus).read_text(), re.MULTILINE)
    loader = open_loader(create_config_search_path(str(ROOT / "configs")), "train")
    chosen = [f"task={corpus.parent.name}", f"data={corpus.with_suffix('')}"]
    for given, found in (("nowhere", "no such file or folder"), ("file", "not a folder")):
        cfg, sources = compose_job(loader, "train.yaml", [*chosen, f"{named[1]}={tmp_path / given}"])
        with pytest.raises(ConfigError, match=rf"data\.root: .*/{given}: {found} \({named[1]}, of \.env"):
            check_disk(cfg, sources)
