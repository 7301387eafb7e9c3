"""One object for index, name and letter of a class; and the row of the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hydraudio.tasks.emotion.corpora.labels import EmotionClasses, letter_of
from hydraudio.tasks.emotion.corpora.utterances import Utterance, fold_splits, gender_index, manifest_fingerprint

PRIMARY_8 = ["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"]


def test_the_eight_classes_have_the_order_of_the_original_label_file() -> None:
    classes = EmotionClasses.of(8)
    assert list(classes.names) == PRIMARY_8
    assert "".join(classes.letters) == "ASHUFDCN"
    assert [classes.label_of(letter) for letter in "ASHUFDCN"] == list(range(8))
    assert letter_of("happiness") == letter_of("Happy") == letter_of("H") == "H"


@pytest.mark.parametrize(
    ("key", "letters"),
    [
        (4, "ASHN"),
        (5, "ASHUN"),
        (6, "ASHUCN"),
        (9, "ASHUFDCNO"),
        ("10", "ASHUFDCNOX"),
        ("iemocap_4", "NHAS"),
        ("crema_d_6", "ADFHNS"),
        ("ravdess_8", "NLHSAFDU"),
        (["Neutral", "A", "Fearful"], "NAF"),
    ],
)
def test_sets(key: int | str | list[str], letters: str) -> None:
    classes = EmotionClasses.of(key)
    assert "".join(classes.letters) == letters
    assert len(classes) == len(letters)
    restored = EmotionClasses.of(list(classes.names))
    assert restored.names == classes.names
    assert restored.letters == classes.letters


def test_no_agreement_counts_as_other_only_in_the_set_of_nine() -> None:
    assert EmotionClasses.of(9).label_of("X") == EmotionClasses.of(9).label_of("O") == 8
    assert EmotionClasses.of(10).label_of("X") == 9
    assert EmotionClasses.of(8).label_of("X") == -1
    assert EmotionClasses.of(8).label_of("O") == -1
    assert EmotionClasses.of(4).label_of("") == -1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (7, "no set of classes '7'; the sets are 4, 5"),
        (["Angry", "Angry"], "'Angry' occurs twice"),
        (["Fear", "Fearful"], "'Fear' occurs twice"),
        (["Angry", "Bored"], "unknown emotion class 'Bored'"),
        (["Angry"], "at least two"),
    ],
)
def test_bad_classes_are_refused(key: int | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmotionClasses.of(key)


def test_gender_order() -> None:
    assert [gender_index(text) for text in ("Female", "Male", "Unknown", "F", "m", "")] == [0, 1, 2, 0, 1, 2]
    with pytest.raises(ValueError, match="'robot'"):
        gender_index("robot")


def test_the_fingerprint_sees_every_field_but_not_the_folder() -> None:
    row = Utterance("a.wav", Path("x/a.wav"), 16000, "A", {"arousal": 4.0}, "7", "0001", 0, "Train", {"A": 1.0}, {}, 5)
    base = manifest_fingerprint([row])
    assert manifest_fingerprint([replace(row, path=Path("moved/to/a.wav"))]) == base
    changes = [
        {"file_name": "b.wav"},
        {"path": "part.tar#a"},
        {"n_samples": None},
        {"letter": "S"},
        {"attributes": {"valence": 4.0}},
        {"speaker": "8"},
        {"podcast": "0002"},
        {"gender": 1},
        {"split": "Test1"},
        {"votes": {"A": 0.5, "O": 0.5}},
        {"mentions": {"A": 1.0}},
        {"n_raters": 6},
        {"sample_rate": 48000},
    ]
    prints = {manifest_fingerprint([replace(row, **change)]) for change in changes}
    assert len(prints) == len(changes)
    assert base not in prints
    assert manifest_fingerprint([row, row]) != base


def test_folds_never_share_a_group() -> None:
    names = ["Session1", "Session2", "Session3", "Session4", "Session5"]
    assert fold_splits(names, 5) == {"train": names[1:4], "val": ["Session1"], "test": ["Session5"]}
    for fold in range(1, 6):
        splits = fold_splits(names, fold)
        assert sorted(splits["train"] + splits["val"] + splits["test"]) == names
    with pytest.raises(ValueError, match="folds 1 to 5"):
        fold_splits(names, 0)
