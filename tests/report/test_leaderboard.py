"""Fabricated run folders: what is collected, grouped, averaged and left out."""

import csv
import math
import statistics

import pytest
import torch
import yaml

from hydraudio.report.leaderboard import Cost, collect, group, leaderboard_page, leaderboard_table, rows

COST = Cost(1000, 2e9, 0.5)


def config(name, seed, **changes):
    datamodule = "hydraudio.tasks.separation.corpora.polsess.datamodule.PolSESSDataModule"
    data = {"_target_": datamodule, "problem": "ES", "seed": seed, "batch_size": 4}
    net = {"_target_": "hydraudio.tasks.separation.networks.conv_tasnet.ConvTasNet", "n_filters": 16}
    plain = {
        "name": name,
        "seed": seed,
        "test": True,
        "report": {"seed": seed},
        "paths": {"log_dir": "/x"},
        "data": data,
    }
    return plain | {"model": {"net": net, "sample_rate": 8000, "lr": 1e-3}} | changes


def write_table(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def write_run(root, name, run, settings, si_sdri=None, **scores):
    folder = root / name / run
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    write_table(folder / "metrics.csv", [{"step": 3, "epoch": 0, "val/si_sdri": 1.0}])
    content = {"state_dict": {}, "hydraudio_config": "", "global_step": 12}
    for file in ("best.ckpt", "last.ckpt"):
        torch.save(content, folder / "checkpoints" / file)
    if si_sdri is not None:
        variants = [{"kind": "variant", "variant": "SER", "si_sdri": -99.0}]
        macro = {"kind": "macro", "variant": "mean", "si_sdri": si_sdri, **scores}
        micro = {"kind": "micro", "variant": "mean", "si_sdri": 99.0}
        write_table(folder / "report" / "variants.csv", [macro, *variants, micro])
    return folder


def test_runs_that_differ_in_the_seed_only_are_one_entry(tmp_path):
    for seed, score in ((1, 4.0), (2, 6.0), (3, 5.0)):
        write_run(tmp_path, "a", f"2026-01-0{seed}", config("a", seed), score, pesq=2.0 + seed, stoi=0.5)
    write_run(tmp_path, "b", "2026-01-01", config("b", 1), 7.0)
    changed = config("a", 1)
    changed["model"]["lr"] = 2e-3
    write_run(tmp_path, "a", "2026-01-09", changed, 1.0)
    runs, incomplete = collect(tmp_path)
    entries = group(runs)
    assert incomplete == {}
    assert [(entry.config["name"], len(entry.runs)) for entry in entries] == [("b", 1), ("a", 3), ("a", 1)]
    found = rows(entries, [COST] * 3)
    assert found[1]["si_sdri_mean"] == 5.0
    assert found[1]["si_sdri_best"] == 6.0
    assert found[1]["si_sdri_std"] == statistics.stdev([4.0, 5.0, 6.0])
    assert found[1]["pesq_mean"] == 4.0
    assert found[1]["checkpoint"] == str(tmp_path / "a" / "2026-01-02" / "checkpoints" / "best.ckpt")
    assert math.isnan(found[0]["si_sdri_std"])
    assert math.isnan(found[0]["pesq_mean"])
    expected = {
        "network": "ConvTasNet",
        "experiment": "b",
        "corpus": "PolSESS",
        "problem": "ES",
        "n_seeds": 1,
        "steps": 12,
    }
    assert expected.items() <= found[0].items()
    assert found[0]["gmacs_per_s"] == 2.0


def test_of_a_seed_that_was_run_twice_the_newest_counts(tmp_path):
    write_run(tmp_path, "a", "2026-01-01", config("a", 1), 4.0)
    write_run(tmp_path, "a", "2026-01-02", config("a", 1), 3.0)
    (entry,) = group(collect(tmp_path)[0])
    assert [run.scores["si_sdri"] for run in entry.runs] == [3.0]


def test_items_serve_where_variants_are_missing(tmp_path):
    folder = write_run(tmp_path, "a", "2026-01-01", config("a", 1))
    items = [("SER", 1.0, 2.0), ("SER", 3.0, 2.0), ("SE", 8.0, ""), ("C", -80.0, 4.0)]
    write_table(
        folder / "report" / "items.csv",
        [
            {"id": str(i), "variant": v, "degenerate": v == "C", "si_sdri": s, "pesq": p}
            for i, (v, s, p) in enumerate(items)
        ],
    )
    (run,) = collect(tmp_path)[0]
    assert run.scores == {"si_sdri": 5.0}  # PESQ is missing for a variant, C is degenerate


def test_broken_and_unfinished_runs_are_left_out_with_the_reason(tmp_path):
    write_run(tmp_path, "a", "fine", config("a", 1), 1.0)
    write_run(tmp_path, "a", "untested", config("a", 1))
    write_run(tmp_path, "a", "sweep", config("a", 1, test=False))
    (write_run(tmp_path, "a", "killed", config("a", 1)) / "metrics.csv").unlink()
    (write_run(tmp_path, "a", "early", config("a", 1)) / "checkpoints" / "best.ckpt").unlink()
    (write_run(tmp_path, "a", "damaged", config("a", 1), 1.0) / "checkpoints" / "last.ckpt").write_bytes(b"PK no")
    (write_run(tmp_path, "a", "unreadable", config("a", 1), 1.0) / "config.yaml").write_text("a: [")
    (tmp_path / "a" / "empty").mkdir()
    write_run(tmp_path, "eval", "evaluation", {"ckpt_path": "x", "seed": 1}, 1.0)
    (tmp_path / "a" / "latest").symlink_to("fine")
    runs, incomplete = collect(tmp_path)
    assert [run.folder.name for run in runs] == ["fine"]
    reasons = {folder.name: reason for folder, reason in incomplete.items()}
    assert "last.ckpt: damaged" in reasons.pop("damaged")
    expected = {
        "untested": "not tested",
        "sweep": "not tested (test=false)",
        "killed": "stopped before anything was logged",
        "early": "no checkpoints/best.ckpt",
        "unreadable": "config.yaml is damaged",
        "empty": "no config.yaml",
    }
    assert reasons.keys() == expected.keys()
    for name, text in expected.items():
        assert reasons[name].startswith(text)


def test_page_and_table_show_every_entry_and_every_incomplete_run(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "best<1>", f"2026-01-0{seed}", config("best<1>", seed), 4.0 + seed)
    (tmp_path / "a" / "empty").mkdir(parents=True)
    runs, incomplete = collect(tmp_path)
    found = rows(group(runs), [Cost(0, math.nan, math.nan)])
    (row,) = leaderboard_table(found).rows
    assert [cell.text for cell in row.cells[:4]] == ["best<1>", "PolSESS", "2", "5.50"]
    assert row.cells[3].note == "± 0.71, best 6.00"
    html = leaderboard_page(found, incomplete, "a machine")
    assert "best&lt;1&gt;" in html
    assert "best<1>" not in html
    assert "no config.yaml" in html
    assert "a machine" in html


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="HYDRAUDIO_LOG_DIR"):
        collect(tmp_path / "nothing")
