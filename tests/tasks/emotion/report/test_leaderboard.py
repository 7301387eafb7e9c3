"""Fabricated emotion runs beside a separation run: one table each."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hydraudio.report.leaderboard import collect, group, leaderboard_page
from hydraudio.tasks.emotion.report import leaderboard as emotion_leaderboard


def write_run(root: Path, name: str, run: str, seed: int, scores: dict[str, Any] | None) -> Path:
    folder = root / name / run
    (folder / "checkpoints").mkdir(parents=True)
    data = {
        "_target_": "hydraudio.tasks.emotion.corpora.msp_podcast.datamodule.MSPPodcastDataModule",
        "classes": 8,
        "seed": seed,
    }
    net = {"_target_": "hydraudio.tasks.emotion.networks.network.EmotionNetwork"}
    settings = {"name": name, "seed": seed, "data": data, "model": {"net": net}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.csv").write_text("step,val/macro_f1\n3,0.2\n")
    for file in ("best.ckpt", "last.ckpt"):
        torch.save({"state_dict": {}, "hydraudio_config": "", "global_step": 12}, folder / "checkpoints" / file)
    if scores is not None:
        (folder / "report").mkdir()
        entries = {metric: {"value": value} for metric, value in scores.items()}
        (folder / "report" / "metrics.json").write_text(json.dumps({"kind": "emotion", "scores": entries}))
        (folder / "report" / "items.csv").write_text("id,split\n")
    return folder


def test_emotion_runs_have_a_table_of_their_own_best_first(tmp_path: Path) -> None:
    write_run(tmp_path, "attributes", "r1", 1, {"ccc": 0.7, "ccc_valence": 0.6})
    for seed, score in ((1, 0.3), (2, 0.4)):
        write_run(tmp_path, "category", f"r{seed}", seed, {"macro_f1": score, "uar": 0.5, "accuracy": None})
    write_run(tmp_path, "joint", "r1", 1, {"macro_f1": 0.5, "uar": 0.5, "ccc": 0.2})
    write_run(tmp_path, "unlabelled", "r1", 1, {})
    runs, incomplete = collect(tmp_path)
    assert list(incomplete.values()) == ["the test set had no labels"]
    entries = group(runs)
    assert all(emotion_leaderboard.is_emotion(entry) for entry in entries)
    rows = emotion_leaderboard.rows(entries)
    assert [row["experiment"] for row in rows] == ["joint", "category", "attributes"]
    assert rows[1]["macro_f1_mean"] == pytest.approx(0.35)
    assert rows[1]["macro_f1_best"] == 0.4
    assert rows[1]["n_seeds"] == 2
    assert rows[2]["ccc_mean"] == 0.7
    table = emotion_leaderboard.leaderboard_table(rows)
    assert [cell.text for cell in table.rows[2].cells[3:7]] == ["–", "–", "–", "0.700"]  # noqa: RUF001
    page = leaderboard_page([], incomplete, "a machine", emotion_leaderboard.sections(rows))
    assert "MSPPodcast" in page
    assert "8 classes" in page
    assert emotion_leaderboard.sections([]) == []


def test_damaged_results_are_left_out_with_the_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "category", "r1", 1, {"macro_f1": 0.5})
    (folder / "report" / "metrics.json").write_text('{"scores": [1]}')
    _, incomplete = collect(tmp_path)
    assert "metrics.json is damaged" in incomplete[folder]
