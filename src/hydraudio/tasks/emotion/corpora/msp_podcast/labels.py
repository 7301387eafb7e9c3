"""The consensus labels of MSP-PODCAST: one row per turn, as CSV or JSON, in the spelling of any release.

`labels_consensus.{csv,json}` (old releases: `labels_concensus`) lies in `Labels/` or in the root, audio in `Audios/` or
`Audio/`. Columns are found by name. `Speaker_ids.txt` and `Partition.txt` are not read: what they say stands in the
columns SpkrID, Gender and Split_Set.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hydraudio.core.defects import Defect
from hydraudio.core.tables import find_file, read_json, read_table
from hydraudio.tasks.emotion.corpora.labels import MSP_LETTERS
from hydraudio.tasks.emotion.corpora.utterances import GENDERS, UNKNOWN_SPEAKER, Utterance, gender_index

COLUMN_OF = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
"""Attribute -> its column, with ratings from 1 to 7."""

REQUIRED_COLUMNS = ("FileName", "EmoClass", *COLUMN_OF.values(), "Split_Set")
"""SpkrID is absent from the cut of the Interspeech 2025 challenge; Gender may be absent too."""

SPLITS = ("Train", "Development", "Test", "Test1", "Test2", "Test3")
"""`Validation` of old releases is read as Development; Test is what some users rewrite Test1 and Test2 to."""

LABEL_FOLDERS = ("Labels", "")
AUDIO_FOLDERS = ("Audios", "Audio")
CONSENSUS_NAMES = tuple(f"labels_{word}.{ending}" for ending in ("csv", "json") for word in ("consensus", "concensus"))

_AUDIO_ENDINGS = (".wav", ".flac")
_PODCAST = re.compile(r"MSP-PODCAST_(\d+)_")
_INTEGER = re.compile(r"(\d+)(\.0+)?")


def parse_consensus(root: Path, audio: Path | None = None) -> tuple[list[Utterance], list[Defect]]:
    """The turns that can be used, in the order of the label file, and every defect of it.

    Labels of Test3 are not published: files of the audio folder whose name contains `test3`, and which the label file
    does not name, are rows of the split Test3 without labels; they come last, by name.

    Args:
        root: holds the label file, in `Labels` or itself.
        audio: folder of the recordings; None for that of the root.
    """
    root = Path(root)
    if not root.is_dir():
        return [], [Defect("missing_root", f"{root}: no such folder; set data.root to the folder of MSP-PODCAST")]
    table = find_file(root, LABEL_FOLDERS, CONSENSUS_NAMES)
    if table is None:
        message = f"{root / 'Labels' / CONSENSUS_NAMES[0]}: no such file; set data.root to the folder that holds Labels"
        return [], [Defect("missing_csv", message)]
    audio = audio_folder(root) if audio is None else audio
    defects: list[Defect] = []
    rows: dict[str, Utterance] = {}
    entries = _csv_entries(table, defects) if table.suffix == ".csv" else _json_entries(table, defects)
    for where, cells in entries:
        row, row_defects = _parse_row(where, cells, audio)
        if row is None:
            defects += row_defects
        elif row.file_name in rows:
            defects.append(Defect("duplicate_row", f"{where}: {row.file_name} occurs twice; keep one of the rows"))
        else:
            rows[row.file_name] = row
    if not rows and not defects:
        defects.append(Defect("empty_csv", f"{table}: has no rows; copy it from the corpus again"))
    return [*rows.values(), *_unlabelled_rows(audio, rows)], defects


def audio_folder(root: Path) -> Path:
    """Return `Audios`, or `Audio` of old releases where only that one exists."""
    folders = [Path(root) / name for name in AUDIO_FOLDERS]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def podcast_of(file_name: str) -> str:
    """Return the number of a turn's podcast: MSP-PODCAST_<podcast>_<turn>.wav; empty for other names."""
    match = _PODCAST.match(file_name)
    return match.group(1) if match else ""


