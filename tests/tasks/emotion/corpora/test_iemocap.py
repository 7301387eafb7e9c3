"""IEMOCAP's evaluations, in the layout of the release."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hydraudio.core.defects import raise_first
from hydraudio.tasks.emotion.corpora.iemocap import SESSIONS, EmbeddedIEMOCAP, parse_index
from hydraudio.tasks.emotion.corpora.labels import EmotionClasses


def read_index(root, **options):
    """The rows of a corpus without defects."""
    rows, defects = parse_index(root, **options)
    raise_first(defects)
    return rows


BLOCKS = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 3.0000, 1.0000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral; Anger;\t()
C-E4:\tOther;\t(curious)
C-F1:\tHappiness;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[5.0000, 5.5000, 5.0000]
C-E2:\tExcited;\t()
C-E3:\tHappiness;\t()
A-E3:\tval 5; act 5; dom  5;\t()

[12.0000 - 13.0000]\tSes01F_impro01_F001\txxx\t[3.0000, 3.0000, 3.0000]
"""


def write(root: Path, session: str, dialog: str, text: str) -> Path:
    path = root / session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_turns(tmp_path: Path) -> None:
    root = tmp_path / "IEMOCAP_full_release"
    write(root, "Session1", "Ses01F_impro01", BLOCKS)
    write(root, "Session1", "._Ses01F_impro01", "rubbish")
    write(
        root,
        "Session5",
        "Ses05M_script01_1b",
        "[0.0 - 1.0]\tSes05M_script01_1b_MXX12\tfru\t[1.0000, 1.0000, 1.0000]\n",
    )
    rows = read_index(root)
    assert rows == read_index(tmp_path)
    first, second, third, last = rows
    assert first.path == root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert first.file_name == "Ses01F_impro01_F000.wav"
    assert (first.letter, first.speaker, first.gender, first.split) == ("N", "Ses01F", 0, "Session1")
    assert first.podcast == "Ses01F_impro01"
    assert first.attributes == {"arousal": 4.0, "valence": 3.25, "dominance": 1.0}
    assert first.n_raters == 3
    assert first.votes == pytest.approx({"N": 1 / 2, "A": 1 / 6, "O": 1 / 3})
    assert first.mentions == pytest.approx({"N": 2 / 4, "A": 1 / 4, "O": 1 / 4})
    assert (second.letter, second.speaker, second.gender) == ("H", "Ses01M", 1)
    assert second.attributes == {"arousal": 7.0, "valence": 7.0, "dominance": 7.0}
    assert second.votes == {"H": 1.0}
    assert (third.letter, third.votes, third.n_raters) == ("X", {}, 0)
    assert (last.letter, last.speaker, last.gender, last.split) == ("R", "Ses05M", 1, "Session5")
    assert set(SESSIONS) >= {row.split for row in rows}
    four = EmotionClasses.of("iemocap_4")
    assert [four.label_of(row.letter) for row in rows] == [0, 1, -1, -1]


def test_excited_may_stay_its_own_class(tmp_path: Path) -> None:
    write(tmp_path, "Session1", "Ses01F_impro01", BLOCKS)
    row = read_index(tmp_path, merge_excited=False)[1]
    assert row.letter == "E"
    assert row.votes == {"E": 0.5, "H": 0.5}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\tneu\t", "\tmeh\t", "emotion 'meh'; expected one of neu, hap"),
        ("[2.5000, ", "[9.5000, ", r"\[9.5000, 3.0000, 1.0000\] are no means"),
        ("[2.5000, ", "[", r"\[3.0000, 1.0000\] are no means"),
        ("Ses01F_impro01_F000", "Ses02F_impro01_F000", "'Ses02F_impro01_F000' is no turn of Session1"),
        ("[6.2901 - 8.2357]\t", "[6.2901 - 8.2357] ", ".* is not .*<tab>turn<tab>"),
        ("impro01_F001", "impro01_F000", "Ses01F_impro01_F000.wav occurs twice"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, "Session1", "Ses01F_impro01", BLOCKS.replace(old, new))
    line = 16 if "twice" in message else 3
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: line {line}: {message}"):
        read_index(tmp_path)
    rows, defects = parse_index(tmp_path)
    assert (len(rows), len(defects)) == (2, 1)


def test_missing_corpus(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"set data\.root to the folder that holds Session1"):
        read_index(tmp_path)


@pytest.mark.slow
def test_an_empty_and_a_half_table_are_found(tmp_path: Path) -> None:
    EmbeddedIEMOCAP()(tmp_path / "corpus")
    rows, defects = parse_index(tmp_path / "corpus")
    assert not defects
    tables = sorted((tmp_path / "corpus").rglob("EmoEvaluation/*.txt"))
    content = tables[0].read_text()
    tables[0].write_text(content[: content.index("\n[", len(content) // 2) + 1])
    tables[1].write_text("")
    fewer, defects = parse_index(tmp_path / "corpus")
    assert len(fewer) < len(rows)
    assert {defect.kind for defect in defects} == {"lost_rows", "empty_csv"}
    assert any(f"{tables[0]}: has no line for" in defect.message for defect in defects)
    assert any(f"{tables[1]}: holds no turns" in defect.message for defect in defects)


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["Ses01F_impro01.txt", "."], ids=["a dialog", "a session"])
def test_recordings_without_any_evaluations_are_found(tmp_path: Path, gone: str) -> None:
    EmbeddedIEMOCAP()(tmp_path)
    folder = tmp_path / "Session1" / "dialog" / "EmoEvaluation"
    (tmp_path / "Session1" / "sentences" / "wav" / "notes").mkdir()  # holds no recordings
    for table in folder.glob("*.txt" if gone == "." else gone):
        table.unlink()
    n_lost = 2 if gone == "." else 1
    _, defects = parse_index(tmp_path)
    assert [defect.kind for defect in defects] == ["missing_csv"] * n_lost
    assert f"{folder / 'Ses01F_impro01.txt'}: no such file that can be read, but" in defects[0].message
    assert "copy the file again" in defects[0].message
    with pytest.raises(FileNotFoundError, match=r"Ses01F_impro01\.txt"):
        read_index(tmp_path)


@pytest.mark.slow
def test_a_pipe_in_place_of_evaluations_is_found(tmp_path: Path, pipe: Callable[[Path], Path]) -> None:
    EmbeddedIEMOCAP()(tmp_path)
    table = pipe(tmp_path / "Session2" / "dialog" / "EmoEvaluation" / "Ses02F_impro01.txt")
    (defect,) = parse_index(tmp_path)[1]
    assert defect.message.startswith(f"{table}: no such file that can be read")
