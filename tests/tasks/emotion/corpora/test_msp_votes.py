"""Every rater's answer, from each form in which releases give it: the same votes."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from hydraudio.core.defects import or_raise
from hydraudio.tasks.emotion.corpora.msp_podcast.votes import Vote, add_votes, parse_detail, parse_votes
from hydraudio.tasks.emotion.corpora.utterances import Utterance

ANSWERS = {
    "a.wav": [
        ("WORKER01", "Happy", "Happy,Excited", "5", "6", "4"),
        ("WORKER02", "Neutral", "", "4", "4", "4"),
        ("WORKER03", "Other-bored, tired", "Sad,Concerned,Dissapointed", "2", "3", "3"),
    ],
    "b.wav": [("WORKER01", "Contempt", "Contempt,Disgust", "5", "2", "7")],
}
EXPECTED = {
    "a.wav": [
        Vote("WORKER01", "H", ("H", "O"), (5.0, 6.0, 4.0)),
        Vote("WORKER02", "N", (), (4.0, 4.0, 4.0)),
        Vote("WORKER03", "O", ("S", "O", "O"), (2.0, 3.0, 3.0)),
    ],
    "b.wav": [Vote("WORKER01", "C", ("C", "D"), (5.0, 2.0, 7.0))],
}
COLUMNS = ("EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")


def write_csv(root: Path, rows: list[list[str]]) -> Path:
    path = root / "Labels" / "labels_detailed.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def details(with_empty_field: bool) -> dict[str, list[str]]:
    return {
        name: [
            f"{worker}; {primary}; "
            + (f"{secondary}; " if secondary or with_empty_field else "")
            + f"A:{arousal}; V:{valence}; D:{dominance};"
            for worker, primary, secondary, arousal, valence, dominance in answers
        ]
        for name, answers in ANSWERS.items()
    }


@pytest.mark.parametrize("worker", ["Workers", "WorkerID"])
def test_a_row_per_rater(tmp_path: Path, worker: str) -> None:
    rows = [["EmoVal", "FileName", worker, "EmoClass_Major", "EmoClass_Second", "EmoDom", "EmoAct"]]
    for name, answers in ANSWERS.items():
        rows += [[v, name, who, primary, second, d, a] for who, primary, second, a, v, d in answers]
    write_csv(tmp_path, rows)
    assert or_raise(parse_votes(tmp_path)) == EXPECTED


@pytest.mark.parametrize("with_empty_field", [True, False])
def test_one_column_for_everything(tmp_path: Path, with_empty_field: bool) -> None:
    rows = [[name, text] for name, texts in details(with_empty_field).items() for text in texts]
    write_csv(tmp_path, [["FileName", "EmoDetail"], *rows])
    assert or_raise(parse_votes(tmp_path)) == EXPECTED


@pytest.mark.parametrize("shape", ["mapping", "workers"])
def test_json(tmp_path: Path, shape: str) -> None:
    content: dict = {}
    for name, answers in ANSWERS.items():
        by_worker = {answer[0]: dict(zip(COLUMNS, answer[1:], strict=True)) for answer in answers}
        workers = {"Workers": [{"Name": worker, **answer} for worker, answer in by_worker.items()]}
        content[name] = by_worker if shape == "mapping" else workers
    (tmp_path / "labels_detailed.json").write_text(json.dumps(content))
    assert or_raise(parse_votes(tmp_path)) == EXPECTED


def test_blocks(tmp_path: Path) -> None:
    blocks = [
        "\n".join([f"{name}; N; A:4.2; V:3.8; D:4.0;", *texts])
        for name, texts in details(with_empty_field=True).items()
    ]
    (tmp_path / "Labels").mkdir()
    (tmp_path / "Labels" / "labels.txt").write_text("\n\n".join(blocks) + "\n")
    assert or_raise(parse_votes(tmp_path)) == EXPECTED


def test_free_text_with_any_sign_and_missing_ratings() -> None:
    vote = parse_detail("W9; Other-A: half; half: sad; Sad; A:; V:nan; D:3;")
    assert (vote.primary, vote.secondary) == ("O", ("S",))
    assert math.isnan(vote.ratings[0])
    assert math.isnan(vote.ratings[1])
    assert parse_detail("W9; ANGRY; A:1; V:1; D:1;").primary == "A"


@pytest.mark.parametrize(
    ("tag", "letter"),
    [
        *((tag, "O") for tag in ("Concerned", "Frustrated", "Amused", "Annoyed", "Excited", "Disappointed")),
        *((tag, "O") for tag in ("Confused", "Depressed", "Dissapointed", "Other", "Other-bored", "Anger management")),
        *zip(("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "neutral"), "ASHUFDCN", strict=True),
    ],
)
def test_only_the_names_of_the_classes_are_the_classes(tag: str, letter: str) -> None:
    vote = parse_detail(f"W1; {tag}; {tag}; A:4; V:4; D:4;")
    assert (vote.primary, vote.secondary) == (letter, (letter,))


def test_shares(tmp_path: Path) -> None:
    rows = add_votes([Utterance("a.wav", "a.wav"), Utterance("c.wav", "c.wav")], EXPECTED)
    assert rows[0].votes == {"H": 1 / 3, "N": 1 / 3, "O": 1 / 3}
    assert rows[0].mentions == {"H": 2 / 8, "O": 4 / 8, "N": 1 / 8, "S": 1 / 8}
    assert rows[0].n_raters == 3
    assert rows[1] == Utterance("c.wav", "c.wav")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("W1; Happy; A:9; V:1; D:1;", "the rating '9' is not from 1 to 7"),
        ("W1; Happy; A:0; V:1; D:1;", "the rating '0' is not from 1 to 7"),
        ("W1; Happy; A:4; V:1;", "is not of the form"),
        ("W1; ; Happy; A:4; V:1; D:1;", "the primary label is empty"),
        ("W1; Happy; A:high; V:1; D:1;", "could not convert string to float: 'high'"),
    ],
)
def test_bad_answers_name_file_row_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    good = ["a.wav", details(with_empty_field=True)["a.wav"][0]]
    path = write_csv(tmp_path, [["FileName", "EmoDetail"], good, ["b.wav", text], good])
    with pytest.raises(ValueError) as caught:
        or_raise(parse_votes(tmp_path))
    assert str(caught.value).startswith(f"{path}: line 3 (b.wav): ")
    assert message in str(caught.value)
    votes, defects = parse_votes(tmp_path)
    assert len(defects) == 1
    assert [len(answers) for answers in votes.values()] == [2]


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"labels_detailed\.csv: no such file.*data\.targets=hard"):
        or_raise(parse_votes(tmp_path))
    write_csv(tmp_path, [["FileName", "Workers", "EmoClass_Major"]])
    _, defects = parse_votes(tmp_path)
    assert [defect.kind for defect in defects] == ["missing_column"] * 4
    (tmp_path / "Labels" / "labels_detailed.csv").unlink()
    (tmp_path / "labels_detailed.json").write_text('{"a.wav": {"W1": {"EmoClass_Major": "Happy"}, "W2": 3}}')
    _, defects = parse_votes(tmp_path)
    assert len(defects) == 2
    assert "entry 'a.wav', W1" in defects[0].message
