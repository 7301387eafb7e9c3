"""A classifier from configuration to report: fine-tuned, evaluated, used on files, probed, over folds."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from untrained import write_run

REPOSITORY = Path(__file__).parents[4]
TINY = ["trainer=cpu", "data.num_workers=0", "report.n_bootstrap=20", "report.min_items=3"]

pytestmark = pytest.mark.slow


def run(folder: Path, script: str, *arguments: str) -> str:
    folders = {"HYDRAUDIO_LOG_DIR": str(folder / "logs"), "HYDRAUDIO_DATA_DIR": str(folder / "data")}
    environment = {**os.environ, **folders, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, str(REPOSITORY / script), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pretrained(esc50_root, tmp_path_factory) -> Path:
    """A checkpoint of an autoencoder as it begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(REPOSITORY))
        folder = tmp_path_factory.mktemp("pretrained")
        return write_run(folder, "experiment=pretraining/esc50_quick", f"data.root={esc50_root}")


@pytest.fixture(scope="module")
def tuned(esc50_root, pretrained, tmp_path_factory) -> Path:
    """Run folder of a short fine-tuning, tested."""
    folder = tmp_path_factory.mktemp("tuned")
    start = [f"init_from={pretrained}", "init_only=[net.encoder,spectrogram]"]
    options = ["experiment=pretraining/finetune_quick", f"data.root={esc50_root}", "name=tuned", "trainer.max_epochs=2"]
    run(folder, "src/train.py", *options, *start, *TINY)
    return folder / "logs" / "tuned" / "latest"


def scores(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())["scores"]


def test_the_run_folder_is_complete_and_bootstraps_recordings(tuned):
    for name in ("checkpoints/best.ckpt", "report/predictions.npz", "report/confusion.png", "report/index.html"):
        assert (tuned / name).is_file(), name
    assert {"accuracy", "macro_f1", "uar", "top2", "nll", "ece", "ece_scaled"} <= scores(tuned).keys()
    details = json.loads((tuned / "report" / "details.json").read_text())
    assert details["n_items"] == 9
    assert details["n_clusters"] == 6  # a third of the clips is another take of a recording
    page = (tuned / "report" / "index.html").read_text()
    for words in ("Per class", "Confusion", "Calibration", "6 sources are resampled whole"):
        assert words in page


def test_weights_of_the_pretraining_are_those_that_it_begins_with(esc50_root, pretrained, tmp_path):
    start = [f"init_from={pretrained}", "init_only=[net.encoder,spectrogram]"]
    still = ["trainer.max_steps=1", "model.optimizer.lr=0.0", "test=false", "model.optimizer.weight_decay=0.0"]
    options = ["experiment=pretraining/finetune_quick", f"data.root={esc50_root}", "name=still"]
    run(tmp_path, "src/train.py", *options, *start, *still, *TINY)
    last = torch.load(tmp_path / "logs" / "still" / "latest" / "checkpoints" / "last.ckpt", weights_only=True)
    theirs = torch.load(pretrained, weights_only=True)["state_dict"]
    ours = last["state_dict"]
    names = [name for name in theirs if name.startswith("net.encoder.")]
    assert names
    for name in names:
        assert torch.equal(ours[name], theirs[name]), name


def test_evaluation_gives_what_the_test_gave(tuned, tmp_path):
    run(
        tmp_path, "src/eval.py", f"ckpt_path={tuned / 'checkpoints' / 'best.ckpt'}", "data.num_workers=0", "trainer=cpu"
    )
    found = scores(tmp_path / "logs" / "eval" / "latest")
    assert found == scores(tuned)


def test_files_of_any_kind_are_classified(tuned, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal((60000, 2))
    soundfile.write(tmp_path / "in" / "long.wav", noise, 22050)
    soundfile.write(tmp_path / "in" / "deep" / "short.flac", noise[:900], 8000)
    best = tuned / "checkpoints" / "best.ckpt"
    run(tmp_path, "src/predict.py", f"ckpt_path={best}", "input=in", "output=out", "predict.batch_size=1")
    table = rows(tmp_path / "out" / "classes.csv")
    assert [row["file"] for row in table] == ["deep/short.flac", "long.wav"]
    for row in table:
        names = [name for name in row if name not in ("file", "duration_s", "class", "probability")]
        assert sum(float(row[name]) for name in names) == pytest.approx(1, abs=1e-4)
        assert float(row[row["class"]]) == float(row["probability"]) == max(float(row[name]) for name in names)
    assert json.loads((tmp_path / "out" / "deep" / "short.json").read_text())["duration_s"] == pytest.approx(
        900 / 8000, abs=1e-3
    )


def test_probes_of_all_folds_and_of_baselines(tuned, tmp_path):
    best, kinds = tuned / "checkpoints" / "best.ckpt", ["mean", "random_mean", "log_mel_statistics"]
    chosen = ["--features", *kinds, "--probe", "knn", "linear", "--output", str(tmp_path / "probes")]
    output = run(tmp_path, "scripts/pretraining/probe.py", f"ckpt_path={best}", "data.num_workers=0", *chosen)
    assert "Accuracy over the folds" in output
    table = rows(tmp_path / "probes" / "probes.csv")
    assert len(table) == 3 * 2 * 5
    assert {row["fold"] for row in table} == {"1", "2", "3", "4", "5"}
    assert {row["n"] for row in table} == {"9"}
    shards = sorted((tmp_path / "data").rglob("features/*/*.npy"))
    assert len(shards) == 3 * 3  # a split each, for three kinds
    before = [shard.stat().st_mtime_ns for shard in shards]
    run(tmp_path, "scripts/pretraining/probe.py", f"ckpt_path={best}", "data.num_workers=0", *chosen)
    assert rows(tmp_path / "probes" / "probes.csv") == table
    assert [shard.stat().st_mtime_ns for shard in shards] == before  # nothing is computed again


def test_folds_are_tabulated_from_a_multirun(esc50_root, tmp_path):
    options = ["experiment=pretraining/finetune_quick", f"data.root={esc50_root}", "trainer.max_steps=1", "name=folds"]
    run(tmp_path, "src/train.py", "-m", *options, "data.test_fold=1,2", *TINY)
    output = run(tmp_path, "scripts/pretraining/folds.py", str(tmp_path / "logs" / "folds"), "--metrics", "accuracy")
    assert "Fold 1" in output
    assert "Fold 2" in output
