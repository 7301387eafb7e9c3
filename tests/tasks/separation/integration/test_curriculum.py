"""A curriculum from configuration to log, with kills in every stage, workers and processes."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

TINY = [
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
    "data.num_workers=0",
    "data.eval_batch_size=6",
]
STAGES = (
    "callbacks.curriculum.stages=["
    "{first_epoch:0,variants:[SER,R],scheduler:off,lr:0.02},"
    "{first_epoch:2,variants:[SER,SE],scheduler:on},"
    "{first_epoch:4,variants:null,lr:0.005}]"
)
COMMON = [
    "callbacks=[separation/curriculum,default]",
    STAGES,
    "trainer.max_epochs=6",
    "trainer.log_every_n_steps=1",
    "test=false",
    "data.batch_size=4",
    "model.scheduler.patience=0",
    "model.scheduler.factor=0.5",
    "+model.scheduler.threshold=1000",  # dB: after the first one every epoch counts as bad
    "+model.scheduler.threshold_mode=abs",
]


@pytest.fixture(autouse=True)
def project_root(repository, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))


def train(root: Path, folder: Path, *arguments: str) -> Path:
    """Train in this process; returns the run folder."""
    from hydra_preflight.compose import compose_run
    from hydraudio import run

    quiet = ["trainer=cpu", "logger=csv", "trainer.enable_progress_bar=false", "callbacks.progress=null"]
    run.train(compose_run([*TINY, *quiet, f"data.root={root}", *arguments], folder))
    return folder


def interrupted(monkeypatch: pytest.MonkeyPatch, batch: int, root: Path, folder: Path, *arguments: str) -> None:
    """Train until the given batch of this process, counted from 1, fails."""
    from hydraudio.tasks.separation.task import SeparationTask

    original, seen = SeparationTask.training_step, []

    def step(task, batch_of_data):
        seen.append(batch_of_data)
        if len(seen) == batch:
            raise RuntimeError("pulled the plug")
        return original(task, batch_of_data)

    with monkeypatch.context() as patch:
        patch.setattr(SeparationTask, "training_step", step)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train(root, folder, *arguments)


def load(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def assert_equal(left: Any, right: Any, where: str = "checkpoint") -> None:
    """Compare nested containers bit for bit."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key, value in left.items():
            assert_equal(value, right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


def assert_same_end(left: Path, right: Path) -> None:
    """Weights, optimizer, schedule, curriculum, random states and counters of two runs are the same."""
    ours, theirs = load(left), load(right)
    assert ours.keys() == theirs.keys()
    paths = {"callbacks", "hydraudio_config"}  # hold the run folder
    assert_equal(*({key: value for key, value in end.items() if key not in paths} for end in (ours, theirs)))


@pytest.fixture(scope="module")
def whole(polsess_root, repository, tmp_path_factory) -> Path:
    """A run that was never interrupted: 2 epochs of 2 batches indoors, then 4 of 3 batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        return train(polsess_root, tmp_path_factory.mktemp("whole"), *COMMON)


def test_stages_are_in_log_and_metrics(polsess_root, whole, tmp_path, caplog):
    assert column(whole, "curriculum/stage") == [0, 0, 1, 1, 2, 2]
    assert len(column(whole, "train/loss")) == 2 * 2 + 4 * 3
    # off in epochs 0 and 1; the first value after it starts is the best one by definition; then halved every epoch
    assert column(whole, "lr-Adam") == pytest.approx([0.02, 0.02, 0.02, 0.02, 0.005, 0.0025])
    with caplog.at_level(logging.INFO, "hydraudio.tasks.separation.curriculum"):
        train(polsess_root, tmp_path, *COMMON, "trainer.max_epochs=3")
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("curriculum")]
    assert len(lines) == 2
    assert (
        "stage 0 (of 0 to 2) begins with epoch 0: variants SER R, learning rate 0.02, scheduler off, 2 batch"
        in lines[0]
    )
    assert (
        "stage 1 (of 0 to 2) begins with epoch 2: variants SER SE, learning rate 0.02, scheduler on, 3 batch"
        in lines[1]
    )


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(3, marks=pytest.mark.slow),  # first batch of the second epoch
        pytest.param(4, marks=pytest.mark.slow),  # inside the first stage
        5,  # first batch of the second stage
        pytest.param(7, marks=pytest.mark.slow),
        pytest.param(9, marks=pytest.mark.slow),
        pytest.param(11, marks=pytest.mark.slow),  # first batch of the last stage
        pytest.param(15, marks=pytest.mark.slow),
    ],
)
def test_killed_in_any_stage_and_resumed_ends_alike(polsess_root, whole, tmp_path, monkeypatch, batch):
    every = [*COMMON, "callbacks.last_checkpoint.every_n_steps=1"]
    interrupted(monkeypatch, batch, polsess_root, tmp_path, *every)
    assert load(tmp_path)["global_step"] == batch - 1
    train(polsess_root, tmp_path, *every, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


def test_training_can_be_made_longer_at_the_end_of_a_stage(polsess_root, whole, tmp_path):
    train(polsess_root, tmp_path, *COMMON, "trainer.max_epochs=4")
    assert load(tmp_path)["hydraudio_curriculum"]["stage"] == 2
    train(polsess_root, tmp_path, *COMMON, "ckpt_path=last")
    assert_same_end(whole, tmp_path)


def test_workers_see_the_stages(polsess_root, whole, tmp_path):
    train(polsess_root, tmp_path, *COMMON, "data.num_workers=2")
    assert_same_end(whole, tmp_path)


@pytest.mark.slow
def test_early_stopping_waits_for_the_last_stage(polsess_root, tmp_path):
    options = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1000"]
    train(polsess_root, tmp_path, *COMMON, *options, "trainer.max_epochs=20")
    assert column(tmp_path, "curriculum/stage") == [0, 0, 1, 1, 2]


@pytest.mark.slow
def test_plateau_begins_a_stage_and_is_resumed(polsess_root, tmp_path, monkeypatch):
    stages = (
        "callbacks.curriculum.stages=[{first_epoch:0,variants:[SER]},"
        "{after_plateau_of:val/si_sdri,patience:2,min_delta:1000,variants:[SE]},"
        "{after_plateau_of:val/si_sdri,patience:9,variants:null}]"
    )
    options = [*COMMON, stages, "callbacks.last_checkpoint.every_n_steps=1", "trainer.max_epochs=5"]
    train(polsess_root, tmp_path / "whole", *options)
    # the first validation sets the best, the next two are not better by 1000 dB
    assert column(tmp_path / "whole", "curriculum/stage") == [0, 0, 0, 1, 1]
    for batch in (4, 4):
        resume = ["ckpt_path=last"] if (tmp_path / "cut").exists() else []
        interrupted(monkeypatch, batch, polsess_root, tmp_path / "cut", *options, *resume)
    train(polsess_root, tmp_path / "cut", *options, "ckpt_path=last")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ("[{first_epoch:0},{first_epoch:1,variants:[SRE]}]", r"stages\[1\].*did you mean 'SER'"),
        ("[{first_epoch:0},{first_epoch:1,variants:[C]}]", r"stages\[1\].*variants C are not among those that data"),
        ("[{first_epoch:0},{after_plateau_of:val/sdr}]", r"stages\[1\].*no such metric; choose one of.*val/si_sdri"),
    ],
)
def test_stages_that_do_not_fit_the_data(polsess_root, tmp_path, stages, words):
    options = [*COMMON, f"callbacks.curriculum.stages={stages}", "data.allowed_variants=[SER,SE]"]
    with pytest.raises(ValueError, match=words):
        train(polsess_root, tmp_path, *options)


@pytest.mark.slow
def test_two_processes_walk_together(polsess_root, tmp_path, command):
    quiet = ["logger=csv", "trainer=ddp_sim", "name=run", "data.num_workers=1", "data.batch_size=2"]
    command("src/train.py", *TINY, f"data.root={polsess_root}", *COMMON, *quiet)
    run = tmp_path / "logs" / "run" / "latest"
    assert column(run, "curriculum/stage") == [0, 0, 1, 1, 2, 2]
    assert load(run)["global_step"] == 2 * 2 + 4 * 3


def test_mixing_and_speed_come_from_the_command_line(polsess_root, tmp_path):
    options = ["data.dynamic_mixing={reverb:new,event_db:[-12,2],probability:0.9}", "data.speed=[0.9,1.1]"]
    options += ["data.segment_s=0.8", "data.speed_noises=true", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"]
    train(polsess_root, tmp_path, *options, "test=false", "data.batch_size=4")
    assert len(column(tmp_path, "train/loss")) == 3
