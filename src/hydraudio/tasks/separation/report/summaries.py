"""Per-item rows of separation and enhancement, and their summaries per variant and per slice.

A row is a dict with the columns of `item_columns`. SI-SDR in dB, PESQ as MOS-LQO, STOI in [0, 1]; each is the
mean over sources.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hydraudio.report.slices import Slice
from hydraudio.report.tables import (
    Cell,
    Row,
    TableData,
    TableRow,
    change_cell,
    floats,
    interval_cell,
    interval_entries,
    is_number,
    number,
)
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.intervals import Interval, bootstrap_macro_mean, bootstrap_mean

METADATA = (
    *("indoor", "ssr_db", "scene_db", "event_db", "noise_db"),
    *("scene_class", "event_class", "sexes", "talkers"),
)
TEXT_COLUMNS = ("id", "variant", "scene_class", "event_class", "sexes", "talkers", "permutation", "error")
SI_SDR = ("si_sdr_mixture", "si_sdr", "si_sdri")
Perceptual = Literal["pesq", "stoi"]
PERCEPTUAL: tuple[Perceptual, ...] = ("pesq", "stoi")
DIGITS = {"pesq": 2, "stoi": 3}
VARIANT_ORDER = ("SER", "SR", "ER", "R", "SE", "S", "E", "C")

_SSR_EDGES_DB = (-3.0, -1.0, 1.0, 3.0)
_SCENE_EDGES_DB = (-10.5, -7.0, -3.5)  # quarters of the corpus's range of -14 to 0 dB
_EVENT_EDGES_DB = (-20.0, -10.0, 0.0, 10.0)
_NOISE_EDGES_DB = (-10.0, -5.0, 0.0)


@dataclass(frozen=True)
class Summary:
    """Means of rows. kind: "variant", "degenerate", "macro" (mean of variants) or "micro" (mean of items)."""

    kind: str
    name: str
    n_items: int
    scores: Mapping[str, Interval]


def item_columns(n_sources: int, perceptual: Sequence[str] = PERCEPTUAL) -> list[str]:
    """Return the columns of items.csv.

    Args:
        n_sources: targets of an item.
        perceptual: those of PESQ and STOI that are computed.
    """
    columns = ["id", "variant", "degenerate", *METADATA, "permutation"]
    for metric in (*SI_SDR, *_with_mixture(perceptual)):
        columns.append(metric)
        if n_sources > 1:
            columns += [f"{metric}_{source + 1}" for source in range(n_sources)]
    return [*columns, "error"]


def _with_mixture(perceptual: Sequence[str]) -> list[str]:
    return [column for metric in perceptual for column in (f"{metric}_mixture", metric)]


def set_scores(row: Row, metric: str, per_source: Sequence[float]) -> None:
    """Enters a metric: its mean over sources and, for several sources, each one (numbered from 1)."""
    values = [float(value) for value in per_source]
    row[metric] = statistics.fmean(values)
    if len(values) > 1:
        row.update({f"{metric}_{source}": value for source, value in enumerate(values, start=1)})


def unique_items(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """Return one row per (id, variant), in a fixed order, and how many repetitions were left out.

    Repetitions come from samplers that even out the processes, or from a corpus that lists an item twice.
    """
    rows = list(rows)
    kept = {(row["variant"], row["id"]): row for row in reversed(rows)}
    ordered = sorted(kept.values(), key=lambda row: (variant_key(str(row["variant"])), str(row["id"])))
    return ordered, len(rows) - len(ordered)


def variant_key(name: str) -> tuple[int, str]:
    """Return the sorting key: the known variants from most to least disturbed, then others by name."""
    known = VARIANT_ORDER.index(name) if name in VARIANT_ORDER else len(VARIANT_ORDER)
    return known, name


def summarise(rows: Sequence[Row], bootstrap: Bootstrap) -> list[Summary]:
    """Return one summary per variant, then macro and micro over them, then the degenerate variants apart."""
    usual = [row for row in rows if not row["degenerate"]]
    degenerate = [row for row in rows if row["degenerate"]]
    summaries = [_summary("variant", name, group, bootstrap) for name, group in _by_variant(usual)]
    if summaries:
        summaries.append(_macro(usual, bootstrap))
        summaries.append(_summary("micro", "mean of items", usual, bootstrap))
    return summaries + [_degenerate(name, group, bootstrap) for name, group in _by_variant(degenerate)]


def slices(rows: Sequence[Row], bootstrap: Bootstrap) -> list[Slice]:
    """Return the means over indoor/outdoor, levels and classes; degenerate items are left out.

    Scene properties are taken over variants that keep the scene (S), event properties over those that keep
    the event (E).
    """
    usual = [row for row in rows if not row["degenerate"]]
    found = []
    for title, column, letter, label in _SLICES:
        groups: dict[tuple[float, str], list[Row]] = {}
        for row in usual:
            value = row.get(column)
            if value is not None and value == value and letter in str(row["variant"]):
                groups.setdefault(label(value), []).append(row)
        for (_, text), group in sorted(groups.items()):
            found.append(Slice(title, text, len(group), _scores(group, ("si_sdr", "si_sdri"), bootstrap)))
    return found


def problems(rows: Iterable[Row]) -> list[str]:
    """Return one line per item that could not be scored completely."""
    return [f"{row['variant']} {row['id']}: {row['error']}" for row in rows if row.get("error")]


def summary_table(summaries: Sequence[Summary]) -> TableData:
    """Return the main table: one line per variant, totals below; degenerate variants are not in it."""
    perceptual = [name for name in PERCEPTUAL if any(name in summary.scores for summary in summaries)]
    columns = ["Variant", "Items", "SI-SDR\nmixture", "SI-SDR\nestimate", "Improvement"]
    columns += [name.upper() for name in perceptual]
    shown = [summary for summary in summaries if summary.kind != "degenerate"]
    return TableData(tuple(columns), tuple(_summary_row(summary, perceptual) for summary in shown))


def degenerate_line(summary: Summary) -> str:
    """Say what is said about a variant whose input equals its target."""
    estimate = summary.scores["si_sdr"]
    return (
        f"{summary.name} ({summary.n_items} items): SI-SDR of the estimate {number(estimate.mean)} dB "
        f"({number(estimate.low)} … {number(estimate.high)}). "
        "The input already is the target: reported apart, not averaged."
    )


def summary_rows(summaries: Sequence[Summary]) -> list[Row]:
    """Return the rows of variants.csv."""
    return [
        {"kind": s.kind, "variant": s.name, "n_items": s.n_items, **interval_entries(s.scores, with_n=True)}
        for s in summaries
    ]


def _by_variant(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    names = sorted({str(row["variant"]) for row in rows}, key=variant_key)
    return [(name, [row for row in rows if row["variant"] == name]) for name in names]


def _metrics_in(rows: Sequence[Row]) -> list[str]:
    return [metric for metric in (*SI_SDR, *_with_mixture(PERCEPTUAL)) if any(metric in row for row in rows)]


def _scores(rows: Sequence[Row], metrics: Sequence[str], bootstrap: Bootstrap) -> dict[str, Interval]:
    ids = [str(row["id"]) for row in rows]
    return {metric: bootstrap_mean(floats(rows, metric), ids, **bootstrap.settings) for metric in metrics}


def _summary(kind: str, name: str, rows: Sequence[Row], bootstrap: Bootstrap) -> Summary:
    return Summary(kind, name, len(rows), _scores(rows, _metrics_in(rows), bootstrap))


def _degenerate(name: str, rows: Sequence[Row], bootstrap: Bootstrap) -> Summary:
    return Summary("degenerate", name, len(rows), _scores(rows, ("si_sdr",), bootstrap))


def _macro(rows: Sequence[Row], bootstrap: Bootstrap) -> Summary:
    variants, ids = [str(row["variant"]) for row in rows], [str(row["id"]) for row in rows]
    scores = {
        metric: bootstrap_macro_mean(floats(rows, metric), variants, ids, **bootstrap.settings)
        for metric in _metrics_in(rows)
    }
    return Summary("macro", "mean of variants", len(rows), scores)


def _summary_row(summary: Summary, perceptual: Sequence[str]) -> TableRow:
    scores = summary.scores
    cells = [Cell(summary.name), Cell(str(summary.n_items)), *(interval_cell(scores[m]) for m in SI_SDR)]
    cells += [change_cell(scores[f"{m}_mixture"], scores[m], digits=DIGITS[m]) for m in perceptual]
    return TableRow(tuple(cells), "" if summary.kind == "variant" else "total")


def _yes_no(value: object) -> tuple[float, str]:
    return (0.0, "indoor") if value else (1.0, "outdoor")


def _class(value: object) -> tuple[float, str]:
    return 0.0, str(value)


def _level(edges_db: Sequence[float]) -> Callable[[object], tuple[float, str]]:
    """Labels a level in dB with the bin between edges that it falls into (lower edge included)."""

    def label(value: object) -> tuple[float, str]:
        if not is_number(value):
            return float(len(edges_db) + 1), "not a finite level"
        index = sum(edge <= float(value) for edge in edges_db)
        if index == 0:
            return 0.0, f"below {_db(edges_db[0])} dB"
        if index == len(edges_db):
            return float(index), f"{_db(edges_db[-1])} dB and above"
        return float(index), f"{_db(edges_db[index - 1])} to {_db(edges_db[index])} dB"

    return label


def _db(level: float) -> str:
    return number(level, 0 if level == int(level) else 1)


# (title, column, letter that the variant must contain, label with its sorting key)
_SLICES: tuple[tuple[str, str, str, Callable[[object], tuple[float, str]]], ...] = (
    ("Place", "indoor", "", _yes_no),
    ("Speech-to-speech ratio", "ssr_db", "", _level(_SSR_EDGES_DB)),
    ("Scene level", "scene_db", "S", _level(_SCENE_EDGES_DB)),
    ("Event level", "event_db", "E", _level(_EVENT_EDGES_DB)),
    ("Noise level", "noise_db", "", _level(_NOISE_EDGES_DB)),
    ("Sex of the talkers", "sexes", "", _class),
    ("Scene class", "scene_class", "S", _class),
    ("Event class", "event_class", "E", _class),
)