def _csv_entries(table: Path, defects: list[Defect]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for line, cells in read_table(table, REQUIRED_COLUMNS, defects):
        yield f"{table}: line {line}", cells


def _json_entries(table: Path, defects: list[Defect]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Entries are objects, or lists of one object, with EmoClass (or EmoClass_Major); numbers may be strings."""
    content, found = read_json(table)
    defects += found
    for name, entry in content.items():
        where = f"{table}: entry {name!r}"
        if isinstance(entry, list) and len(entry) == 1:
            entry = entry[0]
        if not isinstance(entry, dict):
            defects.append(Defect("bad_json", f"{where}: holds {entry!r:.60}; expected an object with EmoClass ..."))
            continue
        cells = {key: "" if value is None else str(value).strip() for key, value in entry.items()}
        if "EmoClass_Major" in cells:
            cells.setdefault("EmoClass", cells["EmoClass_Major"])
        cells["FileName"] = name
        absent = [key for key in REQUIRED_COLUMNS if key not in cells]
        if absent:
            defects.append(Defect("missing_column", f"{where}: {', '.join(absent)} is missing; copy the file again"))
            continue
        yield where, cells


def _parse_row(where: str, cells: Mapping[str, str], audio: Path) -> tuple[Utterance | None, list[Defect]]:
    defects: list[Defect] = []
    name = cells["FileName"]
    if not name or "/" in name or "\\" in name:
        message = f"{where}: column FileName holds {name!r}; expected the name of a file, no folders"
        defects.append(Defect("bad_name", message))
    split = "Development" if cells["Split_Set"] == "Validation" else cells["Split_Set"]
    if split not in SPLITS:
        defects.append(Defect("bad_split", _bad(where, name, "Split_Set", split, f"one of {', '.join(SPLITS)}")))
    letter = cells["EmoClass"]
    if letter not in MSP_LETTERS and not (letter == "" and split == "Test3"):
        expected = f"one of {', '.join(MSP_LETTERS)}"
        defects.append(Defect("bad_class", _bad(where, name, "EmoClass", letter, expected)))
    attributes: dict[str, float] = {}
    for attribute, column in COLUMN_OF.items():
        rating = _rating(cells[column])
        if rating is None:
            expected = "a rating from 1 to 7, or nothing where it is missing"
            defects.append(Defect("bad_number", _bad(where, name, column, cells[column], expected)))
        elif not math.isnan(rating):
            attributes[attribute] = rating
    try:
        gender = gender_index(cells.get("Gender", ""))
    except ValueError:
        gender = 2
        expected = f"one of {', '.join(GENDERS)}"
        defects.append(Defect("bad_gender", _bad(where, name, "Gender", cells["Gender"], expected)))
    if defects:
        return None, defects
    return Utterance(
        file_name=name,
        path=audio / name,
        letter=letter,
        attributes=attributes,
        speaker=_speaker(cells.get("SpkrID", "")),
        podcast=podcast_of(name),
        gender=gender,
        split=split,
    ), []


def _bad(where: str, name: str, column: str, value: str, expected: str) -> str:
    return f"{where} ({name}): column {column} holds {value!r}; expected {expected}: correct the row or remove it"


def _rating(text: str) -> float | None:
    """NaN for an empty cell, None for what is no rating from 1 to 7."""
    if text == "":
        return math.nan
    try:
        rating = float(text)
    except ValueError:
        return None
    return rating if 1 <= rating <= 7 else None


def _speaker(text: str) -> str:
    """Spreadsheets write 127 as 127.0 where some speakers are unknown."""
    match = _INTEGER.fullmatch(text)
    return match.group(1) if match else text or UNKNOWN_SPEAKER


def _unlabelled_rows(audio: Path, labelled: Mapping[str, Utterance]) -> list[Utterance]:
    if not audio.is_dir():
        return []
    with os.scandir(audio) as entries:
        names = sorted(entry.name for entry in entries if "test3" in entry.name.lower())
    return [
        Utterance(file_name=name, path=audio / name, podcast=podcast_of(name), split="Test3")
        for name in names
        if name.lower().endswith(_AUDIO_ENDINGS) and not name.startswith(".") and name not in labelled
    ]
