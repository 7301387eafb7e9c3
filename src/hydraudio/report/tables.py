"""Tables of scores: CSV files, number formats, and one description of columns for terminal and HTML."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from rich import box
from rich.table import Table
from rich.text import Text

from hydraudio.core import files
from hydraudio.stats.intervals import Interval

Row = dict[str, object]

EN_DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place: a main text and a smaller one below it (the interval)."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class TableRow:
    """Cells of one row; the first is its label. `kind` is "" or "total" (a summary row, set apart)."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class TableData:
    """A table as both outputs need it; the first column holds labels, all others numbers.

    A line feed in a column's name is a good place to break it.
    """

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str] = ()) -> Path:
    """Write rows, atomically; missing and NaN entries stay empty, and no cell begins a formula.

    Without columns: all that any row has.
    """
    if not columns:
        rows = list(rows)
        columns = list(dict.fromkeys(column for row in rows for column in row))
    header = list(map(files.inert_cell, columns))
    return files.write_csv(path, header, ([_csv_field(row.get(column)) for column in columns] for row in rows))


def read_csv(path: str | Path, text_columns: Collection[str] = (), *, growing: bool = False) -> list[Row]:
    """Return the rows of a CSV file; empty fields become None.

    Outside text_columns, fields that are numbers become floats, True and False booleans. `growing` says that a program
    may be appending to the file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no table {path}; evaluate the checkpoint first to write it")
    rows = [
        {files.cell_text(key): files.cell_text(value) for key, value in row.items()}
        for row in files.read_csv(path, growing=growing)
    ]
    return [{key: v or None if key in text_columns else _parse(v) for key, v in row.items()} for row in rows]


def number(value: object, digits: int = 2) -> str:
    """Fixed-point text with a true minus sign; an en dash for what is missing."""
    if not is_number(value):
        return EN_DASH
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def count(value: int) -> str:
    """Whole number with thin spaces between groups of three."""
    return f"{value:,}".replace(",", "\u2009")


def interval_cell(interval: Interval, digits: int = 2) -> Cell:
    """Return the mean with its interval as the note."""
    return Cell(number(interval.mean, digits), interval_note(interval, digits))


def change_cell(before: Interval, after: Interval, digits: int = 2) -> Cell:
    """Return `before → after` of two means, with the interval of the latter as the note."""
    text = f"{number(before.mean, digits)} → {number(after.mean, digits)}"
    return Cell(text, interval_note(after, digits))


def interval_note(interval: Interval, digits: int) -> str:
    """Return `low … high`, empty where there is no interval."""
    if not is_number(interval.low):
        return ""
    return f"{number(interval.low, digits)} … {number(interval.high, digits)}"


def interval_entries(scores: Mapping[str, Interval], with_n: bool = False) -> Row:
    """Entries of a CSV row: mean, `_low` and `_high` of each score and, if wanted, `_n`, its number of items."""
    row: Row = {}
    for name, interval in scores.items():
        row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        if with_n:
            row[f"{name}_n"] = interval.n
    return row


def p_value_cell(p_value: float) -> Cell:
    """Three decimals; values too small for them by their bound."""
    small = is_number(p_value) and p_value < 0.001
    return Cell("< 0.001" if small else number(p_value, 3))


def is_number(value: object) -> TypeGuard[float]:
    """True for finite numbers (booleans are none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def floats(rows: Iterable[Mapping[str, object]], column: str) -> list[float]:
    """Return one column as floats; NaN where it is missing."""
    values = (row.get(column) for row in rows)
    return [float(value) if isinstance(value, (int, float)) else math.nan for value in values]


def rich_table(title: str, data: TableData) -> Table:
    """Return the table for the terminal, dense enough for 80 columns."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, column in enumerate(data.columns):
        if index == 0:
            table.add_column(Text(column), overflow="fold")
        else:
            table.add_column(Text(column), justify="right", no_wrap=True)
    previous = ""
    for row in data.rows:
        if row.kind != previous:
            table.add_section()
        previous = row.kind
        table.add_row(*[_rich_cell(cell) for cell in row.cells], style="bold" if row.kind else None)
    return table


def _rich_cell(cell: Cell) -> Text:
    text = Text(cell.text.replace(" → ", "→"))
    if cell.note:
        text.append("\n" + cell.note.replace(" … ", "…"), style="not bold dim")
    return text


def _csv_field(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else files.inert_cell(value) if isinstance(value, str) else value


def _parse(value: str) -> object:
    if value == "":
        return None
    if value in ("True", "False"):
        return value == "True"
    try:
        return float(value)
    except ValueError:
        return value
