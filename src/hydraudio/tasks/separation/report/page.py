"""The page of a separation or enhancement test: its sections, and items to look at and listen to."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from hydraudio.audio.spectrogram import log_spectrogram_db
from hydraudio.report.charts import Series, interval_chart, scatter_chart
from hydraudio.report.media import common_gain, level_gain, player
from hydraudio.report.page import card, columns, grid, headlines, paragraph, problem_list, table
from hydraudio.report.results import Queued, Results
from hydraudio.report.slices import Slice
from hydraudio.report.tables import Cell, Row, change_cell, count, floats, interval_cell, is_number, number
from hydraudio.stats.intervals import Interval
from hydraudio.tasks.separation.report.summaries import (
    Summary,
    degenerate_line,
    problems,
    slice_tables,
    summary_table,
    variant_key,
)

MAX_SCATTER_POINTS = 1500
MAX_PROBLEMS = 50
_KINDS = ("worst", "best", "typical")
_METRICS = (("si_sdr", "SI-SDR", 2, " dB"), ("si_sdri", "improvement", 2, " dB"), ("pesq", "PESQ", 2, ""))
_STOI = ("stoi", "STOI", 3, "")


@dataclass(frozen=True)
class Example:
    """Signals of one item of a variant, float32: mixture (time,), targets and estimates (n_sources, time)."""

    group: str
    item_id: str
    score: float
    mixture: np.ndarray
    targets: np.ndarray
    estimates: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SeparationResults(Results[Example]):
    """Everything that the page shows. rows: unique items."""

    rows: Sequence[Row]
    summaries: Sequence[Summary]
    slices: Sequence[Slice]

    def queue(self) -> list[Queued]:
        """First the worst, best and typical of every variant, then the seconds."""
        by_key = {(row["variant"], row["id"]): row for row in self.rows}
        queue = []
        for place, variant in enumerate(s.name for s in self.summaries if s.kind == "variant"):
            scores = floats([row for row in self.rows if row["variant"] == variant], "si_sdri")
            for kind, examples in self.examples.choose(variant, scores).items():
                for rank, example in enumerate(examples):
                    row = by_key[variant, example.item_id]
                    make = functools.partial(item_card, kind, row, example, self.sample_rate)
                    queue.append(((rank, _KINDS.index(kind), place), (variant, make)))
        return [entry for _, entry in sorted(queue, key=lambda item: item[0])]

    def listening(self) -> dict[str, tuple[str, str]]:
        variants = sorted((s.name for s in self.summaries if s.kind == "variant"), key=variant_key)
        return {variant: (f"Listen: {variant}", "") for variant in variants}


def lead(results: SeparationResults) -> str:
    """The headlines."""
    macro = next((s.scores for s in results.summaries if s.kind == "macro"), None)
    if macro is None:
        return ""
    cells = [
        ("SI-SDR improvement, dB", interval_cell(macro["si_sdri"])),
        ("SI-SDR, mixture → estimate, dB", _without_note(macro, "si_sdr")),
    ]
    if "pesq" in macro:
        cells.append(("PESQ, mixture → estimate", _without_note(macro, "pesq")))
        cells.append(("STOI, mixture → estimate", _without_note(macro, "stoi", digits=3)))
    return headlines(cells)


def _without_note(scores: Mapping[str, Interval], metric: str, digits: int = 2) -> Cell:
    return Cell(change_cell(scores[f"{metric}_mixture"], scores[metric], digits).text, "mean of variants")


def summary(results: SeparationResults) -> str:
    """The table of variants."""
    parts = [table(summary_table(results.summaries))]
    parts += [paragraph(degenerate_line(s)) for s in results.summaries if s.kind == "degenerate"]
    parts.append(
        paragraph(
            "SI-SDR and improvement in dB. Small print: 95 % bootstrap intervals (for PESQ and STOI of the "
            "estimate); recordings are resampled whole, with all their variants. “Mean of variants” weighs "
            "every variant alike, “mean of items” every item."
        )
    )
    if results.n_repeated:
        parts.append(paragraph(f"{results.n_repeated} repetitions of the same item and variant were left out."))
    return card("".join(parts))


def charts(results: SeparationResults) -> str:
    """Improvement by variant, and before and after of every item."""
    shown = [s for s in results.summaries if s.kind in ("variant", "macro", "micro")]
    totals = [s.name for s in shown if s.kind != "variant"]
    chart = interval_chart(
        [s.name for s in shown], [s.scores["si_sdri"] for s in shown], "SI-SDR improvement / dB", totals
    )
    usual = [row for row in results.rows if not row["degenerate"]]
    stride = -(-len(usual) // MAX_SCATTER_POINTS) or 1
    scatter = scatter_chart(_by_variant(usual[::stride]), "SI-SDR of the mixture / dB", "SI-SDR of the estimate / dB")
    if stride > 1:
        scatter += paragraph(f"Every {stride}. of {count(len(usual))} items is drawn.")
    return grid([card(chart, "Improvement by variant"), card(scatter, "Before and after, per item")])


def _by_variant(rows: Sequence[Row]) -> list[Series]:
    names = list(dict.fromkeys(str(row["variant"]) for row in rows))
    groups = {name: [row for row in rows if row["variant"] == name] for name in names}
    return [Series(n, floats(g, "si_sdr_mixture"), floats(g, "si_sdr")) for n, g in groups.items()]


def slices(results: SeparationResults) -> str:
    """Tables by what the corpus says about its items."""
    tables = slice_tables(results.slices)
    if not tables:
        return paragraph("The corpus says nothing about its items by which they could be sorted.")
    return columns([card(table(data), name) for name, data in tables.items()])


def unscored(results: SeparationResults) -> str:
    """Items without a score, and why."""
    lines = problems(results.rows)
    if not lines:
        return paragraph(f"All {count(len(results.rows))} items were scored by all metrics.")
    left = [f"… and {len(lines) - MAX_PROBLEMS} more, see items.csv"] if len(lines) > MAX_PROBLEMS else []
    head = f"{len(lines)} of {len(results.rows)} items lack a score; means are over the scores that there are."
    return card(paragraph(head) + problem_list(lines[:MAX_PROBLEMS] + left))


@dataclass(frozen=True)
class _Signal:
    """A waveform (time,) with its heading and the columns of its scores, by name of the metric."""

    title: str
    waveform: np.ndarray
    columns: dict[str, str]


def item_card(kind: str, row: Row, example: Example, sample_rate: int) -> str:
    """Finished HTML of one item; kind is "best", "worst" or "typical"."""
    signals, level_text = _levelled(example)
    top_db = max(float(np.max(log_spectrogram_db(s.waveform, sample_rate))) for s in signals)
    parts = "".join(_signal(signal, row, sample_rate, top_db) for signal in signals)
    return (
        f'<div class="card item"><h3><span class="tag {escape(kind)}">{escape(kind)}</span>'
        f"{_improvement(row)}<code>{escape(example.item_id)}</code></h3>"
        f'<p class="chips">{escape(" · ".join(_description(row)))}</p>'
        f'<p class="chips">{escape(level_text)}</p>'
        f'<div class="signals">{parts}</div></div>'
    )


def _levelled(example: Example) -> tuple[list[_Signal], str]:
    """All signals of the item at playback level, and what was done to them.

    SI-SDR does not see an estimate's level, so estimates first get their target's RMS; then one gain goes
    over everything.
    """
    gains = [level_gain(e, t) for e, t in zip(example.estimates, example.targets, strict=True)]
    estimates = [gain * estimate for gain, estimate in zip(gains, example.estimates, strict=True)]
    gain = common_gain([example.mixture, *example.targets, *estimates])
    signals = list(_signals(example, estimates))
    levelled = [_Signal(s.title, gain * s.waveform, s.columns) for s in signals]
    matched = " and ".join(_gain_text(each) for each in gains)
    text = f"Playback: {_gain_text(gain)} for all signals, estimates first at their target's level ({matched})."
    return levelled, text


def _signals(example: Example, estimates: list[np.ndarray]) -> Iterator[_Signal]:
    several = len(estimates) > 1
    mixture = {name: f"{name}_mixture" for name in ("si_sdr", "pesq", "stoi")}
    yield _Signal("Mixture", example.mixture, mixture)
    for source, (target, estimate) in enumerate(zip(example.targets, estimates, strict=True), start=1):
        end, number_text = (f"_{source}", f" {source}") if several else ("", "")
        yield _Signal(f"Target{number_text}", target, {})
        columns = {name: f"{name}{end}" for name in ("si_sdr", "si_sdri", "pesq", "stoi")}
        yield _Signal(f"Estimate{number_text}", estimate, columns)


def _signal(signal: _Signal, row: Row, sample_rate: int, top_db: float) -> str:
    sound = player(signal.waveform, sample_rate, signal.title, top_db)
    return (
        f'<div class="signal"><h4>{escape(signal.title)}</h4>{sound}<p class="scores">{_scores(signal, row)}</p></div>'
    )


def _scores(signal: _Signal, row: Row) -> str:
    texts = []
    for metric, name, digits, unit in (*_METRICS, _STOI):
        value = row.get(signal.columns.get(metric, ""))
        if is_number(value):
            texts.append(f"<span>{name} <b>{number(value, digits)}</b>{unit}</span>")
    return "".join(texts)


def _improvement(row: Row) -> str:
    value = row["si_sdri"]
    sign = "+" if is_number(value) and value > 0 else ""
    return f"<span>{sign}{number(value, 1)} dB</span>"


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
