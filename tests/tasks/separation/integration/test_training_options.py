"""What users switch on: precision, averaging, schedules, accumulation, compilation, loggers, debugging, processes."""

from __future__ import annotations

import csv
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import untrained

from hydra_preflight.errors import DataMismatchError
from hydraudio.core.run_folder import hold

Command = Callable[..., subprocess.CompletedProcess]
TINY = [
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
    "data.num_workers=0",
    "data.batch_size=3",  # four batches an epoch
    "data.eval_batch_size=6",
    "report.metrics=fast",
    "report.n_examples=0",
    "report.n_bootstrap=20",
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


def evaluate(checkpoint: Path, folder: Path) -> Path:
    """Evaluate in this process; returns the run folder."""
    from hydra_preflight.compose import compose_run
    from hydraudio import run

    run.evaluate(compose_run([f"ckpt_path={checkpoint}", "report.metrics=fast"], folder, "eval.yaml"))
    return folder


def train_command(command: Command, root: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
    return command("src/train.py", *TINY, f"data.root={root}", *arguments, **options)


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


def load(run: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)


def assert_equal(left: Any, right: Any, where: str = "checkpoint") -> None:
    """Compare nested containers bit for bit."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key, value in left.items():
            assert_equal(value, right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


def assert_same_end(left: Path, right: Path) -> None:
    """Weights, averages, optimizer, schedule, random states and counters of two runs are the same."""
    ours, theirs = load(left), load(right)
    assert ours.keys() == theirs.keys()
    paths = {"callbacks", "hydraudio_config"}  # hold the run folder
    assert_equal(*({key: value for key, value in end.items() if key not in paths} for end in (ours, theirs)))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(run / "metrics.csv") if row.get(name)]


def items(run: Path) -> list[tuple[str, ...]]:
    return [tuple(row[key] for key in ("id", "variant", "si_sdr")) for row in rows(run / "report" / "items.csv")]


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=pytest.mark.slow)])
def test_reduced_precision_trains_and_tests(polsess_root, tmp_path, precision):
    train(
        polsess_root, tmp_path, f"trainer.precision={precision}", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"
    )
    losses = column(tmp_path, "train/loss")
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    assert len(items(tmp_path)) == 27
    saved = load(tmp_path)["state_dict"]
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in saved.values())


OPTIONS = {
    "ema": ["callbacks=[default,ema]", "callbacks.ema.decay=0.7"],
    "warmup": ["model/scheduler=warmup_cosine", "model.scheduler.warmup_ratio=0.34"],
    "accumulate": ["trainer.accumulate_grad_batches=3"],  # steps after the third and the fourth batch of an epoch
}
OPTIONS["all"] = [override for option in OPTIONS.values() for override in option]


@pytest.mark.parametrize("option", ["all", *(pytest.param(name, marks=pytest.mark.slow) for name in list(OPTIONS)[:3])])
def test_resume_is_exact(polsess_root, tmp_path, monkeypatch, option):
    common = [*OPTIONS[option], "trainer.max_epochs=3", "test=false", "callbacks.last_checkpoint.every_n_steps=1"]
    whole = train(polsess_root, tmp_path / "whole", *common)
    cut = tmp_path / "cut"
    interrupted(monkeypatch, 4, polsess_root, cut, *common)  # inside the first epoch
    assert load(cut)["epoch"] == 0
    interrupted(monkeypatch, 4, polsess_root, cut, *common, "ckpt_path=last")
    train(polsess_root, cut, *common, "ckpt_path=last")
    assert_same_end(whole, cut)


def test_schedule_spans_the_training(polsess_root, tmp_path):
    run = train(polsess_root, tmp_path, *OPTIONS["all"], "trainer.max_epochs=3", "test=false", "model.optimizer.lr=0.1")
    checkpoint = load(run)
    assert checkpoint["global_step"] == 6
    schedule = checkpoint["lr_schedulers"][0]
    assert schedule["lr_lambdas"][0] == {"n_warmup_steps": 2, "n_steps": 6, "min_ratio": 0.01}
    assert schedule["last_epoch"] == 6
    assert schedule["_last_lr"] == [pytest.approx(0.001)]


def test_average_is_validated_tested_and_saved(polsess_root, tmp_path):
    run = train(polsess_root, tmp_path / "run", *OPTIONS["ema"], "trainer.max_epochs=1", "model.optimizer.lr=0.01")
    best = load(run, "best")
    assert_equal(best["state_dict"], load(run)["state_dict"])
    name = "net.encoder.conv.weight"
    assert not torch.equal(best["state_dict"][name], best["current_model_state"][name])
    assert items(evaluate(run / "checkpoints" / "best.ckpt", tmp_path / "eval")) == items(run)


def test_training_can_start_from_given_weights(polsess_root, tmp_path):
    first = train(polsess_root, tmp_path / "first", *OPTIONS["ema"], "trainer.max_epochs=1", "test=false")
    second = train(
        polsess_root,
        tmp_path / "second",
        f"init_from={first}/checkpoints/best.ckpt",
        "trainer.max_epochs=1",
        "test=false",
        "model.optimizer.lr=0",
        "model.optimizer.weight_decay=0",
    )
    assert_equal(load(second)["state_dict"], load(first, "best")["state_dict"])
    assert (load(second)["epoch"], load(second)["global_step"]) == (1, 4)


def test_a_run_that_began_with_parts_of_another_continues_without_it(polsess_root, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = untrained.write_run(tmp_path / "first", *TINY, f"data.root={polsess_root}", "seed=1")
    still = ["model.optimizer.lr=0", "model.optimizer.weight_decay=0", "test=false", "data.problem=SB"]
    given = [*still, f"init_from={first}", "init_only=[net.encoder]"]
    second = train(polsess_root, tmp_path / "second", "trainer.max_epochs=1", *given)
    name = "net.encoder.conv.weight"
    expected = torch.load(first, weights_only=True)["state_dict"][name]
    assert torch.equal(load(second)["state_dict"][name], expected)
    assert "loaded 1 tensors (512 values): net.encoder; kept their new values: net.mask_net, net.decoder" in caplog.text
    first.unlink()
    train(polsess_root, second, "trainer.max_epochs=2", *given, "ckpt_path=last")
    assert torch.equal(load(second)["state_dict"][name], expected)


def test_terminated_test_says_so_and_can_be_repeated(polsess_root, tmp_path, monkeypatch):
    from hydraudio.tasks.separation.task import SeparationTask

    common = ["trainer.max_epochs=1", "data.eval_batch_size=2"]
    with monkeypatch.context() as patch:
        patch.setattr(SeparationTask, "test_step", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        patch.setattr("hydraudio.tasks.separation.report.callback.SeparationReport.on_test_batch_end", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            train(polsess_root, tmp_path, *common)
    assert stop.value.code == 143
    train(polsess_root, tmp_path, *common, "ckpt_path=last")
    assert len(items(tmp_path)) == 27


@pytest.mark.slow
def test_a_checkpoint_of_other_data_is_refused(polsess_root, tmp_path):
    run = train(polsess_root, tmp_path / "run", "trainer.max_epochs=1", "test=false")
    record = (run / "config.yaml").read_text()
    other = tmp_path / "corpus"
    shutil.copytree(polsess_root, other)
    table = next(iter(sorted(other.rglob("*.csv"))))
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    for given in ("ckpt_path=last", f"ckpt_path={run}/checkpoints/best.ckpt"):
        for more in ((), ("train=false",)):
            with pytest.raises(DataMismatchError, match="sample_rate=16000"):
                train(polsess_root, run, given, *more, "data.sample_rate=16000")
            with pytest.raises(DataMismatchError, match="corpus fingerprint"):
                train(other, run, given, *more)
    assert (run / "config.yaml").read_text() == record


def test_the_record_of_a_continued_run_lists_what_changed(polsess_root, tmp_path, caplog):
    run = train(polsess_root, tmp_path, "trainer.max_epochs=1", "test=false")
    train(polsess_root, run, "ckpt_path=last", "trainer.max_epochs=2", "test=false", "model.optimizer.lr=5e-5")
    changes = "model.optimizer.lr=5e-05 (was 0.001); trainer.max_epochs=2 (was 1)"
    assert changes in (run / "environment.txt").read_text()
    assert changes in caplog.text
    assert load(run)["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(5e-5)


def test_schedule_needs_an_end(polsess_root, tmp_path):
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs"):
        train(polsess_root, tmp_path, "model/scheduler=warmup_cosine", "trainer.max_epochs=-1")


@pytest.mark.slow
def test_compiled_net_keeps_the_names_and_the_results(polsess_root, tmp_path):
    from torch._dynamo.utils import counters

    common = ["trainer.max_epochs=1", "test=false", "model.net.n_blocks=1", "model.optimizer._target_=torch.optim.SGD"]
    plain = train(polsess_root, tmp_path / "plain", *common)
    counters.clear()
    compiled = train(polsess_root, tmp_path / "compiled", *common, "model.compile=true")
    assert counters["frames"]["ok"] > 0
    ours, theirs = load(compiled)["state_dict"], load(plain)["state_dict"]
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=1e-5)
    evaluate(compiled / "checkpoints" / "best.ckpt", tmp_path / "eval")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["cpu", "ddp_sim"])
def test_loss_that_is_not_finite_stops_the_run(polsess_root, tmp_path, command, trainer):
    result = train_command(
        command, polsess_root, f"trainer={trainer}", "model.optimizer.lr=1e30", "name=run", check=False, timeout=120
    )
    assert result.returncode == 1
    message = next(line for line in result.stderr.splitlines() if "NonFiniteError: the loss is" in line)
    files = {file.name for file in (polsess_root / "train" / "mix").iterdir()}
    assert sum(name in message for name in files) == 3
    run = tmp_path / "logs" / "run" / "latest"
    assert all(value.isfinite().all() for value in load(run)["state_dict"].values())
    assert not (run / "checkpoints" / "on_exception.ckpt").exists()


DEBUG_FILES = {
    "default": ["checkpoints/best.ckpt", "checkpoints/last.ckpt"],
    "fdr": [],
    "limit": ["checkpoints/best.ckpt"],
    "overfit": ["checkpoints/best.ckpt"],
    "profiler": ["fit-profile.txt", "test-profile.txt"],
}


@pytest.mark.slow
@pytest.mark.parametrize("debug", DEBUG_FILES)
def test_debug_option_runs(polsess_root, tmp_path, command, debug):
    train_command(command, polsess_root, f"debug={debug}")
    run = tmp_path / "logs" / "debug" / "latest"
    for name in [*DEBUG_FILES[debug], "report/index.html"]:
        assert (run / name).is_file(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["logger=none"], set()),
        (["logger=none", "callbacks=none"], set()),
        (["logger=csv"], {"metrics.csv"}),
        (["logger=tensorboard"], {"tensorboard"}),
        ([], {"metrics.csv", "tensorboard"}),
    ],
)
def test_loggers_write_what_they_say(polsess_root, tmp_path, command, options, written):
    train_command(command, polsess_root, "trainer=cpu", "trainer.max_epochs=1", "name=run", *options)
    run = tmp_path / "logs" / "run" / "latest"
    assert {name for name in ("metrics.csv", "tensorboard") if (run / name).exists()} == written
    assert (run / "report" / "index.html").is_file()
    assert not [file for file in (run / "checkpoints").iterdir() if set("=,") & set(file.name)]


def terminate(root: Path, folder: Path, *arguments: str, signum: int = signal.SIGTERM, everyone: bool = False) -> str:
    """Send a signal to the main process of a run, or to its group, after its first checkpoint; what it printed."""
    script = Path(__file__).parents[4] / "src" / "train.py"
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(folder / "logs"), "OMP_NUM_THREADS": "1"}
    last = folder / "logs" / "run" / "latest" / "checkpoints" / "last.ckpt"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would hand on that it is ignored
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(script), *TINY, f"data.root={root}", *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while process.poll() is None and not last.is_file():
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(process.pid, signum) if everyone else process.send_signal(signum)
        try:
            status = process.wait(timeout=60)
        finally:
            process.kill()
    text = (folder / "output.txt").read_text()
    assert status == 128 + signum, text
    return text


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_a_run_and_its_workers_is_answered_in_words(polsess_root, tmp_path, signum):
    common = ["trainer=cpu", "trainer.max_epochs=5000", "test=false", "name=run", "logger=csv", "data.num_workers=2"]
    text = terminate(polsess_root, tmp_path, *common, signum=signum, everyone=True)
    assert "continue with the same command and ckpt_path=last." in text
    assert "Traceback" not in text
    assert len(text.splitlines()) < 60


@pytest.mark.slow
def test_a_second_process_is_refused_and_changes_nothing(polsess_root, tmp_path, command):
    folder = tmp_path / "logs" / "run" / "held"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    (folder.parent / "latest").symlink_to("held")
    with hold(folder):
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        result = train_command(command, polsess_root, "name=run", "ckpt_path=last", check=False)
        assert result.returncode == 1
        assert f"process {os.getpid()} on" in result.stderr
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".log"}
        assert after == before


@pytest.mark.slow
def test_a_start_that_fails_leaves_no_folder_and_not_latest(polsess_root, tmp_path, command):
    for corpus, more in ((tmp_path / "none", ()), (polsess_root, ("model.net.kernel_size=-1",))):
        assert train_command(command, corpus, "name=run", *more, check=False).returncode == 1
        assert not list((tmp_path / "logs").rglob("*"))


@pytest.mark.slow
def test_terminated_processes_stop_together_and_resume_exactly(polsess_root, tmp_path, command):
    common = ["trainer=ddp_sim", "trainer.max_epochs=200", "test=false", "name=run", "logger=csv"]
    (tmp_path / "cut").mkdir()
    assert "ckpt_path=last" in terminate(polsess_root, tmp_path / "cut", *common)
    cut = tmp_path / "cut" / "logs" / "run" / "latest"
    n_epochs = load(cut)["epoch"] + 2
    assert n_epochs < 200, "SIGTERM came too late"
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(tmp_path / "cut" / "logs"), "OMP_NUM_THREADS": "1"}
    end = f"trainer.max_epochs={n_epochs}"
    train_command(command, polsess_root, *common, end, "ckpt_path=last", env=environment)
    train_command(command, polsess_root, *common, end)
    whole = tmp_path / "logs" / "run" / "latest"
    assert_same_end(whole, cut)
    assert column(whole, "val/loss") == column(cut, "val/loss")


@pytest.mark.slow
def test_sharded_training_equals_data_parallel_training(polsess_root, tmp_path, command):
    common = ["test=false", "model.optimizer._target_=torch.optim.SGD", "model.optimizer.lr=0.01"]
    common += ["+model.optimizer.momentum=0.9", "trainer.gradient_clip_val=0.1"]  # norm of the whole gradient
    sharded = ["trainer=fsdp2", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    train_command(command, polsess_root, *common, *sharded, "trainer.max_epochs=1", "name=sharded")
    options = ["trainer.max_epochs=2", "name=sharded", "ckpt_path=last", "test=true"]
    train_command(command, polsess_root, *common, *sharded, *options)
    train_command(command, polsess_root, *common, "trainer=ddp_sim", "trainer.max_epochs=2", "name=parallel")
    ours, theirs = tmp_path / "logs" / "sharded" / "latest", tmp_path / "logs" / "parallel" / "latest"
    for name in ("best", "last"):
        assert (ours / "checkpoints" / f"{name}.ckpt").is_file()
        left, right = load(ours, name)["state_dict"], load(theirs, name)["state_dict"]
        assert left.keys() == right.keys()
        for key in left:
            torch.testing.assert_close(left[key], right[key], rtol=0, atol=1e-5)
    assert len(column(ours, "val/loss")) == 2  # the resumed run goes on in the same file
    evaluated = items(evaluate(ours / "checkpoints" / "best.ckpt", tmp_path / "eval"))
    assert sorted(evaluated) == sorted(items(ours))


@pytest.mark.slow
def test_average_of_sharded_weights_is_refused(polsess_root, command):
    sharded = ["trainer=fsdp2", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    result = train_command(command, polsess_root, *sharded, "callbacks=[default,ema]", check=False)
    assert result.returncode != 0
    assert "callbacks.ema averages whole weights" in result.stderr
