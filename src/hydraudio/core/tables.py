"""Reading the tables of corpora (CSV, JSON): what is wrong becomes a defect that names the file and the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydraudio.core.defects import Defect
from hydraudio.core.files import other_separator


def read_header(path: Path) -> tuple[list[str], list[Defect]]:
    """Read the column names of a CSV (without spaces around them) and what is wrong with them."""
    if not path.is_file():
        return [], [_no_file(path)]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = [name.strip() for name in next(csv.reader(file), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [_unreadable(path, error)]
    if not header:
        return [], [Defect("empty_csv", f"{path}: is empty; copy it from the corpus again")]
    separator = other_separator(header)
    if separator:
        return [], [Defect("bad_csv", f"{path}: is separated by {separator}, not by commas; save it again as CSV")]
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    return header, [Defect("bad_csv", f"{path}: column {name} occurs twice; remove one") for name in repeated]


def read_table(path: Path, required: Sequence[str], defects: list[Defect]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, column -> cell without spaces around it) of every sound row of a CSV; skip blank lines.

    Args:
        required: columns; where the header lacks one, or is wrong otherwise, there are no rows.
        defects: what is wrong with the header, rows with too few or too many cells, and undecodable bytes are appended
            here.
    """
    header, found = read_header(path)
    remedy = f"the table has {', '.join(header)} and needs {', '.join(required)}"
    found = found or [
        Defect("missing_column", f"{path}: column {name} is missing; {remedy}")
        for name in required
        if name not in header
    ]
    defects += found
    if found:
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            for cells in reader:
                if len(cells) == len(header):
                    yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                elif cells:
                    message = (
                        f"{path}: line {reader.line_num}: has {len(cells)} cells, the header has {len(header)}; "
                        "a comma or a quote is missing or too many, or the file is cut off"
                    )
                    defects.append(Defect("bad_csv", message))
    except (UnicodeDecodeError, csv.Error) as error:
        defects.append(_unreadable(path, error))


def read_json(path: Path) -> tuple[dict[str, Any], list[Defect]]:
    """Read the object of a JSON file, and what is wrong with it (keys that occur twice included)."""
    if not path.is_file():
        return {}, [_no_file(path)]
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in entries if keys.count(key) > 1)
        return entries

    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=collect)
    except UnicodeDecodeError as error:
        return {}, [_unreadable(path, error)]
    except json.JSONDecodeError as error:
        message = f"{path}: line {error.lineno}: not valid JSON ({error.msg}); the file may be cut off, copy it again"
        return {}, [Defect("bad_json", message)]
    if not isinstance(content, dict):
        return {}, [Defect("bad_json", f"{path}: holds a {type(content).__name__}; expected {{file name: labels}}")]
    return content, [
        Defect("duplicate_row", f"{path}: entry {key!r} occurs twice; keep one of them") for key in repeated
    ]


def find_file(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """Find the first of the names that lies in the first of the folders (below the root) that has any."""
    paths = (root / folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def _no_file(path: Path) -> Defect:
    """Name what cannot be opened, or would keep the reader waiting for ever."""
    what = "a folder, a pipe or a device, where a file is needed" if path.exists() else "no such file"
    return Defect("missing_csv", f"{path}: {what}; copy the file from the corpus again")


def _unreadable(path: Path, error: Exception) -> Defect:
    if isinstance(error, UnicodeDecodeError):
        return Defect("bad_csv", f"{path}: not UTF-8 ({error}); save the file again as UTF-8")
    return Defect("bad_csv", f"{path}: not readable as CSV ({error}); copy the file again")
