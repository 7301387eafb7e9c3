"""CREMA-D's clips and tables, in the layout of its repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from hydraudio.core.defects import raise_first
from hydraudio.tasks.emotion.corpora.crema_d import FOLDS, parse_index
from hydraudio.tasks.emotion.corpora.labels import EmotionClasses


def read_index(root, **options):
    """The rows of a corpus without defects."""
    rows, defects = parse_index(root, **options)
    raise_first(defects)
    return rows


NAMES = (
    "1001_DFA_ANG_XX.wav",
    "1001_IEO_HAP_LO.wav",
    "1002_DFA_NEU_XX.wav",
    "1040_ITH_SAD_X.wav",
    "1091_TIE_DIS_XX.wav",
)
VOTES = """"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"
"100001",6,2,0,0,2,0,"1001_DFA_ANG_XX",10,0.6,"A"
"200001",0,0,0,0,0,9,"1001_DFA_ANG_XX",9,1,"S"
"100002",0,0,0,3,6,0,"1001_IEO_HAP_LO",9,0.666666666666667,"N"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "AudioWAV").mkdir()
    for name in NAMES:
        (tmp_path / "AudioWAV" / name).touch()
    (tmp_path / "AudioWAV" / "._1001_DFA_ANG_XX.wav").touch()
    (tmp_path / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n1002,21,"Female","",""\n'
    )
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults" / "tabulatedVotes.csv").write_text(VOTES)
    return tmp_path


def test_clips(root: Path) -> None:
    rows = read_index(root)
    assert [row.file_name for row in rows] == sorted(NAMES)
    assert [row.letter for row in rows] == ["A", "H", "N", "S", "D"]
    assert [row.speaker for row in rows] == ["1001", "1001", "1002", "1040", "1091"]
    assert [row.gender for row in rows] == [1, 1, 0, 2, 2]
    assert [row.split for row in rows] == ["Fold1", "Fold1", "Fold2", "Fold5", "Fold1"]
    assert rows[0].path == root / "AudioWAV" / NAMES[0]
    assert rows[0].votes == {"A": 0.6, "D": 0.2, "N": 0.2}
    assert (rows[0].n_raters, rows[1].n_raters, rows[2].n_raters) == (10, 9, 0)
    assert rows[0].mentions == rows[0].votes
    assert rows[2].votes == {}
    assert all(EmotionClasses.of("crema_d_6").label_of(row.letter) >= 0 for row in rows)
    assert {row.split for row in rows} <= set(FOLDS)


def test_tables_are_optional(root: Path) -> None:
    (root / "VideoDemographics.csv").unlink()
    (root / "processedResults" / "tabulatedVotes.csv").unlink()
    rows = read_index(root)
    assert {row.gender for row in rows} == {2}
    assert all(row.votes == {} for row in rows)


def test_defects(root: Path) -> None:
    (root / "AudioWAV" / "1001_DFA_JOY_XX.wav").touch()
    (root / "VideoDemographics.csv").write_text("ActorID,Sex\n1001,Martian\n")
    (root / "processedResults" / "tabulatedVotes.csv").write_text(VOTES.replace('"100002",0,', '"100002",none,'))
    rows, defects = parse_index(root)
    assert len(rows) == len(NAMES)
    assert [defect.kind for defect in defects] == ["bad_gender", "bad_number", "bad_name"]
    assert "VideoDemographics.csv: line 2: gender 'Martian'" in defects[0].message
    assert "tabulatedVotes.csv: line 4 (1001_IEO_HAP_LO)" in defects[1].message
    with pytest.raises(ValueError, match="Martian"):
        read_index(root)


def test_missing_corpus(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"AudioWAV: no clips; set data\.root"):
        read_index(tmp_path)
