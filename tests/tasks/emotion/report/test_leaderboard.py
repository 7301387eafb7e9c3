"""Fabricated emotion runs in the leaderboard: columns, headlines and order are those of the specification."""

from pathlib import Path

import pytest
import torch
import yaml

from hydraudio.report.leaderboard import Cost, TaskTable, collect, group, write_leaderboard
from hydraudio.report.run_scores import RunScores, write_run_scores
from hydraudio.stats.intervals import Interval

COST = Cost(0, float("nan"), float("nan"))


def write_run(root: Path, name: str, seed: int, monitor: str, scores: dict[str, float]) -> Path:
    folder = root / name / f"r{seed}"
    (folder / "checkpoints").mkdir(parents=True)
    corpus = "hydraudio.tasks.emotion.corpora.msp_podcast.datamodule.MSPPodcastDataModule"
    settings = {
        "name": name,
        "seed": seed,
        "task": {"spec": "hydraudio.tasks.emotion.spec.SPEC"},
        "data": {"_target_": corpus, "classes": 8, "seed": seed},
        "model": {"net": {"_target_": "hydraudio.tasks.emotion.networks.network.EmotionNetwork"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.csv").write_text("step,val/macro_f1\n3,0.2\n")
    for file in ("best.ckpt", "last.ckpt"):
        torch.save({"state_dict": {}, "hydraudio_config": "", "global_step": 12}, folder / "checkpoints" / file)
    intervals = {metric: Interval(value, 0.0, 1.0, 9) for metric, value in scores.items()}
    write_run_scores(folder, RunScores("emotion", monitor, intervals))
    return folder


def test_categories_come_before_attributes_each_best_first(tmp_path: Path) -> None:
    write_run(tmp_path, "attributes", 1, "val/ccc", {"ccc": 0.7, "ccc_valence": 0.6})
    for seed, score in ((1, 0.3), (2, 0.4)):
        write_run(tmp_path, "category", seed, "val/macro_f1", {"macro_f1": score, "uar": 0.5, "accuracy": float("nan")})
    write_run(tmp_path, "joint", 1, "val/macro_f1", {"macro_f1": 0.5, "uar": 0.5, "ccc": 0.2})
    write_run(tmp_path, "unlabelled", 1, "val/macro_f1", {})
    runs, incomplete = collect(tmp_path)
    assert list(incomplete.values()) == ["the test gave no macro_f1"]
    task = TaskTable(group(runs), [COST] * 3)
    rows = task.rows()
    assert [row["experiment"] for row in rows] == ["joint", "category", "attributes"]
    assert rows[1]["macro_f1_mean"] == pytest.approx(0.35)
    assert rows[1]["macro_f1_best"] == 0.4
    assert rows[1]["n_seeds"] == 2
    assert rows[2]["ccc_mean"] == 0.7
    table = task.table()
    assert table.columns[3:6] == ("Macro-F1", "UAR", "CCC")  # no run has a number for the accuracy
    assert [cell.text for cell in table.rows[2].cells[3:6]] == ["–", "–", "0.700"]  # noqa: RUF001
    page = write_leaderboard(tmp_path / "page.html", [task], incomplete, "a machine").read_text()
    assert "MSPPodcast" in page
    assert "8 classes" in page


def test_the_monitor_may_be_a_part_of_a_metric(tmp_path: Path) -> None:
    write_run(tmp_path, "valence", 1, "val/ccc_valence", {"ccc": 0.7, "ccc_valence": 0.6})
    (entry,) = group(collect(tmp_path)[0])
    assert entry.order == (3, "ccc_valence", -0.6)


def test_damaged_results_are_left_out_with_the_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "category", 1, "val/macro_f1", {"macro_f1": 0.5})
    (folder / "metrics.json").write_text('{"scores": [1]}')
    _, incomplete = collect(tmp_path)
    assert "metrics.json is damaged" in incomplete[folder]
