"""The separation task from configuration to report, on a tiny corpus in the real format."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

TINY = [
    "trainer=cpu",
    "data.num_workers=0",
    "data.batch_size=4",
    "data.eval_batch_size=6",
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
    "report.n_examples=1",
    "report.n_bootstrap=50",
]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]


def assert_same_weights(left: Path, right: Path) -> None:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(polsess_root, tmp_path_factory) -> Path:
    """Run folder of a short training with a full report."""
    folder = tmp_path_factory.mktemp("trained")
    run_train(folder, polsess_root, "trainer.max_epochs=2", "name=tiny")
    return folder / "logs" / "tiny" / "latest"


def start_train(folder: Path, root: Path, *arguments: str) -> subprocess.Popen:
    script = Path(__file__).parents[4] / "src" / "train.py"
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(folder / "logs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *TINY, f"data.root={root}", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_train(folder: Path, root: Path, *arguments: str) -> str:
    process = start_train(folder, root, *arguments)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def test_run_folder_is_complete(trained):
    for name in (
        "config.yaml",
        "environment.txt",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "report/index.html",
        "report/items.csv",
        "report/variants.csv",
        "report/slices.csv",
    ):
        assert (trained / name).is_file(), name
    assert any((trained / "tensorboard").iterdir())
    assert len(list(trained.parent.iterdir())) == 2  # the run and `latest`
    items = rows(trained / "report" / "items.csv")
    assert len(items) == 3 * 5 + 3 * 4  # three indoor rows in five variants, three outdoor rows in four
    assert {item["variant"] for item in items} == {"SER", "SR", "ER", "R", "C", "SE", "S", "E"}


@pytest.mark.slow
def test_eval_of_the_checkpoint_equals_the_test_after_training(trained, command, tmp_path):
    command("src/eval.py", f"ckpt_path={trained}/checkpoints/best.ckpt", "report.metrics=fast")
    after_training = rows(trained / "report" / "items.csv")
    evaluated = rows(tmp_path / "logs" / "eval" / "latest" / "report" / "items.csv")
    assert [item["id"] for item in evaluated] == [item["id"] for item in after_training]
    for column in ("si_sdr", "si_sdr_mixture", "si_sdri"):
        assert [item[column] for item in evaluated] == [item[column] for item in after_training]


@pytest.mark.slow
def test_eval_of_one_variant_and_comparison(trained, command, tmp_path):
    folder = trained / "checkpoints"
    command(
        "src/eval.py",
        f"ckpt_path=[{folder}/best.ckpt,{folder}/last.ckpt]",
        "report.metrics=fast",
        "data.test_variants=SER",
    )
    run = tmp_path / "logs" / "eval" / "latest"
    assert (run / "report" / "comparison.csv").is_file()
    assert (run / "report" / "index.html").is_file()
    reports = sorted(run.glob("*/report/items.csv"))
    assert len(reports) == 2
    assert {item["variant"] for item in rows(reports[0])} == {"SER"}


@pytest.mark.slow
def test_predict_keeps_rate_length_and_tree(trained, command, tmp_path):
    source = tmp_path / "in" / "deep"
    source.mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(source / "stereo.wav", 0.1 * rng.standard_normal((30011, 2)), 44100)
    soundfile.write(tmp_path / "in" / "short.flac", 0.1 * rng.standard_normal(900), 16000)
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    command("src/predict.py", checkpoint, f"input={tmp_path}/in", f"output={tmp_path}/out")
    info = soundfile.info(tmp_path / "out" / "deep" / "stereo.wav")
    assert (info.samplerate, info.frames, info.channels) == (44100, 30011, 1)
    assert soundfile.info(tmp_path / "out" / "short.wav").frames == 900


@pytest.mark.slow
def test_predict_names_the_bad_file_and_does_the_others(trained, command, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "in" / "good.wav", np.full(8000, 0.1), 8000)
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    result = command("src/predict.py", checkpoint, f"input={tmp_path}/in", f"output={tmp_path}/out", check=False)
    assert result.returncode == 1
    assert "broken.wav" in result.stdout + result.stderr
    assert (tmp_path / "out" / "good.wav").is_file()


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("src/eval.py", "model"),
        ("src/predict.py", "predict"),
        *(
            pytest.param(script, place, marks=pytest.mark.slow)
            for script, place in [
                ("src/eval.py", "data"),
                ("src/eval.py", "report"),
                ("src/eval.py", "predict"),
                ("src/predict.py", "model"),
                ("src/predict.py", "data"),
                ("src/predict.py", "report"),
            ]
        ),
    ],
)
def test_hostile_configuration_inside_a_checkpoint_is_refused(trained, command, tmp_path, script, place):
    checkpoint = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    cfg = OmegaConf.create(checkpoint["hydraudio_config"])
    cfg[place] = {"_target_": "os.system", "command": f"touch {tmp_path}/executed"}
    cfg.extras.trusted_targets = ["os."]  # trust is never taken from the checkpoint
    checkpoint["hydraudio_config"] = OmegaConf.to_yaml(cfg)
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    (tmp_path / "in").mkdir()
    more = ["input=in", "output=out"] if "predict" in script else []
    result = command(script, "ckpt_path=hostile.ckpt", *more, check=False)
    assert result.returncode == 1
    assert "os.system" in result.stderr
    assert not (tmp_path / "executed").exists()


def test_one_batch_can_be_overfitted(polsess_root):
    from hydraudio.losses.permutation import PermutationInvariant
    from hydraudio.losses.sdr import SISDRLoss
    from hydraudio.tasks.separation.corpora.polsess.datamodule import PolSESSDataModule
    from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet

    torch.manual_seed(0)
    data = PolSESSDataModule(root=str(polsess_root), problem="SB", batch_size=2, num_workers=0, max_train_samples=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    net = ConvTasNet(
        n_sources=2, n_filters=64, kernel_size=32, bottleneck_channels=32, hidden_channels=64, n_blocks=4, n_repeats=2
    )
    loss = PermutationInvariant(SISDRLoss())
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    values = []
    for _ in range(60):
        value = loss(net(batch["mixture"]), batch["target"], batch["lengths"])[0].mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[0] - values[-1] > 8  # dB


@pytest.mark.slow
def test_terminated_run_can_be_continued(polsess_root, tmp_path):
    process = start_train(tmp_path, polsess_root, "trainer.max_epochs=5000", "name=run", "logger=csv")
    last = tmp_path / "logs" / "run" / "latest" / "checkpoints" / "last.ckpt"
    while process.poll() is None and not last.is_file():
        time.sleep(0.05)
    before = torch.load(last, weights_only=True)["global_step"]
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 143, output
    assert "ckpt_path=last" in output
    assert torch.load(last, weights_only=True)["global_step"] > before


@pytest.mark.slow
def test_testing_without_training_takes_the_given_weights(trained, polsess_root, tmp_path):
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    run_train(tmp_path, polsess_root, checkpoint, "train=false", "name=only_test", "report.metrics=fast")
    tested = rows(tmp_path / "logs" / "only_test" / "latest" / "report" / "items.csv")
    after_training = rows(trained / "report" / "items.csv")
    assert [item["si_sdr"] for item in tested] == [item["si_sdr"] for item in after_training]


@pytest.mark.slow
def test_resuming_with_another_network_is_refused(trained, command):
    arguments = [f"ckpt_path={trained}/checkpoints/last.ckpt", *TINY, "model.net.n_filters=24", "data.problem=SB"]
    result = command("src/train.py", *arguments, check=False)
    assert result.returncode == 1
    assert "n_filters=16 (here 24), n_sources=1 (here 2)" in result.stderr


@pytest.mark.slow
def test_two_processes_train_into_one_folder(polsess_root, tmp_path):
    run_train(tmp_path, polsess_root, "trainer=ddp_sim", "trainer.max_epochs=1", "name=ddp", "report.metrics=fast")
    folder = tmp_path / "logs" / "ddp"
    assert len(list(folder.iterdir())) == 2  # the run and `latest`
    items = rows(folder / "latest" / "report" / "items.csv")
    assert len(items) == len({(item["id"], item["variant"]) for item in items}) == 27


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_ends_with_the_same_weights(polsess_root, tmp_path):
    arguments = (
        "trainer.max_epochs=3",
        "test=false",
        "name=run",
        "callbacks.last_checkpoint.every_n_steps=2",
    )
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    run_train(tmp_path / "whole", polsess_root, *arguments)
    for delay_s in (0.0, 0.05, 0.15):
        last = tmp_path / "cut" / "logs" / "run" / "latest" / "checkpoints" / "last.ckpt"
        resume = ("ckpt_path=last",) if last.is_file() else ()
        before = last.stat().st_mtime_ns if last.is_file() else 0
        process = start_train(tmp_path / "cut", polsess_root, *arguments, *resume)
        while process.poll() is None and not (last.is_file() and last.stat().st_mtime_ns > before):
            time.sleep(0.005)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run_train(tmp_path / "cut", polsess_root, *arguments, "ckpt_path=last")
    ends = [tmp_path / which / "logs" / "run" / "latest" / "checkpoints" / "last.ckpt" for which in ("whole", "cut")]
    assert_same_weights(*ends)
    assert len(list((tmp_path / "cut" / "logs" / "run").iterdir())) == 2  # one run folder and `latest`
