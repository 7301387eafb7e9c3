"""Finding checkpoints below a log folder."""

import os

import torch

from hydraudio.report.listen.checkpoints import find_checkpoints

CONFIG = """
data: {problem: SB}
model: {net: {_target_: hydraudio.tasks.separation.networks.conv_tasnet.ConvTasNet, n_sources: 2}}
"""


def write(path, config=CONFIG, score=None, time_s=1_000_000_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    callbacks = {}
    if score is not None:
        state = {"monitor": "val/si_sdri", "current_score": torch.tensor(score), "best_model_score": torch.tensor(99.0)}
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
    assert (entry.network, entry.problem, entry.n_sources, entry.score) == ("ConvTasNet", "SB", 2, "val/si_sdri 8.21")
    assert entry.label.startswith("name · best · ConvTasNet SB · val/si_sdri 8.21 · ")


def test_corpus_without_tasks_and_checkpoint_without_score(tmp_path):
    write(tmp_path / "free.ckpt", "model: {net: {_target_: my.Net, n_sources: 1}}\n")
    (entry,) = find_checkpoints(tmp_path)[0]
    assert (entry.problem, entry.score) == ("1 source", "")


def test_damaged_files_are_named_and_others_left_out(tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(b"PK half a file")
    write(tmp_path / "text.ckpt", "model: [")
    write(tmp_path / "classes.ckpt", "model: {net: {_target_: my.Classifier, n_classes: 4}}\n")
    (tmp_path / ".best.ckpt.7.partial").write_bytes(b"being written")
    entries, unreadable = find_checkpoints(tmp_path)
    assert entries == []
    assert {path.name for path in unreadable} == {"cut.ckpt", "text.ckpt"}


def test_overwritten_file_is_read_again(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    write(path, score=1.0)
    assert find_checkpoints(tmp_path)[0][0].score.endswith("1.00")
    write(path, score=2.0, time_s=1_000_000_001)
    assert find_checkpoints(tmp_path)[0][0].score.endswith("2.00")


def test_no_log_folder(tmp_path):
    assert find_checkpoints(tmp_path / "nowhere") == ([], {})
