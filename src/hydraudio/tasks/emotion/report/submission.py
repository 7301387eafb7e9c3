"""Files that the MSP-Podcast challenges take: written from predictions, and checked.

Task 1 is `FileName,EmoClass` with one letter per file, task 2 is `FileName,EmoAct,EmoVal,EmoDom` on the scale from 1
to 7.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from hydraudio.report.tables import Row, write_csv
from hydraudio.tasks.emotion.report.predictions import EmotionTable, to_rating

CATEGORY_FILE, ATTRIBUTE_FILE = "submission_task1.csv", "submission_task2.csv"
CATEGORY_COLUMNS = ("FileName", "EmoClass")
ATTRIBUTE_COLUMNS = ("FileName", "EmoAct", "EmoVal", "EmoDom")
LETTERS = ("A", "S", "H", "U", "F", "D", "C", "N")
_ATTRIBUTES = ("arousal", "valence", "dominance")  # in the order of the columns
_MAX_LISTED = 5


def write_submissions(folder: Path, predictions: EmotionTable) -> list[str]:
    """Write the files that the model can fill, and return one line per file: written, or why not."""
    lines = []
    if predictions.class_letters:
        letters = (predictions.class_letters[k] for k in predictions.predicted)
        rows = ({"FileName": n, "EmoClass": letter} for n, letter in zip(predictions.ids, letters, strict=True))
        write_csv(folder / CATEGORY_FILE, rows, CATEGORY_COLUMNS)
        lines.append(f"{CATEGORY_FILE}: {len(predictions)} files")
    else:
        lines.append(f"{CATEGORY_FILE}: not written, the model has no categories with letters")
    missing = [name for name in _ATTRIBUTES if name not in predictions.attribute_names]
    if missing:
        lines.append(f"{ATTRIBUTE_FILE}: not written, the model does not predict {', '.join(missing)}")
    else:
        write_csv(folder / ATTRIBUTE_FILE, attribute_rows(predictions), ATTRIBUTE_COLUMNS)
        lines.append(f"{ATTRIBUTE_FILE}: {len(predictions)} files")
    return lines


def attribute_rows(predictions: EmotionTable) -> Iterator[Row]:
    """Return the rows of task 2, clipped to the scale."""
    ratings = to_rating(predictions.attributes)
    order = [predictions.attribute_names.index(name) for name in _ATTRIBUTES]
    for name, row in zip(predictions.ids, ratings, strict=True):
        yield {"FileName": name, **dict(zip(ATTRIBUTE_COLUMNS[1:], row[order].tolist(), strict=True))}


def submission_defects(path: Path, file_names: Collection[str] | None = None) -> list[str]:
    """Say what is wrong with a submission file, one line each; empty if nothing.

    Args:
        path: the file; its header tells the task.
        file_names: the files that must be there, each once; None = any.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no submission {path}")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    columns = tuple(header)
    if columns not in (CATEGORY_COLUMNS, ATTRIBUTE_COLUMNS):
        expected = " or ".join(",".join(known) for known in (CATEGORY_COLUMNS, ATTRIBUTE_COLUMNS))
        return [f"{path.name}: the columns are {','.join(columns) or 'missing'}, expected {expected}"]
    defects = list(_row_defects(columns, rows))
    return defects + _coverage_defects([row[0] for row in rows if row], file_names)


def _row_defects(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            yield f"row {number}: {len(row)} fields, expected {len(columns)}"
        elif columns == CATEGORY_COLUMNS:
            if row[1] not in LETTERS:
                yield f"row {number} ({row[0]}): EmoClass {row[1]!r} is none of {', '.join(LETTERS)}"
        else:
            named = zip(columns[1:], row[1:], strict=True)
            yield from (
                f"row {number} ({row[0]}): {name} {text!r} is no number from 1 to 7"
                for name, text in named
                if not _is_rating(text)
            )


def _coverage_defects(found: Sequence[str], wanted: Collection[str] | None) -> list[str]:
    defects = []
    repeated = sorted(name for name, times in Counter(found).items() if times > 1)
    if repeated:
        defects.append(f"{len(repeated)} files more than once: {_some(repeated)}")
    if wanted is not None:
        for text, names in (
            ("missing", set(wanted) - set(found)),
            ("that do not belong there", set(found) - set(wanted)),
        ):
            if names:
                defects.append(f"{len(names)} files {text}: {_some(sorted(names))}")
    elif not found:
        defects.append("no rows")
    return defects


def _is_rating(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and 1 <= value <= 7


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
