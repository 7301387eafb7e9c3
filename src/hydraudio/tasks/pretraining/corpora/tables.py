"""Tables of clips: CSV, Parquet, the JSON of AST, and the manifests of fairseq.

Every reader gives rows of text under the table's own names; :func:`read_clips` finds out which column is what.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hydraudio.core.defects import Defect
from hydraudio.core.options import check_keys
from hydraudio.core.tables import read_header, read_table
from hydraudio.tasks.pretraining.corpora.clips import Clip

NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "filepath", "file_path", "filename", "file_name", "file", "wav", "audio"),
    "label": ("label", "class", "target", "category", "labels"),
    "start": ("start", "start_s", "onset"),
    "duration": ("duration", "duration_s"),
    "end": ("end", "end_s", "offset"),
    "split": ("split", "subset", "partition"),
    "fold": ("fold",),
    "group": ("group", "source", "src_file", "recording"),
    "latitude": ("lat", "latitude"),
    "longitude": ("lon", "long", "longitude"),
}
"""What a column may mean -> names under which it is found, the first one that there is; letters of either case."""

_RANGES = {"latitude": 90.0, "longitude": 180.0}


class Row(NamedTuple):
    """One row: where it stands, for messages, and column -> cell."""

    where: str
    cells: Mapping[str, str]


class Table(NamedTuple):
    """A table as it was read.

    Attributes:
        rows: that could be read.
        columns: names of all of them.
        folder: that relative paths begin at; None where the table does not say it.
        defects: of the file itself.
    """

    rows: list[Row]
    columns: list[str]
    folder: Path | None
    defects: list[Defect]


def read_any(path: Path) -> Table:
    """Read a table by its ending: .csv, .parquet, .json (AST) or .tsv (fairseq, with an .lbl beside it if labelled)."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".json": _read_json, ".tsv": _read_manifest}
    if path.suffix.lower() not in readers:
        message = f"{path}: is no table; use one that ends with {', '.join(readers)}"
        return Table([], [], None, [Defect("bad_table", message)])
    if not path.is_file():
        return Table([], [], None, [Defect("missing_csv", f"{path}: no such table; check data.table")])
    return readers[path.suffix.lower()](path)


def _read_csv(path: Path) -> Table:
    columns, _ = read_header(path)
    defects: list[Defect] = []
    rows = [Row(f"{path}: line {line}", cells) for line, cells in read_table(path, (), defects)]
    return Table(rows, columns, None, defects)


def _read_parquet(path: Path) -> Table:
    if importlib.util.find_spec("pyarrow") is None:
        message = f"{path}: Parquet is read by pyarrow, which is not installed; pip install pyarrow, or write a CSV"
        return Table([], [], None, [Defect("bad_table", message)])
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        return Table([], [], None, [Defect("bad_table", f"{path}: not readable as Parquet ({error}); write it again")])
    rows = [
        Row(f"{path}: row {number}", {str(name): _text(value) for name, value in cells.items()})
        for number, cells in enumerate(table.to_pylist(), start=1)
    ]
    return Table(rows, list(table.column_names), None, [])


