"""Run folders: one process at a time, no trace of failed starts, a link that names a run with checkpoints."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hydra_preflight import resolvers
from hydra_preflight.errors import ConfigError
from hydraudio.core.checkpoints import AtomicCheckpointIO
from hydraudio.core.run_folder import (
    changed_settings,
    hold,
    how_to_continue,
    link_if_none,
    link_latest,
    removing_failed_start,
)

HOLDER = """
import sys, time, torch
from pathlib import Path
from torch.utils.data import DataLoader
from hydraudio.core.run_folder import hold
with hold(Path(sys.argv[1])):
    batches = iter(DataLoader(range(1000), num_workers=2, persistent_workers=True))
    next(batches)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_held_folder_is_refused_until_its_process_is_gone(tmp_path, holder):
    folder = tmp_path / "run"
    refusal = rf"run: process {holder.pid} on .* is working in this run folder"
    with pytest.raises(ConfigError, match=refusal), hold(folder):
        pytest.fail("two in one folder")
    holder.send_signal(signal.SIGKILL)
    holder.wait()  # its workers live on for some seconds and must not hold the folder
    (folder / ".best.ckpt.elsewhere-1-0123abcd.partial").write_bytes(b"half")
    with hold(folder):
        assert [path.name for path in folder.iterdir()] == ["run.lock"]
    with hold(folder):
        pass


@pytest.mark.parametrize("is_alive", [True, False])
def test_without_locks_the_file_says_who_holds_the_folder(tmp_path, monkeypatch, is_alive):
    def impossible(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", impossible)
    process = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "run.lock").write_text(f"process {process.pid} on {os.uname().nodename}\n")
        if not is_alive:
            process.kill()
            process.wait()
            with hold(tmp_path):
                assert (tmp_path / "run.lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
            assert (tmp_path / "run.lock").read_text() == ""
            return
        with pytest.raises(ConfigError, match=f"process {process.pid}"), hold(tmp_path):
            pytest.fail("two in one folder")
        (tmp_path / "run.lock").write_text("process 1 on another-machine\n")
        with pytest.raises(ConfigError, match="on another-machine"), hold(tmp_path):
            pytest.fail("two in one folder")
    finally:
        process.kill()
        process.wait()


def save(folder, name="last.ckpt"):
    AtomicCheckpointIO(str(folder)).save_checkpoint({"state_dict": {}}, folder / "checkpoints" / name)


def test_latest_moves_with_the_first_checkpoint(tmp_path):
    save(tmp_path / "a")
    (tmp_path / "b").mkdir()
    link_if_none(tmp_path / "b")  # has nothing to continue
    assert resolvers.latest_run(tmp_path) == tmp_path / "a"
    save(tmp_path / "b")
    assert resolvers.latest_run(tmp_path) == tmp_path / "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "latest"]
    (tmp_path / "only_tests").mkdir()
    (tmp_path / "only_tests" / "1").mkdir()
    link_if_none(tmp_path / "only_tests" / "1")
    assert resolvers.latest_run(tmp_path / "only_tests") == tmp_path / "only_tests" / "1"


def test_without_links_a_file_names_the_newest_run(tmp_path, monkeypatch, caplog):
    def impossible(*args, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", impossible)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        link_latest(tmp_path / name)
        assert (tmp_path / "latest").read_text() == f"{name}\n"
        assert resolvers.run_dir(str(tmp_path.parent), tmp_path.name, "last") == str(tmp_path / name)
    assert "cannot be a link here" in caplog.text
    (tmp_path / "latest").write_text("notes of mine")
    with pytest.raises(FileExistsError, match="move it away"):
        link_latest(tmp_path / "a")


def test_a_failed_start_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(resolvers, "_claimed", {})
    kept = resolvers.run_dir(str(tmp_path), "kept", claim=True)
    save(Path(kept))
    failed = resolvers.run_dir(str(tmp_path), "failed", claim=True)
    given = tmp_path / "given"
    given.mkdir()
    (Path(failed) / "checkpoints").mkdir()
    for folder in (kept, failed, given):
        (Path(folder) / "train.log").write_text("")
        with pytest.raises(KeyboardInterrupt), removing_failed_start(Path(folder)):
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "kept"]


def test_two_sweeps_in_one_second_have_their_own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(resolvers, "_claimed", {})
    first = [resolvers.sweep_subdir(str(tmp_path), f"now_{job}", claim=True) for job in (0, 1, 0)]
    resolvers._claimed.clear()  # another process
    second = [resolvers.sweep_subdir(str(tmp_path), f"now_{job}", claim=True) for job in (0, 1, 0)]
    assert first == ["now_0", "now_1", "now_0"]
    assert second == ["now_0_2", "now_1_2", "now_0_2"]
    assert resolvers.sweep_subdir(str(tmp_path), "now_0") == "now_0_2"


def test_the_sentence_names_the_folder_where_last_would_be_another(tmp_path):
    (tmp_path / "a").mkdir()
    assert "nothing to continue" in how_to_continue(tmp_path / "a", is_sweep=False)
    save(tmp_path / "a")
    assert how_to_continue(tmp_path / "a", is_sweep=False).endswith("ckpt_path=last.")
    save(tmp_path / "b")
    assert how_to_continue(tmp_path / "a", is_sweep=False).endswith(f"ckpt_path=last hydra.run.dir={tmp_path / 'a'}.")
    assert f"hydra.run.dir={tmp_path / 'b'}" in how_to_continue(tmp_path / "b", is_sweep=True)


def test_changed_settings_are_listed():
    before, now = (
        OmegaConf.to_yaml(OmegaConf.create({"model": {"lr": lr, "net": {"n": 1}}, "paths": {"log_dir": where}, **more}))
        for lr, where, more in ((0.1, "/a", {}), (0.2, "/b", {"x": []}))
    )
    assert changed_settings(before, now) == ["model.lr=0.2 (was 0.1)", "x=[] (was None)"]
    assert changed_settings(now, now) == []
