"""The embedded corpus: layout, exact sums, disjoint talkers, levels, and the same bits from any number of processes."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.tasks.separation.corpora.polsess.embedded import EmbeddedPolSESS
from hydraudio.tasks.separation.corpora.polsess.layout import (
    COLUMN_OF,
    COLUMNS,
    FOLDER_OF,
    REVERB_COLUMNS,
    REVERB_FILE_COLUMNS,
    SUBSETS,
    csv_path,
)

FOLDERS = {column: FOLDER_OF[component] for component, column in COLUMN_OF.items()}


def _rows(root: Path, subset: str) -> list[dict[str, str]]:
    with csv_path(root, subset).open(newline="") as file:
        return list(csv.DictReader(file))


def _all_rows(root: Path) -> list[dict[str, str]]:
    return [row for subset in SUBSETS for row in _rows(root, subset)]


def _codes(root: Path, row: dict[str, str]) -> dict[str, np.ndarray]:
    read = {}
    for column, folder in FOLDERS.items():
        if row[column]:
            codes, sample_rate = soundfile.read(root / row["subset"] / folder / row[column], dtype="int16")
            assert sample_rate == 8000
            read[column] = codes.astype(np.float64)
    return read


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _write(root: Path, **changes) -> Path:
    return EmbeddedPolSESS(
        **{"n_train": 5, "n_val": 2, "n_test": 2, "n_talkers": 12, "duration_s": 0.5, "n_processes": 1} | changes
    )(root)


def _talkers(row: dict[str, str]) -> list[str]:
    return [Path(row[f"speech{number}OryginalPath"]).parent.name for number in (1, 2)]


def test_table_and_files_agree(polsess_root):
    for subset in SUBSETS:
        rows = _rows(polsess_root, subset)
        assert tuple(rows[0]) == COLUMNS
        assert {row["subset"] for row in rows} == {subset}
        for folder in set(FOLDERS.values()):
            named = {row[column] for row in rows for column in FOLDERS if FOLDERS[column] == folder} - {""}
            assert {path.name for path in (polsess_root / subset / folder).iterdir()} == named
    infos = [soundfile.info(path) for path in polsess_root.rglob("*.wav")]
    assert {(info.subtype, info.channels, info.samplerate, info.frames) for info in infos} == {
        ("PCM_16", 1, 8000, 8000)
    }


def test_mix_is_the_exact_sum_of_its_parts(polsess_root):
    for row in _all_rows(polsess_root):
        codes = _codes(polsess_root, row)
        mix = codes.pop("mixFile")
        np.testing.assert_array_equal(mix, sum(codes.values()))
        assert np.abs(mix).max() <= 0.9999 * 32768


def test_levels_in_the_files_are_those_of_the_table(polsess_root):
    def level_db(first: np.ndarray, second: np.ndarray) -> float:
        return float(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second)))

    for row in _all_rows(polsess_root):
        codes = _codes(polsess_root, row)
        speech1, speech2 = codes["speaker1File"], codes["speaker2File"]
        assert level_db(speech1, speech2) == pytest.approx(int(row["SSR"]), abs=0.05)
        assert level_db(codes["sceneFile"], speech1 + speech2) == pytest.approx(float(row["sceneOffsetDB"]), abs=0.05)
        assert float(row["sceneRandomDB"]) - 14 == pytest.approx(float(row["sceneOffsetDB"]))
        assert -12.1 < level_db(codes["eventFile"], speech1 + speech2) < 2.1
        assert -5 <= int(row["SSR"]) <= 5
        assert -14 <= float(row["sceneOffsetDB"]) <= 0


def test_half_of_the_rows_are_indoors(polsess_root):
    rows = _rows(polsess_root, "train")
    indoor = [row for row in rows if row["reverbForSpeaker1"]]
    assert len(indoor) == len(rows) / 2
    for row in _all_rows(polsess_root):
        filled = {bool(row[column]) for column in REVERB_FILE_COLUMNS}
        numbers = {row[column] == "NaN" for column in REVERB_COLUMNS}
        assert filled == {row in indoor} if row in rows else len(filled) == 1
        assert numbers == {not filled.pop()}
        empty = [column for column in COLUMNS if not row[column]]
        assert empty in ([], list(REVERB_FILE_COLUMNS))


def test_talkers_differ_in_a_row_and_between_subsets(polsess_root):
    heard = {subset: {talker for row in _rows(polsess_root, subset) for talker in _talkers(row)} for subset in SUBSETS}
    assert all(len(set(_talkers(row))) == 2 for row in _all_rows(polsess_root))
    assert not heard["train"] & heard["val"]
    assert not heard["train"] & heard["test"]
    assert not heard["val"] & heard["test"]


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path):
    one = _write(tmp_path / "one" / "corpus", n_processes=1)
    two = _write(tmp_path / "two" / "corpus", n_processes=2)
    assert _digest(one) == _digest(two)
    other = _write(tmp_path / "other" / "corpus", seed=1)
    assert _digest(other) != _digest(one)


def test_a_complete_corpus_is_left_alone(tmp_path):
    root = _write(tmp_path / "corpus")
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert _write(tmp_path / "corpus") == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == stamps


def test_other_contents_are_refused(tmp_path):
    root = _write(tmp_path / "corpus")
    with pytest.raises(ValueError, match=r"seed.*0.*not with.*seed.*3.*delete that folder"):
        _write(root, seed=3)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="foreign exists, but was not written by the generator"):
        _write(foreign)
    assert (foreign / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("left", [".corpus.0a1b2c/corpus", "corpus.partial"])
def test_what_a_killed_run_left_is_not_in_the_way(tmp_path, left):
    whole = _write(tmp_path / "a" / "corpus")
    (tmp_path / "b" / left / "train" / "mix").mkdir(parents=True)
    (tmp_path / "b" / left / "train" / "mix" / "torn.wav").write_bytes(b"RIFF")
    assert _digest(_write(tmp_path / "b" / "corpus")) == _digest(whole)
    assert (tmp_path / "b" / left / "train" / "mix" / "torn.wav").exists(), "what may be another's stays"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_val": 0}, "n_val 0"),
        ({"n_talkers": 5}, "n_talkers is 5.*at least 12"),
        ({"sample_rate": 4000}, "4000 Hz"),
        ({"duration_s": 0.1}, "0.1 s"),
        ({"n_processes": 0}, "n_processes"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        _write(tmp_path / "corpus", **changes)
