"""The Makefile's default experiment and the search of each task that ``make sweep`` runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = sorted(path.stem for path in (ROOT / "configs/task").glob("*.yaml"))


def command_of(*arguments: str) -> str:
    """What make would run last."""
    command = ["make", "-n", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("task", TASKS)
def test_sweep_searches_the_space_of_the_experiments_task(task):
    experiment = min((ROOT / "configs/experiment" / task).glob("*.yaml")).stem
    command = command_of("sweep", f"EXPERIMENT={task}/{experiment}", "ARGS=seed=3")
    assert f"-m hparams_search={task}/quick experiment={task}/{experiment} seed=3" in command
    assert (ROOT / "configs/hparams_search" / task / "quick.yaml").is_file()


def test_sweep_without_arguments_is_short():
    command = command_of("sweep")
    task = command.partition("experiment=")[2].partition("/")[0]
    assert f"hparams_search={task}/quick experiment={task}/" in command
