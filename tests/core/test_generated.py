"""Embedded corpora are complete or absent, whoever else writes them."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from hydraudio.core.generated import MARKER, EmbeddedCorpus


@dataclass(frozen=True, kw_only=True)
class Embedded(EmbeddedCorpus):
    n_files: int = 1

    def write(self, root: Path) -> None:
        for number in range(self.n_files):
            (root / f"{number}.wav").write_text("ours")


def test_a_corpus_appears_whole(tmp_path):
    root = Embedded(n_files=2)(tmp_path / "data" / "corpus")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["corpus"]
    assert sorted(path.name for path in root.iterdir()) == ["0.wav", "1.wav", MARKER]


def test_it_is_written_once(tmp_path):
    root = Embedded()(tmp_path / "corpus")
    stamp = (root / "0.wav").stat().st_mtime_ns
    assert Embedded(n_processes=3)(root) == root
    assert (root / "0.wav").stat().st_mtime_ns == stamp


def test_other_attributes_are_another_corpus(tmp_path):
    root = Embedded()(tmp_path / "corpus")
    with pytest.raises(ValueError, match=r"was generated with .'n_files': 1., not with .'n_files': 2."):
        Embedded(n_files=2)(root)
    (root / MARKER).unlink()
    with pytest.raises(ValueError, match=f"no {MARKER} in it"):
        Embedded()(root)


def test_the_folder_is_named_by_what_the_files_depend_on(tmp_path):
    class Later(Embedded):
        version = 2

    names = [each.folder(tmp_path, "corpus") for each in (Embedded(), Embedded(seed=1), Embedded(n_files=2), Later())]
    assert len(set(names)) == 4
    assert Embedded(n_processes=2).folder(tmp_path, "corpus") == names[0]


def test_another_process_may_be_faster(tmp_path):
    class Overtaken(EmbeddedCorpus):
        n_calls = 0

        def write(self, root: Path) -> None:
            type(self).n_calls += 1
            (root / "a.wav").write_text(f"by call {self.n_calls}")
            if self.n_calls == 1:
                self(tmp_path / "corpus")

    Overtaken()(tmp_path / "corpus")
    assert (tmp_path / "corpus" / "a.wav").read_text() == "by call 2"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_failure_leaves_nothing(tmp_path):
    class Failing(Embedded):
        def write(self, root: Path) -> None:
            super().write(root)
            raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        Failing()(tmp_path / "corpus")
    (tmp_path / "corpus").write_text("a file")
    with pytest.raises(ValueError, match="corpus exists"):
        Embedded()(tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
