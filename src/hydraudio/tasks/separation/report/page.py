"""What the page of a separation or enhancement test (page.html) shows, and items to look at and listen to."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from hydraudio.report.charts import Chart, Series, interval_chart
from hydraudio.report.media import Packed, common_gain, level_gain, signals
from hydraudio.report.page import render
from hydraudio.report.results import Group, Results
from hydraudio.report.slices import Slice, slice_tables
from hydraudio.report.tables import Cell, Row, TableData, change_cell, floats, interval_cell, is_number, number
from hydraudio.stats.intervals import Interval
from hydraudio.tasks.separation.report.summaries import (
    DIGITS,
    PERCEPTUAL,
    Summary,
    degenerate_line,
    problems,
    summary_table,
)

MAX_SCATTER_POINTS = 1000
_METRICS = (("si_sdr", "SI-SDR", 2, " dB"), ("si_sdri", "improvement", 2, " dB"), ("pesq", "PESQ", 2, ""))
_STOI = ("stoi", "STOI", 3, "")


@dataclass(frozen=True)
class Example:
    """Signals of one item of a variant: mixture (time,), targets and estimates (n_sources, time)."""

    group: str
    item_id: str
    score: float
    mixture: Packed
    targets: Packed
    estimates: Packed


@dataclass(frozen=True, kw_only=True)
class SeparationResults(Results[Example]):
    """Everything that the page shows. rows: unique items."""

    rows: Sequence[Row]
    summaries: Sequence[Summary]
    slices: Sequence[Slice]

    def groups(self) -> list[Group]:
        variants = [s.name for s in self.summaries if s.kind == "variant"]
        scores = {name: floats([row for row in self.rows if row["variant"] == name], "si_sdri") for name in variants}
        return [Group(name, name, scores[name], self.examples.n_examples) for name in variants]

    def card(self, kind: str, example: Example, is_open: bool) -> Markup:
        row = next(r for r in self.rows if (r["variant"], r["id"]) == (example.group, example.item_id))
        improvement = row["si_sdri"]
        sign = "+" if is_number(improvement) and improvement > 0 else ""
        heard, level_text = _levelled(example)
        shown = [
            dataclasses.replace(signal, scores=tuple(_scores(columns, row)))
            for signal, columns in zip(
                signals([(title, waveform) for title, waveform, _ in heard], self.sample_rate),
                [columns for *_, columns in heard],
                strict=True,
            )
        ]
        about = (" · ".join(_description(row)), level_text)
        heading = f"{sign}{number(improvement, 1)} dB"
        return render(f"{__package__}/page.html", "item", kind, heading, example.item_id, about, shown, is_open)

    @property
    def headlines(self) -> list[tuple[str, Cell]]:
        """The means over variants."""
        macro = next((s.scores for s in self.summaries if s.kind == "macro"), None)
        if macro is None:
            return []
        cells = [
            ("SI-SDR improvement, dB", interval_cell(macro["si_sdri"])),
            ("SI-SDR, mixture → estimate, dB", _without_note(macro, "si_sdr")),
        ]
        perceptual = [name for name in PERCEPTUAL if name in macro]
        return cells + [
            (f"{name.upper()}, mixture → estimate", _without_note(macro, name, digits=DIGITS[name]))
            for name in perceptual
        ]

    @property
    def summary_table(self) -> TableData:
        return summary_table(self.summaries)

    @property
    def degenerate_lines(self) -> list[str]:
        return [degenerate_line(s) for s in self.summaries if s.kind == "degenerate"]

    def improvement_chart(self) -> Chart:
        """Of every variant and on average."""
        shown = [s for s in self.summaries if s.kind in ("variant", "macro", "micro")]
        totals = [s.name for s in shown if s.kind != "variant"]
        intervals = [s.scores["si_sdri"] for s in shown]
        return interval_chart([s.name for s in shown], intervals, "SI-SDR improvement / dB", totals)

    @functools.cached_property
    def usual(self) -> list[Row]:
        return [row for row in self.rows if not row["degenerate"]]

    @property
    def stride(self) -> int:
        return -(-len(self.usual) // MAX_SCATTER_POINTS) or 1

    @property
    def before_and_after(self) -> list[Series]:
        """SI-SDR of mixture and estimate, one colour per variant."""
        groups: dict[str, list[Row]] = {}
        for row in self.usual[:: self.stride]:
            groups.setdefault(str(row["variant"]), []).append(row)
        return [Series(n, floats(g, "si_sdr_mixture"), floats(g, "si_sdr")) for n, g in groups.items()]

    @property
    def slice_tables(self) -> dict[str, TableData]:
        return slice_tables(self.slices, {"si_sdr": "SI-SDR\nestimate", "si_sdri": "Improvement"}, digits=2)

    @property
    def problems(self) -> list[str]:
        return problems(self.rows)


def _without_note(scores: Mapping[str, Interval], metric: str, digits: int = 2) -> Cell:
    return Cell(change_cell(scores[f"{metric}_mixture"], scores[metric], digits).text, "mean of variants")


Heard = tuple[str, np.ndarray, Mapping[str, str]]
"""Title, waveform (time,) and the columns of its scores by metric."""


def _levelled(example: Example) -> tuple[list[Heard], str]:
    """All signals of the item at playback level, and what was done to them.

    SI-SDR does not see an estimate's level, so estimates first get their target's RMS; then one gain goes
    over everything.
    """
    mixture, targets, raw = (part.waveform for part in (example.mixture, example.targets, example.estimates))
    gains = [level_gain(e, t) for e, t in zip(raw, targets, strict=True)]
    estimates = [gain * estimate for gain, estimate in zip(gains, raw, strict=True)]
    gain = common_gain([mixture, *targets, *estimates])
    levelled = [(title, gain * signal, columns) for title, signal, columns in _signals(mixture, targets, estimates)]
    matched = " and ".join(_gain_text(each) for each in gains)
    text = f"Playback: {_gain_text(gain)} for all signals, estimates first at their target's level ({matched})."
    return levelled, text


def _signals(mixture: np.ndarray, targets: np.ndarray, estimates: list[np.ndarray]) -> Iterator[Heard]:
    several = len(estimates) > 1
    yield "Mixture", mixture, {name: f"{name}_mixture" for name in ("si_sdr", "pesq", "stoi")}
    for source, (target, estimate) in enumerate(zip(targets, estimates, strict=True), start=1):
        end, number_text = (f"_{source}", f" {source}") if several else ("", "")
        yield f"Target{number_text}", target, {}
        columns = {name: f"{name}{end}" for name in ("si_sdr", "si_sdri", "pesq", "stoi")}
        yield f"Estimate{number_text}", estimate, columns


def _scores(columns: Mapping[str, str], row: Row) -> Iterator[tuple[str, str, str]]:
    for metric, name, digits, unit in (*_METRICS, _STOI):
        value = row.get(columns.get(metric, ""))
        if is_number(value):
            yield name, number(value, digits), unit


def _description(row: Row) -> Iterator[str]:
    if row.get("indoor") is not None:
        yield "indoor" if row["indoor"] else "outdoor"
    if is_number(row.get("ssr_db")):
        yield f"SSR {number(row['ssr_db'], 0)} dB"
    if row.get("sexes"):
        yield f"talkers: {row['sexes']}"
    for name in ("scene", "event", "noise"):
        level, kind = row.get(f"{name}_db"), row.get(f"{name}_class")
        words = [str(kind).replace("_", " ")] if kind else []
        words += [f"{number(level, 1)} dB"] if is_number(level) else []
        if words:
            yield f"{name}: {', '.join(words)}"


def _gain_text(gain: float) -> str:
    decibel = 20 * math.log10(gain)
    return f"{'+' if decibel > 0.05 else ''}{number(decibel, 1)} dB"
