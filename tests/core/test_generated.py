"""Embedded corpora are complete or absent, whoever else writes them."""

from pathlib import Path

import pytest

from hydraudio.core.generated import write_once


def write(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.wav").write_text("ours")


def test_a_corpus_appears_whole(tmp_path):
    write_once(tmp_path / "data" / "corpus", write)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["corpus"]


def test_another_process_may_be_faster(tmp_path):
    def overtaken(folder: Path) -> None:
        write(folder)
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "a.wav").write_text("theirs")

    write_once(tmp_path / "corpus", overtaken)
    assert (tmp_path / "corpus" / "a.wav").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_failure_leaves_nothing(tmp_path):
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        write_once(tmp_path / "corpus", fail)
    (tmp_path / "corpus").write_text("a file")
    with pytest.raises(OSError, match="corpus"):
        write_once(tmp_path / "corpus", write)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
