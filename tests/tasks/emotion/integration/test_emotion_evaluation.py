"""Evaluating emotion checkpoints: comparison, submission files, leaderboard, and what is refused."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

TINY = ("experiment=emotion/msp_frozen_probe", "trainer=cpu", "trainer.max_epochs=2", "data.num_workers=0")


@pytest.fixture(scope="module")
def trained(msp_root, tmp_path_factory) -> Path:
    """Run folder of a short training of a probe."""
    logs = tmp_path_factory.mktemp("probe") / "logs"
    script = Path(__file__).parents[4] / "src" / "train.py"
    arguments = [*TINY, "name=probe", f"data.root={msp_root}", f"paths.cache_dir={logs.parent / 'cache'}"]
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(logs), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (logs / "probe" / "latest").resolve()


def metrics(run: Path) -> dict:
    return json.loads((run / "report" / "details.json").read_text())


def test_comparison_and_leaderboard(trained, command, tmp_path):
    scored = metrics(trained)
    assert scored["temperature"] > 0
    assert scored["scores"]["ece_scaled"]["value"] is not None
    best, last = trained / "checkpoints" / "best.ckpt", trained / "checkpoints" / "last.ckpt"
    command("src/eval.py", f"ckpt_path=[{best},{last}]", "data.num_workers=0")
    folder = tmp_path / "logs" / "eval" / "latest"
    assert metrics(folder / "probe_best")["scores"] == scored["scores"]
    assert metrics(folder / "probe_best")["temperature"] == scored["temperature"]
    with (folder / "report" / "comparison.csv").open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"macro_f1", "uar", "accuracy"}
    assert (folder / "report" / "index.html").is_file()
    done = command("scripts/results/leaderboard.py", "--log-dir", str(trained.parents[1]))
    assert "Macro-F1" in done.stdout
    assert "probe" in (trained.parents[1] / "leaderboard_emotion.csv").read_text()


def test_submission_of_turns_without_labels(trained, command, tmp_path, msp_root):
    best = trained / "checkpoints" / "best.ckpt"
    arguments = (f"ckpt_path={best}", "data.num_workers=0", "--names", str(tmp_path / "names.txt"))
    hidden = [path.name for path in sorted(msp_root.rglob("*test3*.wav"))]
    (tmp_path / "names.txt").write_text("\n".join(hidden))
    done = command("scripts/emotion/write_submission.py", *arguments, "--output", str(tmp_path / "out"))
    assert "submission_task1.csv: ready to submit" in done.stdout
    with (tmp_path / "out" / "report" / "submission_task1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["FileName"] for row in rows] == hidden
    assert metrics(tmp_path / "out")["scores"] == {}


def test_other_tasks_are_refused_before_anything_is_tested(trained, command, tmp_path):
    best, other = trained / "checkpoints" / "best.ckpt", tmp_path / "other.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    config = checkpoint["hydraudio_config"]
    checkpoint["hydraudio_config"] = config.replace("tasks.emotion.spec.SPEC", "tasks.other.spec.SPEC")
    assert checkpoint["hydraudio_config"] != config
    torch.save(checkpoint, other)
    done = command("src/eval.py", f"ckpt_path=[{best},{other}]", check=False)
    assert done.returncode == 1
    assert "different tasks cannot be compared" in done.stderr


def test_matrix_of_one_corpus(trained, command, tmp_path, msp_root):
    corpus = ("--corpus", "MSP", "data=emotion/msp_podcast", f"data.root={msp_root}", "data.num_workers=0")
    best = trained / "checkpoints" / "best.ckpt"
    done = command("scripts/results/cross_corpus.py", f"ckpt_path=[{best}]", *corpus, "--output", str(tmp_path / "out"))
    assert "Macro-F1" in done.stdout
    with (tmp_path / "out" / "matrix.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["corpus"], row["reason"]) == ("MSP", "")
    assert 0 <= float(row["macro_f1_low"]) <= float(row["macro_f1"]) <= float(row["macro_f1_high"]) <= 1
