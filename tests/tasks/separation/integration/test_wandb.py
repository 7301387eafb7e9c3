"""Runs of Weights & Biases, with a stand-in for the package that counts what is opened and ended."""

import os
import sys
import types

import pytest
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf

from hydraudio.run import train


class Run:
    """As much of a run as the logger asks for."""

    def __init__(self, package, given):
        self.package, self.given, self.exit_code = package, given, None
        self.config = types.SimpleNamespace(update=lambda *_, **__: None)

    def finish(self, exit_code=None):
        self.exit_code, self.package.run = exit_code, None


@pytest.fixture
def opened(monkeypatch):
    """Every run that was opened."""
    runs = []
    package, library = types.ModuleType("wandb"), types.ModuleType("wandb.sdk.lib")
    package.run, library.RunDisabled = None, type("RunDisabled", (), {})

    def init(**given):
        package.run = Run(package, given)
        runs.append(package.run)
        return package.run

    package.init = init
    package.wandb_run = types.ModuleType("wandb.wandb_run")
    package.wandb_run.Run = Run
    modules = {"wandb": package, "wandb.sdk": types.ModuleType("wandb.sdk"), "wandb.sdk.lib": library}
    for name, module in {**modules, "wandb.wandb_run": package.wandb_run}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return runs


@pytest.fixture
def job(polsess_root, repository, monkeypatch):
    """Begin a run in a folder, without training."""
    from hydra_preflight.compose import compose_run

    monkeypatch.setenv("PROJECT_ROOT", str(repository))
    given = ["experiment=separation/polsess_quick", f"data.root={polsess_root}", "trainer=cpu", "logger=wandb"]
    return lambda folder: train(compose_run([*given, "train=false", "test=false", "tags=[one]"], folder))


def test_every_job_is_a_run_of_its_own_and_ends(opened, job, tmp_path):
    first, second = tmp_path / "quick" / "2026-01-01_12-00-00_0", tmp_path / "quick" / "2026-01-01_12-00-00_1"
    for folder in (first, second, first):
        job(folder)
    assert [each.exit_code for each in opened] == [0, 0, 0]
    ids = [each.given["id"] for each in opened]
    assert ids[0].startswith("quick_2026-01-01_12-00-00_0-")
    assert ids[0] == ids[2] != ids[1]
    assert [each.given["name"] for each in opened] == ids
    assert {each.given["resume"] for each in opened} == {"allow"}
    assert {tuple(each.given["tags"]) for each in opened} == {("one",)}


def test_a_run_that_fails_ends_as_failed(opened, job, tmp_path, monkeypatch):
    def fail(logger, *_):
        assert logger.experiment
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(WandbLogger, "log_hyperparams", fail)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        job(tmp_path / "quick" / "run")
    assert [each.exit_code for each in opened] == [1]


def test_token_under_its_other_name(opened, job, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_TOKEN", "secret")
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.delenv("WANDB_API_KEY")
    job(tmp_path / "quick" / "run")
    assert os.environ["WANDB_API_KEY"] == "secret"


def test_ids_are_what_the_service_takes():
    from hydra_preflight.resolvers import register_resolvers

    register_resolvers()
    cfg = OmegaConf.create({"id": "${run_id:'/logs/" + 150 * "ä" + "/a b'}"})
    assert len(cfg.id) == 128
    assert set(cfg.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
