"""Finding checkpoints below a log folder."""

import os

import torch

from hydraudio.report.listen.checkpoints import find_checkpoints

CONFIG = """
task: {name: toy}
data: {problem: SB}
model: {net: {_target_: my.package.ConvTasNet}}
"""


def write(path, config=CONFIG, score=None, time_s=1_000_000_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    callbacks = {}
    if score is not None:
        state = {"monitor": "val/error", "current_score": torch.tensor(score), "best_model_score": torch.tensor(99.0)}
        callbacks = {"EarlyStopping": {"best_score": 1.0}, "ModelCheckpoint{'monitor': ...}": state}
    torch.save({"state_dict": {}, "hydraudio_config": config, "callbacks": callbacks}, path)
    os.utime(path, (time_s, time_s))


def test_newest_run_first_and_its_checkpoints_by_name(tmp_path):
    write(tmp_path / "old" / "run" / "checkpoints" / "best.ckpt", time_s=1_000_000_000)
    write(tmp_path / "sweep" / "date" / "3" / "checkpoints" / "best.ckpt", time_s=1_000_000_100)
    write(tmp_path / "sweep" / "date" / "3" / "checkpoints" / "last.ckpt", time_s=1_000_000_200)
    (tmp_path / "old" / "latest").symlink_to("run", target_is_directory=True)
    entries, unreadable = find_checkpoints(tmp_path)
    assert [(entry.run, entry.path.stem) for entry in entries] == [
        ("sweep/date/3", "best"),
        ("sweep/date/3", "last"),
        ("old/run", "best"),
    ]
    assert unreadable == {}


def test_what_an_entry_says(tmp_path):
    write(tmp_path / "name" / "run" / "checkpoints" / "best.ckpt", score=8.214)
    (entry,) = find_checkpoints(tmp_path)[0]
    assert (entry.network, entry.problem, entry.task, entry.score) == ("ConvTasNet", "SB", "toy", "val/error 8.21")
    assert entry.label.startswith("name · best · ConvTasNet SB · val/error 8.21 · ")


def test_corpus_with_one_problem_and_checkpoint_without_score(tmp_path):
    write(tmp_path / "free.ckpt", "{task: {name: toy}, model: {_target_: my.Task}}\n")
    (entry,) = find_checkpoints(tmp_path)[0]
    assert (entry.network, entry.problem, entry.score) == ("Task", "", "")
    assert " · Task · " in entry.label


def test_damaged_files_and_those_of_earlier_revisions_are_named(tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(b"PK half a file")
    write(tmp_path / "text.ckpt", "model: [")
    write(tmp_path / "classes.ckpt", "model: {net: {_target_: my.Classifier, n_classes: 4}}\n")
    (tmp_path / ".best.ckpt.7.partial").write_bytes(b"being written")
    entries, unreadable = find_checkpoints(tmp_path)
    assert entries == []
    assert {path.name for path in unreadable} == {"cut.ckpt", "text.ckpt", "classes.ckpt"}
    assert "earlier revision" in unreadable[tmp_path / "classes.ckpt"]


def test_overwritten_file_is_read_again(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    write(path, score=1.0)
    assert find_checkpoints(tmp_path)[0][0].score.endswith("1.00")
    write(path, score=2.0, time_s=1_000_000_001)
    assert find_checkpoints(tmp_path)[0][0].score.endswith("2.00")


def test_no_log_folder(tmp_path):
    assert find_checkpoints(tmp_path / "nowhere") == ([], {})
