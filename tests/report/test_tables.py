"""CSV round trip and number formats."""

import math
from pathlib import Path

import pytest
from rich.console import Console

from hydraudio.report.tables import (
    EN_DASH,
    Cell,
    TableData,
    TableRow,
    change_cell,
    floats,
    interval_cell,
    interval_entries,
    number,
    p_value_cell,
    read_csv,
    rich_table,
    write_csv,
)
from hydraudio.stats.intervals import Interval


def test_csv_round_trip(tmp_path: Path) -> None:
    rows = [
        {"id": "0017", "x": 1.25, "ok": True, "gap": math.nan},
        {"id": 'a,"b"\nc', "x": -3.0, "ok": False, "gap": None},
    ]
    path = write_csv(tmp_path / "t.csv", rows, ["id", "x", "ok", "gap"])
    assert read_csv(path, text_columns=["id"]) == [{**row, "gap": None} for row in rows]
    assert read_csv(path)[0]["id"] == 17.0
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_without_columns_a_table_has_all_that_a_row_has(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [{"a": 1, "b": 2}, {"a": 3, "c": 4}])
    assert path.read_text() == "a,b,c\n1,2,\n3,,4\n"


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"items\.csv"):
        read_csv(tmp_path / "items.csv")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.005, "1.00"), (-2.5, "\N{MINUS SIGN}2.50"), (-0.001, "0.00"), (math.nan, "\N{EN DASH}"), (None, "\N{EN DASH}")],
)
def test_number(value: object, text: str) -> None:
    assert number(value) == text


def test_cells() -> None:
    assert interval_cell(Interval(1.0, 0.5, 1.5, 9)) == Cell("1.00", "0.50 … 1.50")
    assert interval_cell(Interval(1.0, math.nan, math.nan, 1)) == Cell("1.00", "")
    before, after = Interval(1.0, 0.5, 1.5, 9), Interval(2.0, 1.9, 2.1, 9)
    assert change_cell(before, after, 1) == Cell("1.0 → 2.0", "1.9 … 2.1")


def test_floats_has_nan_where_nothing_is() -> None:
    values = floats([{"x": 2}, {}, {"x": None}], "x")
    assert values[0] == 2.0
    assert all(math.isnan(value) for value in values[1:])


def test_the_terminal_shows_markup_as_text() -> None:
    data = TableData(("Name", "x"), (TableRow((Cell("[red]evil[/red]"), Cell("1", "0 … 2")), "total"),))
    console = Console(record=True, width=60, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table("[bold]t", data))
    text = console.export_text()
    assert "[red]evil[/red]" in text
    assert "0…2" in text


def test_intervals_in_a_row_have_their_columns() -> None:
    scores = {"a": Interval(2.0, 1.0, 3.0, 7)}
    assert interval_entries(scores) == {"a": 2.0, "a_low": 1.0, "a_high": 3.0}
    assert interval_entries(scores, with_n=True) == {"a": 2.0, "a_low": 1.0, "a_high": 3.0, "a_n": 7}


@pytest.mark.parametrize(
    ("p_value", "text"), [(0.0004, "< 0.001"), (0.001, "0.001"), (0.25, "0.250"), (math.nan, EN_DASH)]
)
def test_small_p_values_are_bounded(p_value: float, text: str) -> None:
    assert p_value_cell(p_value).text == text


def test_names_that_look_like_formulas_are_inert_in_the_file_and_come_back(tmp_path: Path) -> None:
    rows = [{"=name": "=HYPERLINK(1)", "score": -1.5, "note": "-3"}, {"=name": "'@x", "score": 2.0, "note": "a"}]
    path = write_csv(tmp_path / "t.csv", rows, ["=name", "score", "note"])
    assert path.read_text() == "'=name,score,note\n'=HYPERLINK(1),-1.5,-3\n''@x,2,a\n"
    assert read_csv(path, ["=name"]) == [
        {"=name": "=HYPERLINK(1)", "score": -1.5, "note": -3.0},
        {"=name": "'@x", "score": 2.0, "note": "a"},
    ]
