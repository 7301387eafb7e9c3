"""Fabricated run folders: what is collected, grouped, averaged and left out."""

import math
import statistics

import pytest
import torch
import yaml

from hydraudio.report import leaderboard
from hydraudio.report.leaderboard import Cost, TaskTable, by_task, group, write_leaderboard
from hydraudio.report.run_scores import RunScores, write_run_scores
from hydraudio.stats.intervals import Interval

COST = Cost(1000, 2e9, 0.5)
UNKNOWN = Cost(0, math.nan, math.nan)
SPEC = """
from hydraudio.core.spec import Axes, Card, Metric, TaskSpec

def spec(name):
    return TaskSpec(
        name=name,
        batch={"sound": Axes("batch time", unit="[-1, 1]")},
        outputs={},
        metrics=(
            Metric("gain", "Gain", unit="dB", digits=2, main=True),
            Metric("error", "Error", better="lower", digits=2, main=True),
            Metric("detail", "Detail"),
        ),
        agree=(),
        resampled="item",
        blocks=(),
        card=Card("other", (), "", ""),
        problem="problem",
    )

SPEC, OTHER = spec("hearing"), spec("seeing")
NOT_A_SPEC = "text"
"""


@pytest.fixture(autouse=True)
def my_task(tmp_path_factory, monkeypatch):
    """A package of the user's own with two tasks."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "my_hearing.py").write_text(SPEC)
    monkeypatch.syspath_prepend(folder)


def collect(log_dir):
    return leaderboard.collect(log_dir, ["my_hearing"])


def config(name, seed, **changes):
    datamodule = "my_hearing.WoodsDataModule"
    data = {"_target_": datamodule, "problem": "birds", "seed": seed, "batch_size": 4}
    net = {"_target_": "my_hearing.Ear", "n_filters": 16}
    plain = {
        "name": name,
        "seed": seed,
        "test": True,
        "report": {"seed": seed},
        "paths": {"log_dir": "/x"},
        "data": data,
        "task": {"spec": "my_hearing.SPEC"},
    }
    return plain | {"model": {"net": net, "sample_rate": 8000, "lr": 1e-3}} | changes


def write_run(root, name, run, settings, gain=None, monitor="val/gain", **scores):
    folder = root / name / run
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.csv").write_text("step,epoch,val/gain\n3,0,1.0\n")
    content = {"state_dict": {}, "hydraudio_config": "", "global_step": 12}
    for file in ("best.ckpt", "last.ckpt"):
        torch.save(content, folder / "checkpoints" / file)
    found = {**scores, **({} if gain is None else {"gain": gain})}
    if found:
        intervals = {metric: Interval(value, value - 1, value + 1, 9) for metric, value in found.items()}
        write_run_scores(folder, RunScores("hearing", monitor, intervals))
    return folder


def test_runs_that_differ_in_the_seed_only_are_one_entry(tmp_path):
    for seed, score in ((1, 4.0), (2, 6.0), (3, 5.0)):
        write_run(tmp_path, "a", f"2026-01-0{seed}", config("a", seed), score, error=2.0 + seed, detail=0.5)
    write_run(tmp_path, "b", "2026-01-01", config("b", 1), 7.0)
    changed = config("a", 1)
    changed["model"]["lr"] = 2e-3
    write_run(tmp_path, "a", "2026-01-09", changed, 1.0)
    runs, incomplete = collect(tmp_path)
    entries = group(runs)
    assert incomplete == {}
    assert [(entry.config["name"], len(entry.runs)) for entry in entries] == [("b", 1), ("a", 3), ("a", 1)]
    found = TaskTable(entries, [COST] * 3).rows()
    assert found[1]["gain_mean"] == 5.0
    assert found[1]["gain_best"] == 6.0
    assert found[1]["gain_std"] == statistics.stdev([4.0, 5.0, 6.0])
    assert found[1]["error_mean"] == 4.0
    assert found[1]["checkpoint"] == str(tmp_path / "a" / "2026-01-02" / "checkpoints" / "best.ckpt")
    assert math.isnan(found[0]["gain_std"])
    assert math.isnan(found[0]["error_mean"])
    expected = {
        "network": "Ear",
        "experiment": "b",
        "corpus": "Woods",
        "problem": "birds",
        "n_seeds": 1,
        "steps": 12,
    }
    assert expected.items() <= found[0].items()
    assert found[0]["gmacs_per_s"] == 2.0
    assert "detail_mean" not in found[0]


def test_of_a_seed_that_was_run_twice_the_newest_counts(tmp_path):
    write_run(tmp_path, "a", "2026-01-01", config("a", 1), 4.0)
    write_run(tmp_path, "a", "2026-01-02", config("a", 1), 3.0)
    (entry,) = group(collect(tmp_path)[0])
    assert [run.scores["gain"] for run in entry.runs] == [3.0]


def test_the_direction_of_a_metric_is_in_the_specification(tmp_path):
    for seed, error in ((1, 0.4), (2, 0.2)):
        write_run(tmp_path, "a", f"2026-01-0{seed}", config("a", seed), monitor="val/error", error=error)
    write_run(tmp_path, "b", "2026-01-01", config("b", 1), monitor="val/error", error=0.25)
    write_run(tmp_path, "c", "2026-01-01", config("c", 1), 1.0, error=0.9)
    entries = group(collect(tmp_path)[0])
    # Runs with one headline stand together, in the order of the specification: by gain, then by error.
    assert [entry.config["name"] for entry in entries] == ["c", "b", "a"]
    assert entries[2].best.seed == 2
    assert TaskTable(entries, [COST] * 3).rows()[2]["error_best"] == 0.2


def test_every_task_has_a_table_of_its_own(tmp_path):
    write_run(tmp_path, "a", "2026-01-01", config("a", 1), 4.0)
    write_run(tmp_path, "b", "2026-01-01", config("b", 1, task={"spec": "my_hearing.OTHER"}), 9.0)
    tasks = by_task(group(collect(tmp_path)[0]))
    assert {name: [entry.config["name"] for entry in entries] for name, entries in tasks.items()} == {
        "hearing": ["a"],
        "seeing": ["b"],
    }
    tables = [TaskTable(entries, [COST]) for entries in tasks.values()]
    html = write_leaderboard(tmp_path / "page.html", tables, {}, "a machine").read_text()
    assert html.index('id="hearing"') < html.index('id="seeing"')


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"spec": "os.system"}, "may not be imported: its package is not trusted"),
        ({"spec": "my_hearing.NOT_A_SPEC"}, "not a TaskSpec"),
        ({"spec": "my_hearing.MISSING"}, "does not exist"),
        ({}, "names no task.spec"),
        (None, "names no task.spec"),
    ],
)
def test_what_a_run_folder_names_is_not_believed(tmp_path, task, words):
    write_run(tmp_path, "a", "2026-01-01", config("a", 1, task=task), 4.0)
    runs, incomplete = collect(tmp_path)
    assert runs == []
    assert words in next(iter(incomplete.values()))


def test_broken_and_unfinished_runs_are_left_out_with_the_reason_and_failed_starts_without_a_word(tmp_path):
    write_run(tmp_path, "a", "fine", config("a", 1), 1.0)
    write_run(tmp_path, "a", "untested", config("a", 1))
    write_run(tmp_path, "a", "sweep", config("a", 1, test=False))
    (write_run(tmp_path, "a", "killed", config("a", 1)) / "metrics.csv").unlink()
    (write_run(tmp_path, "a", "early", config("a", 1)) / "checkpoints" / "best.ckpt").unlink()
    (write_run(tmp_path, "a", "damaged", config("a", 1), 1.0) / "checkpoints" / "last.ckpt").write_bytes(b"PK no")
    (write_run(tmp_path, "a", "garbled", config("a", 1), 1.0) / "metrics.json").write_text('{"scores": [1]}')
    write_run(tmp_path, "a", "unscored", config("a", 1), detail=1.0)
    (write_run(tmp_path, "a", "unreadable", config("a", 1), 1.0) / "config.yaml").write_text("a: [")
    (tmp_path / "a" / "empty").mkdir()
    write_run(tmp_path, "eval", "evaluation", {"ckpt_path": "x", "seed": 1}, 1.0)
    (tmp_path / "a" / "latest").symlink_to("fine")
    runs, incomplete = collect(tmp_path)
    assert [run.folder.name for run in runs] == ["fine"]
    reasons = {folder.name: reason for folder, reason in incomplete.items()}
    assert "last.ckpt: damaged" in reasons.pop("damaged")
    assert "metrics.json is damaged" in reasons.pop("garbled")
    expected = {
        "untested": "not tested",
        "sweep": "not tested (test=false)",
        "unscored": "the test gave no gain",
        "early": "no checkpoints/best.ckpt",
        "unreadable": "config.yaml is damaged",
    }
    assert reasons.keys() == expected.keys()
    for name, text in expected.items():
        assert reasons[name].startswith(text)


def test_page_and_table_show_every_entry_and_every_incomplete_run(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "best<1>", f"2026-01-0{seed}", config("best<1>", seed), 4.0 + seed)
    write_run(tmp_path, "a", "untested", config("a", 1))
    (tmp_path / "b" / "empty").mkdir(parents=True)
    runs, incomplete = collect(tmp_path)
    task = TaskTable(group(runs), [UNKNOWN])
    (row,) = task.table().rows
    assert [cell.text for cell in row.cells[:4]] == ["best<1>", "Woods", "2", "5.50"]
    assert row.cells[3].note == "± 0.71, best 6.00"
    html = write_leaderboard(tmp_path / "page.html", [task], incomplete, "a machine").read_text()
    assert "best&lt;1&gt;" in html
    assert "best<1>" not in html
    assert "not tested" in html
    assert "empty" not in html
    assert "a machine" in html


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="HYDRAUDIO_LOG_DIR"):
        collect(tmp_path / "nothing")
