"""RAVDESS' file names, in the layout of its archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from hydraudio.core.defects import raise_first
from hydraudio.tasks.emotion.corpora.labels import EmotionClasses
from hydraudio.tasks.emotion.corpora.ravdess import parse_index


def read_index(root, **options):
    """The rows of a corpus without defects."""
    rows, defects = parse_index(root, **options)
    raise_first(defects)
    return rows


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / f"Actor_{name[-6:-4]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("folder", ["", "audio_speech_actors_01-24"])
def test_clips(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    touch(root, *(f"03-01-0{code}-01-02-01-12.wav" for code in range(1, 9)))
    touch(root, "03-01-06-02-01-02-01.wav", "03-02-04-01-01-01-01.wav", "03-01-05-01-01-01-24.wav")
    (root / "Actor_01" / "._03-01-06-02-01-02-01.wav").touch()
    rows = read_index(tmp_path)
    assert [row.file_name[-6:-4] for row in rows] == ["01", *["12"] * 8, "24"]
    assert rows[0].path == root / "Actor_01" / "03-01-06-02-01-02-01.wav"
    assert [row.gender for row in (rows[0], rows[1], rows[-1])] == [1, 0, 0]
    assert [row.split for row in (rows[0], rows[1], rows[-1])] == ["Fold1", "Fold3", "Fold6"]
    assert {row.speaker for row in rows} == {"Actor_01", "Actor_12", "Actor_24"}
    classes = EmotionClasses.of("ravdess_8")
    assert [classes.label_of(row.letter) for row in rows[1:9]] == list(range(8))
    names = ["Neutral", "Calm", "Happy", "Sad", "Angry", "Fearful", "Disgust", "Surprised"]
    assert [classes.names[classes.label_of(row.letter)] for row in rows[1:9]] == names


def test_bad_names(tmp_path: Path) -> None:
    touch(tmp_path, "03-01-06-01-02-01-12.wav", "03-01-09-01-02-01-12.wav", "recording_0-12.wav")
    (tmp_path / "Actor_12" / "03-01-06-01-02-01-13.wav").touch()
    rows, defects = parse_index(tmp_path)
    assert len(rows) == 1
    assert [defect.kind for defect in defects] == ["bad_name"] * 3
    with pytest.raises(ValueError, match="not named like a clip of Actor_12"):
        read_index(tmp_path)


def test_missing_corpus(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"set data\.root to the folder that holds Actor_01"):
        read_index(tmp_path)
