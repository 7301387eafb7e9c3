"""Slices of a test: the items that share a property, with their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydraudio.report.tables import Cell, Row, TableData, TableRow, count, interval_cell, interval_entries
from hydraudio.stats.intervals import Interval

_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Slice:
    """Scores of the items that share a property, such as `indoor = yes`; `suppressed` says why there are none."""

    name: str
    value: str
    n_items: int
    scores: Mapping[str, Interval]
    suppressed: str = ""


def slice_tables(found: Sequence[Slice], titles: Mapping[str, str], digits: int) -> dict[str, TableData]:
    """Return one table per property; titles: of the metrics that it shows, by name."""
    groups: dict[str, list[TableRow]] = {}
    for one in found:
        cells = [Cell("") if one.suppressed else interval_cell(one.scores.get(m, _NOTHING), digits) for m in titles]
        row = TableRow((Cell(one.value, one.suppressed), Cell(count(one.n_items)), *cells))
        groups.setdefault(one.name, []).append(row)
    return {name: TableData(("", "Items", *titles.values()), tuple(rows)) for name, rows in groups.items()}


def slice_rows(found: Sequence[Slice]) -> list[Row]:
    """Return the rows of slices.csv; slices that were suppressed say why."""
    return [
        {"slice": s.name, "value": s.value, "n": s.n_items, "suppressed": s.suppressed}
        | interval_entries(s.scores, with_n=True)
        for s in found
    ]