def _text(value: object) -> str:
    """A cell as a CSV would have it; a list of labels is separated by commas."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_json(path: Path) -> Table:
    """{"data": [{"wav": path, "labels": "id,id"}, ...]}"""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        items = content["data"]
        rows = [
            Row(f"{path}: item {number}", {str(name): _text(value) for name, value in item.items()})
            for number, item in enumerate(items, start=1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f'{path}: not of the form {{"data": [{{"wav": ..., "labels": ...}}, ...]}} ({error!r}); write it again'
        )
        return Table([], [], None, [Defect("bad_table", message)])
    return Table(rows, list(dict.fromkeys(name for row in rows for name in row.cells)), None, [])


def _read_manifest(path: Path) -> Table:
    """First line: folder; then `relative path<TAB>samples`. The last field of a line of the .lbl is the label."""
    try:
        folder, *lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, ValueError) as error:
        return Table([], [], None, [Defect("bad_table", f"{path}: not readable ({error}); write it again")])
    rows, defects = [], []
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        if len(fields) == 2 and fields[1].strip().isdigit():
            rows.append(Row(f"{path}: line {number}", {"path": fields[0]}))
        else:
            message = (
                f"{path}: line {number}: is {line!r:.80}, expected relative path, tab, number of samples; correct it"
            )
            defects.append(Defect("bad_table", message))
    labels = path.with_suffix(".lbl")
    if not labels.is_file():
        return Table(rows, ["path"], Path(folder), defects)
    texts = labels.read_text(encoding="utf-8").splitlines()
    if len(texts) != len(lines):
        message = f"{labels}: has {len(texts)} lines, {path.name} names {len(lines)} files; write both again"
        return Table([], [], None, [*defects, Defect("bad_table", message)])
    labelled = [
        Row(row.where, {**row.cells, "label": text.split("\t")[-1]}) for row, text in zip(rows, texts, strict=False)
    ]
    return Table(labelled, ["path", "label"], Path(folder), defects)


@dataclass(frozen=True)
class Meaning:
    """How the columns of tables are to be understood.

    Attributes:
        column_mapping: what a column means (a key of `NAMES`) -> its name; the others are found by their names.
        folder: that relative paths begin at, where a table does not say it.
        names: label in the table -> name of the class and its place; empty where the labels name the classes.
        multilabel: a cell holds several labels, separated by commas or semicolons.
    """

    column_mapping: Mapping[str, str]
    folder: Path
    names: Mapping[str, str]
    multilabel: bool

    def __post_init__(self) -> None:
        check_keys("column_mapping.", self.column_mapping, list(NAMES))

    def columns(self, found: Sequence[str]) -> dict[str, str]:
        """Meaning -> column, of those that a table has.

        Raises:
            ValueError: a mapped column is not there.
        """
        lower = {name.lower(): name for name in reversed(found)}
        columns = {}
        for meaning, names in NAMES.items():
            if meaning in self.column_mapping:
                if self.column_mapping[meaning] not in found:
                    raise ValueError(
                        f"has no column {self.column_mapping[meaning]} (data.column_mapping.{meaning}); it has "
                        f"{', '.join(found)}"
                    )
                columns[meaning] = self.column_mapping[meaning]
            elif there := [lower[name] for name in names if name in lower]:
                columns[meaning] = there[0]
        if "path" not in columns:
            raise ValueError(
                f"no column is called {', '.join(NAMES['path'])}; it has {', '.join(found)}: say which one holds the "
                "paths with data.column_mapping.path"
            )
        return columns


@dataclass(frozen=True)
class LabelledClip:
    """A clip before its classes have numbers."""

    clip: Clip
    labels: tuple[str, ...]


def read_clips(table: Table, path: Path, meaning: Meaning, part: str = "") -> tuple[list[LabelledClip], list[Defect]]:
    """Turn rows into clips.

    Args:
        table: read from `path`.
        path: for messages.
        meaning: of the columns.
        part: of all clips, where a table is that of one split; empty takes the columns split or fold.
    """
    if not table.rows:
        empty = Defect("empty_csv", f"{path}: has no rows; write the table again")
        return [], table.defects or [empty]
    try:
        columns = meaning.columns(table.columns)
    except ValueError as error:
        return [], [*table.defects, Defect("missing_column", f"{path}: {error}")]
    clips, defects = [], list(table.defects)
    for row in table.rows:
        cells = {name: row.cells.get(column, "").strip() for name, column in columns.items()}
        try:
            clips.append(_make_clip(row.where, cells, meaning, table.folder or meaning.folder, part))
        except ValueError as error:
            defects.append(Defect("bad_row", f"{row.where}: {error}"))
    return clips, defects


def _make_clip(where: str, cells: Mapping[str, str], meaning: Meaning, folder: Path, part: str) -> LabelledClip:
    if not cells["path"]:
        raise ValueError("the path is empty; fill it in or remove the row")
    path = folder / cells["path"]
    start_s = _number(cells, "start") or 0.0
    duration_s, end_s = _number(cells, "duration"), _number(cells, "end")
    if duration_s is None and end_s is not None:
        duration_s = end_s - start_s
    if start_s < 0 or (duration_s is not None and duration_s <= 0):
        raise ValueError(
            f"start {start_s:g} s and duration {duration_s} s must be at least 0 and positive; correct them"
        )
    latitude, longitude = _number(cells, "latitude"), _number(cells, "longitude")
    if (latitude is None) != (longitude is None):
        raise ValueError("has one coordinate without the other; fill both in, or leave both empty")
    name = cells["path"] if "start" not in cells else f"{cells['path']}@{start_s:g}"
    clip = Clip(
        id=name,
        path=path,
        where=where,
        group=cells.get("group") or cells["path"],
        part=part or cells.get("split") or cells.get("fold", ""),
        start_s=start_s,
        duration_s=duration_s,
        latitude=math.nan if latitude is None else latitude,
        longitude=math.nan if longitude is None else longitude,
    )
    return LabelledClip(clip, _labels(cells.get("label", ""), meaning))


def _number(cells: Mapping[str, str], name: str) -> float | None:
    text = cells.get(name, "")
    if not text or text.lower() == "nan":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    limit = _RANGES.get(name, math.inf)
    if not math.isfinite(value) or abs(value) > limit:
        wanted = "a number" if limit == math.inf else f"a number from -{limit:g} to {limit:g}"
        raise ValueError(f"{name} is {text!r}, expected {wanted}; correct it or leave it empty")
    return value


def _labels(cell: str, meaning: Meaning) -> tuple[str, ...]:
    listed = cell.replace(";", ",").split(",") if meaning.multilabel else [cell]
    labels = list(dict.fromkeys(label.strip() for label in listed if label.strip()))
    if unknown := [label for label in labels if meaning.names and label not in meaning.names]:
        raise ValueError(
            f"label {unknown[0]!r} is not in the list of classes; correct it, or add it to data.class_table"
        )
    return tuple(meaning.names.get(label, label) for label in labels)


def read_class_table(path: Path) -> dict[str, str]:
    """Read AST's `class_labels_indices.csv` (index, mid, display_name): mid and index -> name, in order of the index.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or the indices do not count from 0.
    """
    defects: list[Defect] = []
    rows = [row for _, row in read_table(path, ("index", "mid", "display_name"), defects)]
    if defects:
        raise (FileNotFoundError if not path.is_file() else ValueError)(defects[0].message)
    if [row["index"] for row in rows] != [str(number) for number in range(len(rows))]:
        raise ValueError(
            f"{path}: the column index does not count from 0 to {len(rows) - 1}; sort or copy the table again"
        )
    names = {row["mid"]: row["display_name"] for row in rows}
    if len(set(names.values())) != len(rows):
        raise ValueError(f"{path}: a mid or a display_name occurs twice; keep one")
    return names | {row["index"]: row["display_name"] for row in rows}


def numbered(clips: Iterable[LabelledClip], names: Sequence[str]) -> list[Clip]:
    """Give every clip the indices of its classes."""
    index = {name: number for number, name in enumerate(names)}
    return [replace(each.clip, labels=tuple(sorted(index[label] for label in each.labels))) for each in clips]


def sorted_names(clips: Iterable[LabelledClip]) -> list[str]:
    """Return the classes that occur, in alphabetical order, or by value where all are numbers."""
    names = {label for each in clips for label in each.labels}
    return sorted(names, key=int) if all(name.isdigit() for name in names) else sorted(names)
