"""What every YAML of a group promises. New files are picked up by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate

from hydra_preflight.catalogue import Case, Catalogue

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TASKS = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))
NEEDS_GPU = {"gpu", "mps", "ddp", "fsdp2"}
NEEDS_PACKAGE = {"many_loggers", "wandb", "mlflow", "aim", "comet", "many"}


def options(group: str) -> list[str]:
    """Selectable files of a group and of the folders of tasks in it; those with a leading underscore are bases."""
    folder = CONFIGS / group
    files = [*folder.glob("*.yaml"), *(path for task in TASKS for path in folder.glob(f"{task}/*.yaml"))]
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in files if not path.stem.startswith("_")
    )


def task_of(option: str) -> list[str]:
    """The override for the task that an option belongs to."""
    folder = option.rpartition("/")[0]
    return [f"task={folder}"] if folder in TASKS else []


def is_pair(case: Case) -> bool:
    """Whether a case combines an experiment with a debug option: make lint composes those."""
    return {choice.partition("=")[0] for choice in case.choices} >= {"experiment", "debug"}


@pytest.fixture
def compose_train(tmp_path, monkeypatch):
    """Compose train.yaml as the entry script does, with the run folder below tmp_path."""
    from hydra_preflight.compose import compose_run

    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(tmp_path / "logs"))
    return lambda *overrides: compose_run(overrides, tmp_path)


PLAIN, WITH_TARGETS = Catalogue(CONFIGS), Catalogue(CONFIGS, targets=True)
ALL = [case for case in PLAIN.first_cases() if case.primary == "train.yaml"]
CASES = [case for case in ALL if case.choices and not is_pair(case)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_composes_and_passes_the_check(case, tmp_path, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(tmp_path / "logs"))
    catalogue = PLAIN if case.choices[-1].partition("=")[2] in NEEDS_PACKAGE else WITH_TARGETS
    assert catalogue.check(case).failure is None


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

    cfg = compose_train(*task_of(option), f"callbacks={option}")
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    assert callbacks
    assert all(isinstance(callback, Callback) for callback in callbacks)


@pytest.mark.parametrize("option", sorted(set(options("logger")) - NEEDS_PACKAGE))
def test_loggers_instantiate(compose_train, option):
    from lightning.pytorch.loggers import Logger

    loggers = [instantiate(node) for node in (compose_train(f"logger={option}").logger or {}).values()]
    assert all(isinstance(logger, Logger) for logger in loggers)
    assert loggers
