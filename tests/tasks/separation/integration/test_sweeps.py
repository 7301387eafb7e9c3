"""Searches with pruning through the real command: kill, resume, repetition of the best trials, leaderboard."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[4]
TINY = [
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
    "data.num_workers=0",
    "data.batch_size=3",
    "data.eval_batch_size=6",
    "report.metrics=fast",
    "report.n_examples=0",
    "report.n_bootstrap=20",
    "trainer=cpu",
    "logger=csv",
    "callbacks.progress=null",
    "trainer.enable_progress_bar=false",
]
SEARCH = [
    "-m",
    "hparams_search=separation/stage1",
    "experiment=separation/polsess_conv_tasnet_sb",
    "name=searched",
    "trainer.max_epochs=3",
    "hydra.sweeper.sampler.n_startup_trials=2",
    "hydra.sweeper.pruner.min_resource=1",
    "hydra.sweeper.pruner.max_resource=3",
    *TINY,
]


def rows(database: Path, query: str) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


def kill_after_the_first_report(folder: Path, arguments: list[str]) -> None:
    """Start a search and kill it when its first trial has validated once."""
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(folder / "logs"), "OMP_NUM_THREADS": "1"}
    database = folder / "logs" / "optuna_searched_stage1.db"
    command = [sys.executable, str(ROOT / "src" / "train.py"), *arguments]
    with (folder / "killed.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        begin_s = time.monotonic()
        while not _has_reported(database):
            assert process.poll() is None, (folder / "killed.txt").read_text()
            assert time.monotonic() - begin_s < 120
            time.sleep(0.05)
        process.kill()
        process.wait(timeout=30)


def _has_reported(database: Path) -> bool:
    try:
        return bool(rows(database, "SELECT * FROM trial_intermediate_values")) if database.is_file() else False
    except sqlite3.OperationalError:  # the tables are not there yet, or being written
        return False


@pytest.mark.slow
def test_killed_search_continues_and_its_best_trial_is_run_again(polsess_root, command, tmp_path):
    search = [*SEARCH, f"data.root={polsess_root}"]
    kill_after_the_first_report(tmp_path, [*search, "trainer.max_epochs=200"])
    output = command("src/train.py", *search, "hydra.sweeper.n_trials=2").stdout
    database = tmp_path / "logs" / "optuna_searched_stage1.db"
    states = [state for (state,) in rows(database, "SELECT state FROM trials ORDER BY number")]
    assert states[0] == "FAIL"
    assert len(states) == 3
    assert set(states[1:]) <= {"COMPLETE", "PRUNED"}
    assert "Trial 0 was interrupted" in output
    results = yaml.safe_load((tmp_path / "logs" / "searched" / "optimization_results.yaml").read_text())
    assert set(results["best_params"]) >= {"model.optimizer.lr", "model.scheduler.patience"}
    assert (Path(results["run_folder"]) / "checkpoints" / "best.ckpt").is_file()

    again = [
        "scripts/results/rerun_best_trials.py",
        str(database),
        "--top",
        "1",
        "--seeds",
        "1,2",
        "trainer.max_epochs=1",
    ]
    printed = command(*again).stdout
    assert "SI-SDRi" in printed
    assert "over 2 seed(s)" in printed
    assert command(*again).stdout.count("is there already") == 2

    command("scripts/results/leaderboard.py")
    with (tmp_path / "logs" / "leaderboard_separation.csv").open() as file:
        (row,) = csv.DictReader(file)
    trial = results["best_trial"]
    assert (row["experiment"], row["n_seeds"], row["problem"]) == (f"searched_trial{trial}", "2", "SB")
    assert float(row["gmacs_per_s"]) > 0
    assert (tmp_path / "logs" / "leaderboard.html").is_file()


@pytest.mark.slow
def test_two_objectives(polsess_root, command, tmp_path):
    search = [*SEARCH, f"data.root={polsess_root}", "trainer.max_epochs=1", "hydra.sweeper.n_trials=2"]
    search += ["optimized_metric=[val/si_sdri,val/loss]", "hydra.sweeper.direction=[maximize,minimize]"]
    command("src/train.py", *search, "hydra.sweeper.pruner=null", "~callbacks.pruning")
    results = yaml.safe_load((tmp_path / "logs" / "searched" / "optimization_results.yaml").read_text())
    assert 1 <= len(results["solutions"]) <= 2
    assert all(len(solution["values"]) == 2 for solution in results["solutions"])


@pytest.mark.slow
def test_search_with_pruning_needs_its_sweeper(polsess_root, command):
    single = [argument for argument in SEARCH if argument != "-m" and not argument.startswith("hydra.")]
    result = command("src/train.py", *single, f"data.root={polsess_root}", check=False)
    assert result.returncode == 1
    assert "callbacks.pruning: this process runs no trial" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_profile_of_a_model(polsess_root, command):
    tiny = [argument for argument in TINY if argument.startswith("model.")]
    small = ["--seconds", "0.5", "--steps", "1", "trainer=cpu", "data.batch_size=1", f"data.root={polsess_root}"]
    printed = command("scripts/results/profile_model.py", *small, *tiny).stdout
    for name in ("parameters", "MACs per second of audio", "real-time factor", "training step", "peak memory"):
        assert name in printed
