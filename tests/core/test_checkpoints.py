"""Checkpoints are whole or absent, and reading one executes nothing."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from hydra_preflight.errors import ConfigError
from hydraudio.core.checkpoints import AtomicCheckpointIO, read_checkpoint, require_weights_of


class Payload:
    """Pickles to a call of os.system."""

    def __init__(self, witness: Path) -> None:
        self.command = f"touch {witness}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def good() -> dict:
    return {"state_dict": {"weight": torch.ones(2)}, "hydraudio_config": "name: x\n"}


def test_round_trip_leaves_no_other_file(tmp_path, good):
    AtomicCheckpointIO().save_checkpoint(good, tmp_path / "deep" / "a.ckpt")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.ckpt"]
    assert torch.equal(read_checkpoint(tmp_path / "deep" / "a.ckpt")["state_dict"]["weight"], torch.ones(2))


def test_failed_write_keeps_the_old_file(tmp_path, good):
    io = AtomicCheckpointIO()
    io.save_checkpoint(good, tmp_path / "a.ckpt")
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        io.save_checkpoint({"state_dict": lambda: None}, tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert read_checkpoint(tmp_path / "a.ckpt")["hydraudio_config"] == "name: x\n"


@pytest.mark.parametrize("where", ["state_dict", "hydraudio_config", "extra"])
def test_hostile_pickle_is_refused_and_not_executed(tmp_path, good, where):
    witness = tmp_path / "executed"
    good[where] = Payload(witness)
    torch.save(good, tmp_path / "hostile.ckpt")
    with pytest.raises(ValueError, match=r"hostile\.ckpt: refused"):
        read_checkpoint(tmp_path / "hostile.ckpt")
    assert not witness.exists()


def test_old_style_pickle_file_is_refused_and_not_executed(tmp_path):
    witness = tmp_path / "executed"
    (tmp_path / "hostile.ckpt").write_bytes(pickle.dumps(Payload(witness)))
    with pytest.raises(ValueError, match=r"hostile\.ckpt"):
        read_checkpoint(tmp_path / "hostile.ckpt")
    assert not witness.exists()


def test_truncated_and_foreign_files_are_named(tmp_path, good):
    with pytest.raises(FileNotFoundError, match=r"missing\.ckpt: no such checkpoint"):
        read_checkpoint(tmp_path / "missing.ckpt")
    torch.save(good, tmp_path / "cut.ckpt")
    whole = (tmp_path / "cut.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.ckpt: damaged"):
        read_checkpoint(tmp_path / "cut.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"foreign\.ckpt: has no hydraudio_config"):
        read_checkpoint(tmp_path / "foreign.ckpt")


@pytest.mark.parametrize("content", [b"", b"a text\n" * 20, b"RIFF....WAVEfmt " + bytes(3000)])
@pytest.mark.parametrize("mmap", [False, True])
def test_what_is_no_archive_is_named(tmp_path, content, mmap):
    (tmp_path / "other.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.ckpt: (damaged|an empty file and) (or )?not a checkpoint"):
        read_checkpoint(tmp_path / "other.ckpt", mmap=mmap)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], "hydraudio_config state_dict"])
def test_an_archive_without_names_is_named(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt: has no state_dict and no hydraudio_config"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_compressed_file_is_not_unpacked(tmp_path, good):
    """A small file whose tensors unpack to much more."""
    torch.save({**good, "state_dict": {"weight": torch.zeros(100_000)}}, tmp_path / "plain.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as source,
        zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="compressed parts"):
        read_checkpoint(tmp_path / "small.ckpt")


def test_a_pipe_in_place_of_a_checkpoint_is_refused(tmp_path, pipe):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        read_checkpoint(pipe(tmp_path / "best.ckpt"))


def test_other_weights_are_named(tmp_path):
    other = {"state_dict": torch.nn.Linear(4, 3).state_dict()}
    with pytest.raises(
        ConfigError, match=r"other\.ckpt: holds other weights .*such as weight: \(3, 4\) instead of \(3, 2\)"
    ):
        require_weights_of(torch.nn.Linear(2, 3), other, tmp_path / "other.ckpt")
    fewer = {"state_dict": torch.nn.Linear(2, 3, bias=False).state_dict()}
    with pytest.raises(ConfigError, match="such as bias: absent"):
        require_weights_of(torch.nn.Linear(2, 3), fewer, tmp_path / "other.ckpt")
    require_weights_of(torch.nn.Linear(2, 3), {"state_dict": torch.nn.Linear(2, 3).state_dict()}, tmp_path)
