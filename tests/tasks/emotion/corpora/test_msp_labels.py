"""Consensus labels of MSP-PODCAST in every shape that releases have, and every fault by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hydraudio.core.defects import or_raise
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import parse_consensus
from hydraudio.tasks.emotion.corpora.utterances import Utterance

COLUMNS = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]
ROWS = [
    ["MSP-PODCAST_0001_0008.wav", "N", "4.2", "3.833333", "4.0", "127", "Female", "Train"],
    ["MSP-PODCAST_0001_0009.wav", "A", "6.0", "1.0", "7.0", "Unknown", "Male", "Development"],
    ["MSP-PODCAST_4265_0712_0004.wav", "X", "2.5", "", "1.5", "127.0", "Unknown", "Test1"],
]


def write_csv(path: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def as_entries(rows: list[list[str]]) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(COLUMNS[1:], row[1:], strict=True)) for row in rows}


def check(rows: list[Utterance], audio: Path) -> None:
    assert [row.file_name for row in rows] == [row[0] for row in ROWS]
    first, second, third = rows
    assert first.path == audio / first.file_name
    assert (first.letter, first.speaker, first.podcast, first.gender, first.split) == ("N", "127", "0001", 0, "Train")
    assert first.attributes == {"arousal": 4.2, "valence": 3.833333, "dominance": 4.0}
    assert first.n_samples is None
    assert (second.letter, second.speaker, second.gender, second.split) == ("A", "Unknown", 1, "Development")
    assert (third.letter, third.speaker, third.podcast, third.gender, third.split) == ("X", "127", "4265", 2, "Test1")
    assert third.attributes == {"arousal": 2.5, "dominance": 1.5}


@pytest.mark.parametrize(
    "place", ["Labels/labels_consensus.csv", "labels_concensus.csv", "Labels/labels_concensus.csv"]
)
def test_csv_in_every_place(tmp_path: Path, place: str) -> None:
    write_csv(tmp_path / place, ROWS)
    check(or_raise(parse_consensus(tmp_path)), tmp_path / "Audios")


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    order = [7, 3, 6, 0, 5, 1, 4, 2]
    rows = [["x", *(row[at] for at in order)] for row in ROWS]
    path = write_csv(tmp_path / "Labels/labels_consensus.csv", rows, ["extra", *(f" {COLUMNS[at]}" for at in order)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    check(or_raise(parse_consensus(tmp_path)), tmp_path / "Audios")


@pytest.mark.parametrize("shape", ["strings", "numbers", "lists", "face"])
def test_json_shapes(tmp_path: Path, shape: str) -> None:
    entries: dict = as_entries(ROWS)
    if shape == "numbers":
        for entry in entries.values():
            entry.update({key: float(entry[key]) if entry[key] else None for key in ("EmoAct", "EmoVal", "EmoDom")})
    if shape == "face":
        for entry in entries.values():
            entry["EmoClass_Major"] = entry.pop("EmoClass")
    if shape in ("lists", "face"):
        entries = {name: [entry] for name, entry in entries.items()}
    write_json(tmp_path / "Labels/labels_consensus.json", entries)
    check(or_raise(parse_consensus(tmp_path)), tmp_path / "Audios")


def test_old_spellings_and_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "Audio").mkdir()
    columns = [name for name in COLUMNS if name not in ("SpkrID", "Gender")]
    write_csv(tmp_path / "labels_concensus.csv", [["a.wav", "O", "1", "2", "3", "Validation"]], columns)
    (row,) = or_raise(parse_consensus(tmp_path))
    assert (row.split, row.speaker, row.gender, row.podcast) == ("Development", "Unknown", 2, "")
    assert row.path == tmp_path / "Audio" / "a.wav"


def test_test3_files_are_rows_without_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "Labels/labels_consensus.csv", ROWS)
    (tmp_path / "Audios").mkdir()
    for name in ("MSP-PODCAST_test3_0002.wav", "MSP-PODCAST_test3_0001.wav", "._test3.wav", "test3.txt", ROWS[0][0]):
        (tmp_path / "Audios" / name).touch()
    rows = or_raise(parse_consensus(tmp_path))
    assert [row.file_name for row in rows[3:]] == ["MSP-PODCAST_test3_0001.wav", "MSP-PODCAST_test3_0002.wav"]
    assert {(row.split, row.letter, len(row.attributes)) for row in rows[3:]} == {("Test3", "", 0)}
    named = [*ROWS[0]]
    named[COLUMNS.index("FileName")], named[COLUMNS.index("Split_Set")] = "MSP-PODCAST_test3_0002.wav", "Test3"
    write_csv(tmp_path / "Labels/labels_consensus.csv", [*ROWS, named])
    rows = or_raise(parse_consensus(tmp_path))
    names = ["MSP-PODCAST_test3_0002.wav", "MSP-PODCAST_test3_0001.wav"]
    assert [(row.file_name, row.letter) for row in rows[3:]] == [(names[0], rows[0].letter), (names[1], "")]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("EmoClass", "Q", "column EmoClass holds 'Q'; expected one of A, S"),
        ("EmoClass", "", "column EmoClass holds ''"),
        ("EmoAct", "7.5", "column EmoAct holds '7.5'; expected a rating from 1 to 7"),
        ("EmoVal", "nan", "column EmoVal holds 'nan'"),
        ("EmoDom", "four", "column EmoDom holds 'four'"),
        ("EmoDom", "0", "column EmoDom holds '0'"),
        ("FileName", "", "column FileName holds ''"),
        ("FileName", "x/y.wav", "column FileName holds 'x/y.wav'; expected the name of a file, no folders"),
        ("FileName", ROWS[0][0], "MSP-PODCAST_0001_0008.wav occurs twice"),
        ("Split_Set", "Tset1", "column Split_Set holds 'Tset1'; expected one of Train, Development"),
        ("Split_Set", "", "column Split_Set holds ''"),
        ("Gender", "robot", "column Gender holds 'robot'; expected one of Female, Male, Unknown"),
    ],
)
def test_bad_cells_name_file_row_and_remedy(tmp_path: Path, column: str, value: str, message: str) -> None:
    rows = [list(row) for row in ROWS]
    rows[1][COLUMNS.index(column)] = value
    path = write_csv(tmp_path / "Labels/labels_consensus.csv", rows)
    with pytest.raises(ValueError) as caught:
        or_raise(parse_consensus(tmp_path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: line 3")
    usable, defects = parse_consensus(tmp_path)
    assert len(defects) == 1
    assert [row.file_name for row in usable] == [ROWS[0][0], ROWS[2][0]]


def test_all_defects_are_listed(tmp_path: Path) -> None:
    rows = [[*ROWS[0][:1], "Q", "9", *ROWS[0][3:7], "Nowhere"], ROWS[1], ROWS[1], ROWS[2][:5]]
    write_csv(tmp_path / "Labels/labels_consensus.csv", rows)
    usable, defects = parse_consensus(tmp_path)
    assert sorted(defect.kind for defect in defects) == [
        "bad_class",
        "bad_csv",
        "bad_number",
        "bad_split",
        "duplicate_row",
    ]
    assert len(usable) == 1


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"set data\.root"):
        or_raise(parse_consensus(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"labels_consensus\.csv: no such file"):
        or_raise(parse_consensus(tmp_path))
    path = write_csv(tmp_path / "Labels/labels_consensus.csv", ROWS, [*COLUMNS[:4], "EmoDominance", *COLUMNS[5:]])
    with pytest.raises(ValueError, match=r"column EmoDom is missing; the table has FileName.*EmoDominance"):
        or_raise(parse_consensus(tmp_path))
    write_csv(path, [])
    with pytest.raises(ValueError, match="has no rows"):
        or_raise(parse_consensus(tmp_path))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        or_raise(parse_consensus(tmp_path))
    write_csv(path, ROWS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="line 4: has 7 cells, the header has 8"):
        or_raise(parse_consensus(tmp_path))
    path.write_bytes(path.read_bytes().replace(b"Male", b"M\xe4le"))
    with pytest.raises(ValueError, match="not UTF-8"):
        or_raise(parse_consensus(tmp_path))


def test_broken_json(tmp_path: Path) -> None:
    path = write_json(tmp_path / "Labels/labels_consensus.json", as_entries(ROWS))
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"labels_consensus\.json: line 1: not valid JSON"):
        or_raise(parse_consensus(tmp_path))
    write_json(path, {"a.wav": {"EmoClass": "A"}, "b.wav": "A"})
    _, defects = parse_consensus(tmp_path)
    assert [defect.kind for defect in defects] == ["missing_column", "bad_json"]
    entry = json.dumps(as_entries(ROWS)[ROWS[0][0]])
    path.write_text(f'{{"a.wav": {entry}, "a.wav": {entry}}}')
    with pytest.raises(ValueError, match=r"entry 'a\.wav' occurs twice"):
        or_raise(parse_consensus(tmp_path))
