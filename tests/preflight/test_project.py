"""A project of one's own: its configuration files before the house's, its package, and where it is looked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hydra_preflight.catalogue import Catalogue
from hydra_preflight.compose import compose_run
from hydra_preflight.errors import ConfigError
from hydra_preflight.project import enter_project, find_project, primary_file, with_home

FILES = {
    "pyproject.toml": "",
    "configs/main.yaml": "defaults: [train, _self_]\nhydra:\n  searchpath: [pkg://hydraudio.configs]\n",
    "configs/extras/_trusted.yaml": "trusted_targets: [some_parts]\n",
    "configs/logger/mine.yaml": "# @package logger\nmine:\n  _target_: some_parts.loggers.Mine\n  width: 3\n",
    "some_parts/__init__.py": "",
    "some_parts/loggers.py": (
        "import absent\nfrom hydraudio.core.csv_logger import CSVMetricsLogger\n\n\n"
        "class Mine(CSVMetricsLogger):\n    def __init__(self, width: int, **more):\n        super().__init__(**more)\n"
    ),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setenv("PROJECT_ROOT", str(folder))
    return folder


def test_files_of_both_are_known(project, tmp_path):
    cfg = compose_run(["logger=csv", "callbacks=null"], tmp_path)
    assert (list(cfg.logger), cfg.extras.trusted_targets) == (["csv"], ["some_parts"])
    assert cfg.paths.data_dir == str(project / "data")
    with pytest.raises(ConfigError, match=r"no option 'mne'\. Nearest valid option: mine"):
        compose_run(["logger=mne"], tmp_path)
    with pytest.raises(ConfigError, match=r"command line: loger: unknown key\. Nearest valid key: logger\."):
        compose_run(["loger=mine"], tmp_path)


def test_the_house_comes_behind_evaluations_and_predictions_without_a_file_of_their_own(project, tmp_path):
    assert primary_file(project, "train.yaml") == ("main.yaml", True)
    assert primary_file(project, "eval.yaml") == ("eval.yaml", False)
    cfg = compose_run(["ckpt_path=a.ckpt"], tmp_path, "eval.yaml")
    assert (cfg.name, cfg.extras.trusted_targets) == ("eval", ["some_parts"])


def test_arguments_of_the_package_are_read_from_source_with_bases_of_ours(project, tmp_path):
    """Its modules need not be importable; errors name the project's file and line."""
    with pytest.raises(ConfigError) as raised:
        compose_run(["logger=mine", "+logger.mine.save_dr=x", "logger.mine.width=wide"], tmp_path)
    message = str(raised.value)
    assert "logger.mine.save_dr: some_parts.loggers.Mine has no argument 'save_dr'. Nearest valid key" in message
    assert "logger.mine.width: 'wide' is of the wrong type" in message
    with pytest.raises(ConfigError, match=r"configs/logger/mine\.yaml:3: logger\.mine\._target_.*package is not"):
        compose_run(["logger=mine", "extras.trusted_targets=[]"], tmp_path)


def test_catalogue_checks_the_files_of_the_project_within_the_house(project):
    (project / "configs/logger/bad.yaml").write_text("# @package logger\nbad:\n  _target_: some_parts.loggers.Min\n")
    catalogue = Catalogue(project / "configs")
    results = {case: catalogue.check(case) for case in catalogue.first_cases()}
    assert {str(case) for case in results} == {"main.yaml", "main.yaml logger=bad", "main.yaml logger=mine"}
    failures = {str(case): result.failure for case, result in results.items() if result.failure}
    assert list(failures) == ["main.yaml logger=bad", "main.yaml logger=mine"]
    assert "defines no class or function 'Min'" in failures["main.yaml logger=bad"]
    assert "needs the argument 'save_dir'" in failures["main.yaml logger=mine"]


def test_an_absent_package_of_configurations_is_named(project, tmp_path):
    (project / "configs/main.yaml").write_text("defaults: [_self_]\nhydra:\n  searchpath: [pkg://not_there.configs]\n")
    with pytest.raises(ConfigError, match=r"not_there\.configs: there is no such package"):
        compose_run([], tmp_path)


def test_a_folder_below_the_home_folder_may_be_given_in_env(project, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PROJECT_ROOT", str(project))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", "~/runs")
    monkeypatch.setattr(sys, "path", [*sys.path])
    enter_project(project)
    assert os.environ["HYDRAUDIO_LOG_DIR"] == str(tmp_path / "runs")


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("data.root=~/corpus", "data.root=/home/x/corpus"),
        ("input='~/a b'", "input='/home/x/a b'"),
        ("ckpt_path=[~/a,~/b]", "ckpt_path=[/home/x/a,/home/x/b]"),
        ("data.root=~/a,/b", "data.root=/home/x/a,/b"),
        ("~callbacks.ema", "~callbacks.ema"),
        ("~logger=csv", "~logger=csv"),
        ("name=a~/b", "name=a~/b"),
    ],
)
def test_a_value_may_begin_with_the_home_folder(monkeypatch, given, expanded):
    monkeypatch.setenv("HOME", "/home/x")
    assert with_home(given) == expanded


def test_project_is_looked_for_upwards_then_in_the_environment(project, tmp_path, monkeypatch):
    (project / "some_parts" / "deep").mkdir()
    monkeypatch.delenv("PROJECT_ROOT")
    monkeypatch.chdir(project / "some_parts" / "deep")
    assert find_project() == project
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"PROJECT_ROOT, or begin one: python -m hydraudio\.new_project NAME"):
        find_project()
    monkeypatch.setenv("PROJECT_ROOT", str(project))
    assert find_project() == project


@pytest.mark.parametrize("verb", ["train", "eval", "predict"])
def test_commands_of_a_project(project, verb, repository):
    """In a process of its own: Hydra itself composes from both places; logs and data are the project's."""
    given = {"train": ["experiment=null"], "eval": ["ckpt_path=x"], "predict": ["ckpt_path=x", "input=x"]}[verb]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HYDRAUDIO_", "PROJECT_"))}
    environment["PYTHONPATH"] = str(repository / "src")
    command = [sys.executable, "-m", f"hydraudio.{verb}", *given, "--cfg", "job", "--package", "paths", "--resolve"]
    options = {"cwd": project / "some_parts", "env": environment, "capture_output": True, "text": True, "timeout": 60}
    result = subprocess.run(command, **options)
    assert f"log_dir: {project}/logs" in result.stdout, result.stderr
    shutil.rmtree(project / "configs")
    lost = subprocess.run(command, **options)
    assert (lost.returncode, lost.stdout) == (1, "")
    assert "Configuration error:\n" in lost.stderr
    assert "python -m hydraudio.new_project NAME" in lost.stderr
