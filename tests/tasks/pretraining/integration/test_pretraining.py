"""Pretraining from configuration to report, on a tiny corpus in the layout of ESC-50."""

from __future__ import annotations

import csv
import json
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

REPOSITORY = Path(__file__).parents[4]
TINY = [
    "experiment=pretraining/esc50_quick",
    "name=tiny",
    "trainer=cpu",
    "data.num_workers=0",
    "data.batch_size=8",
    "data.crops_per_clip=1",
    "model.optimizer.lr=2e-3",
    "model.reference_batch=null",
    "model.net.target=raw",
    "report.n_bootstrap=20",
    "report.n_examples=1",
]

pytestmark = pytest.mark.slow


def start(folder: Path, *arguments: str, script: str = "src/train.py") -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    folders = {"HYDRAUDIO_LOG_DIR": str(folder / "logs"), "HYDRAUDIO_DATA_DIR": str(folder / "data")}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / script), *arguments],
        cwd=folder,
        env={**os.environ, **folders, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *arguments: str, script: str = "src/train.py") -> str:
    process = start(folder, *arguments, script=script)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def logged(run_folder: Path, metric: str) -> list[float]:
    return [float(row[metric]) for row in rows(run_folder / "metrics.csv") if row.get(metric)]


def load(checkpoint: Path) -> dict:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def trained(esc50_root, tmp_path_factory) -> Path:
    """Run folder of a short pretraining, tested."""
    folder = tmp_path_factory.mktemp("trained")
    run(folder, *TINY, f"data.root={esc50_root}", "trainer.max_epochs=12")
    return folder / "logs" / "tiny" / "latest"


def test_the_loss_falls_below_that_of_the_mean(trained):
    losses, baselines = (logged(trained, f"val/{name}") for name in ("loss", "baseline_loss"))
    assert len(losses) == 12
    assert losses[-1] < 0.7 * baselines[-1]
    assert len(set(baselines)) == 1  # the same masks in every epoch


def test_the_run_folder_is_complete(trained):
    for name in ("config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "report/index.html"):
        assert (trained / name).is_file(), name
    scores = json.loads((trained / "metrics.json").read_text())["scores"]
    assert {"loss", "baseline_loss", "relative_loss", "knn_accuracy", "rankme"} <= scores.keys()
    page = (trained / "report" / "index.html").read_text()
    for words in ("composite", "Loss, and that of the mean", "kNN accuracy"):
        assert words in page
    assert len(rows(trained / "report" / "items.csv")) == 9


def test_eval_of_the_checkpoint_equals_the_test_after_training(trained, tmp_path):
    run(tmp_path, f"ckpt_path={trained}/checkpoints/best.ckpt", script="src/eval.py")
    evaluated = tmp_path / "logs" / "eval" / "latest"
    for ours, theirs in zip(*(rows(run / "report" / "items.csv") for run in (evaluated, trained)), strict=True):
        assert ours["id"] == theirs["id"]
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
    ours, theirs = (json.loads((run / "metrics.json").read_text())["scores"] for run in (evaluated, trained))
    for name in ("baseline_loss", "knn_accuracy", "rankme"):
        assert ours[name]["value"] == pytest.approx(theirs[name]["value"], rel=1e-3), name


def test_predict_writes_embeddings(trained, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "in" / "deep" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(90000), 44100)
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    run(tmp_path, checkpoint, f"input={tmp_path}/in", f"output={tmp_path}/out", script="src/predict.py")
    assert np.load(tmp_path / "out" / "deep" / "a.npy").shape == (480,)


def test_the_encoder_exports_and_is_right_on_silence(trained, tmp_path):
    import hydraudio

    onnxruntime = pytest.importorskip("onnxruntime")
    from hydraudio.share.onnx import export_onnx

    task = hydraudio.load(trained / "checkpoints" / "best.ckpt")
    export_onnx(task.export_module(), tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx"))
    for n_samples in (16000, 40001):
        waveform = torch.zeros(1, n_samples)
        (found,) = session.run(None, {"waveform": waveform.numpy()})
        expected = task.predict_waveform(waveform)["embedding"].numpy()
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_killed_and_resumed_ends_as_the_uninterrupted_run(esc50_root, tmp_path):
    arguments = [*TINY, f"data.root={esc50_root}", "trainer.max_epochs=3", "test=false"]
    arguments.append("callbacks.last_checkpoint.every_n_steps=1")
    run(tmp_path / "whole", *arguments)
    cut = tmp_path / "cut"
    last = cut / "logs" / "tiny" / "latest" / "checkpoints" / "last.ckpt"
    for delay_s in (0.0, 0.2):
        before = last.stat().st_mtime_ns if last.is_file() else 0
        process = start(cut, *arguments, *(["ckpt_path=last"] if before else []))
        while process.poll() is None and not (last.is_file() and last.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    run(cut, *arguments, "ckpt_path=last")
    folders = [folder / "logs" / "tiny" / "latest" for folder in (cut, tmp_path / "whole")]
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (load(folder / "checkpoints" / name)["state_dict"] for folder in folders)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    for metric in ("val/loss", "val/rankme", "val/knn_accuracy"):
        assert logged(folders[0], metric) == logged(folders[1], metric)


def test_one_batch_can_be_overfitted(esc50_root, tmp_path):
    more = ["trainer.max_epochs=120", "trainer.overfit_batches=1", "test=false", "data.crop_s=null"]
    run(tmp_path, *TINY, f"data.root={esc50_root}", *more, "model.probe_every_n_epochs=null", "callbacks.collapse=null")
    losses, baselines = (logged(tmp_path / "logs" / "tiny" / "latest", f"train/{n}") for n in ("loss", "baseline_loss"))
    assert np.mean(losses[-3:]) < np.mean(baselines[-3:]) / 3  # with another mask and crop at every step


@pytest.mark.parametrize(
    "more",
    [
        ["data.protocol=classic"],
        ["model/pretraining/mask=time_frequency", "model.net.target=patch_normalized", "trainer.precision=bf16-mixed"],
        [
            "model.pooling=mean",
            "data.crop_s=null",
            "model.standardize.kind=clip",
            "callbacks=[pretraining/default,ema]",
        ],
    ],
    ids=["classic", "masks", "clips"],
)
def test_variants_train_and_test(esc50_root, tmp_path, more):
    run(tmp_path, *TINY, f"data.root={esc50_root}", "trainer.max_epochs=2", *more)
    assert len(logged(tmp_path / "logs" / "tiny" / "latest", "test/loss")) == 1


def test_a_collapse_ends_the_training(esc50_root, tmp_path):
    """Embeddings of one direction: RankMe is 1, and the run says why it stops."""
    more = ["trainer.max_epochs=6", "callbacks.collapse.divergence_threshold=1000"]
    output = run(tmp_path, *TINY, f"data.root={esc50_root}", *more)
    assert len(logged(tmp_path / "logs" / "tiny" / "latest", "val/loss")) < 6
    assert "Divergence threshold reached: val/rankme" in output
