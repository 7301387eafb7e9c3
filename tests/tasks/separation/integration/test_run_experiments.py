"""scripts/results/run_experiments.py on real runs: failures, skips, the table, interruptions."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[4]
SCRIPT = REPOSITORY / "scripts" / "results" / "run_experiments.py"


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


TINY = {
    "trainer": "cpu",
    "trainer.max_epochs": 1,
    "data.num_workers": 0,
    "data.batch_size": 4,
    "model": "separation/conv_tasnet_tiny",
    "model.net.n_blocks": 1,
    "model.net.n_repeats": 1,
    "report.metrics": "fast",
    "report.n_bootstrap": 20,
    "report.n_examples": 1,
}


def start(folder: Path, path: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(folder / "logs"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_failures_skips_and_the_table(polsess_root, tmp_path):
    content = {
        "base": {**TINY, "data.root": str(polsess_root)},
        "experiments": [
            {"name": "wrong", "overrides": {"data.root": "/nowhere"}},
            {"name": "typo", "overrides": {"model.net.n_blokcs": 2}},
            {"name": "one", "overrides": {"data.problem": "SB"}},
            {"name": "two"},
        ],
    }
    path = write(tmp_path / "list.yaml", content)
    process = start(tmp_path, path)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    with (tmp_path / "logs" / "list.csv").open(newline="") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    assert [row["status"] for row in table.values()] == ["failed", "failed", "finished", "finished"]
    assert "/nowhere" in table["wrong"]["error"]
    assert "n_blokcs" in table["typo"]["error"]
    assert float(table["one"]["si_sdri"]) != float(table["two"]["si_sdri"])
    config = yaml.safe_load((tmp_path / "logs" / "two" / "latest" / "config.yaml").read_text())
    assert config["data"]["problem"] == "ES"  # nothing of the ones before

    process = start(tmp_path, write(path, {**content, "experiments": content["experiments"][2:]}))  # type: ignore[index]
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert output.count("is finished already") == 2
    assert len(list((tmp_path / "logs" / "one").glob("2*"))) == 1

    process = start(tmp_path, path, "--eval", "data.batch_siez=2")
    assert process.communicate(timeout=300)[0].count("failed: ") == 2, "what src/eval.py refuses is said"
    assert process.returncode == 1
    content["experiments"].append({"name": "untrained", "overrides": {"seed": 3}})  # type: ignore[attr-defined]
    process = start(tmp_path, write(path, content), "--eval", "data.test_variants=[SER]")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    with (tmp_path / "logs" / "list_eval.csv").open(newline="") as file:
        evaluated = {row["name"]: row for row in csv.DictReader(file)}
    wanted = {"wrong": "not trained", "typo": "not trained", "one": "finished", "two": "finished"}
    assert {name: row["status"] for name, row in evaluated.items()} == {**wanted, "untrained": "not trained"}
    assert "without --eval" in evaluated["untrained"]["error"]
    for name in ("one", "two"):
        (run,) = (tmp_path / "logs" / f"eval_{name}").glob("2*/metrics.json")
        assert float(evaluated[name]["si_sdri"]) == json.loads(run.read_text())["scores"]["si_sdri"]["value"]
        assert evaluated[name]["si_sdri"] != table[name]["si_sdri"], "one variant, not all"


@pytest.mark.slow
def test_interrupted_runs_go_on(polsess_root, tmp_path):
    overrides = {**TINY, "data.root": str(polsess_root), "trainer.max_epochs": 40, "logger": "csv"}
    path = write(tmp_path / "list.yaml", {"experiments": [{"name": "long", "overrides": overrides}]})
    process = start(tmp_path, path)
    last = tmp_path / "logs" / "long" / "latest" / "checkpoints" / "last.ckpt"
    while process.poll() is None and not last.is_file():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    assert not (last.parents[1] / "report" / "index.html").exists()
    process = start(tmp_path, path)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert "is continued" in output
    assert len(list((tmp_path / "logs" / "long").glob("2*"))) == 1
