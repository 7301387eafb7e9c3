"""The HTML page of a separation or enhancement test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydraudio.report.charts import Series, interval_chart, scatter_chart
from hydraudio.report.curves import curve_cards
from hydraudio.report.examples import Example, ExamplePool
from hydraudio.report.page import (
    Section,
    card,
    columns,
    facts,
    grid,
    headlines,
    note_left_out,
    page,
    paragraph,
    problem_list,
    table,
)
from hydraudio.report.slices import Slice
from hydraudio.report.tables import Cell, Row, change_cell, count, floats, interval_cell, is_number
from hydraudio.stats.intervals import Interval
from hydraudio.tasks.separation.report.item_cards import item_card
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
CURVES = {"Loss": ("train/loss", "val/loss"), "Validation: SI-SDR improvement / dB": ("val/si_sdri",)}


@dataclass(frozen=True)
class SeparationResults:
    """Everything that the page shows.

    title: text of the heading; subtitle: the line below it; information: names and values of what was tested.
    rows: unique items; curves: by metric name; examples: pool to choose from; n_repeated: rows that were left
    out because the same item and variant was there before.
    """

    title: str
    subtitle: str
    information: Mapping[str, str]
    rows: Sequence[Row]
    curves: Mapping[str, Series]
    examples: ExamplePool[Example]
    sample_rate: int
    n_sources: int
    n_repeated: int = 0
    max_page_mb: float = 8.0


def separation_page(results: SeparationResults, summaries: Sequence[Summary], slices: Sequence[Slice]) -> str:
    """The finished document."""
    sections = [
        Section("summary", "Per variant", _summary(results, summaries)),
        Section("charts", "Charts", _charts(results, summaries)),
        Section("slices", "Slices", _slices(slices)),
        Section("problems", "Unscorable items", _problems(results)),
        Section("about", "What was tested", card(facts(results.information))),
    ]
    if results.curves:
        sections.insert(2, Section("curves", "Learning curves", grid(curve_cards(results.curves, CURVES))))
    used = sum(len(section.body) for section in sections)
    sections += _examples(results, summaries, int(results.max_page_mb * 1e6) - used)
    return page(results.title, results.subtitle, _headlines(summaries), sections)


def _headlines(summaries: Sequence[Summary]) -> str:
    macro = next((s.scores for s in summaries if s.kind == "macro"), None)
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


def _summary(results: SeparationResults, summaries: Sequence[Summary]) -> str:
    parts = [table(summary_table(summaries))]
    parts += [paragraph(degenerate_line(s)) for s in summaries if s.kind == "degenerate"]
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


def _charts(results: SeparationResults, summaries: Sequence[Summary]) -> str:
    shown = [s for s in summaries if s.kind in ("variant", "macro", "micro")]
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


def _slices(found: Sequence[Slice]) -> str:
    tables = slice_tables(found)
    if not tables:
        return paragraph("The corpus says nothing about its items by which they could be sorted.")
    return columns([card(table(data), name) for name, data in tables.items()])


def _problems(results: SeparationResults) -> str:
    lines = problems(results.rows)
    if not lines:
        return paragraph(f"All {count(len(results.rows))} items were scored by all metrics.")
    left = [f"… and {len(lines) - MAX_PROBLEMS} more, see items.csv"] if len(lines) > MAX_PROBLEMS else []
    head = f"{len(lines)} of {len(results.rows)} items lack a score; means are over the scores that there are."
    return card(paragraph(head) + problem_list(lines[:MAX_PROBLEMS] + left))


def _examples(results: SeparationResults, summaries: Sequence[Summary], n_bytes: int) -> list[Section]:
    """One section per variant, filled in rounds until the page has its size."""
    queue = _example_queue(results, summaries)
    cards: dict[str, list[str]] = {}
    for position, (variant, kind, row, example) in enumerate(queue):
        html = item_card(kind, row, example, results.sample_rate)
        n_bytes -= len(html)
        if n_bytes < 0:
            left_out = len(queue) - position
            break
        cards.setdefault(variant, []).append(html)
    else:
        left_out = 0
    variants = sorted(cards, key=variant_key)
    sections = [Section(f"listen-{i}", f"Listen: {v}", "".join(cards[v])) for i, v in enumerate(variants)]
    return note_left_out(sections, left_out)


def _example_queue(results: SeparationResults, summaries: Sequence[Summary]) -> list[tuple[str, str, Row, Example]]:
    """(variant, kind, row, example), first the worst, best and typical of every variant, then the seconds."""
    by_key = {(row["variant"], row["id"]): row for row in results.rows}
    variants = [s.name for s in summaries if s.kind == "variant"]
    queue = []
    for variant in variants:
        scores = [
            float(row["si_sdri"])  # type: ignore[arg-type]
            for row in results.rows
            if row["variant"] == variant and is_number(row["si_sdri"])
        ]
        for kind, examples in results.examples.choose(variant, scores).items():
            for rank, example in enumerate(examples):
                row = by_key[variant, example.item_id]
                queue.append((rank, _KINDS.index(kind), variants.index(variant), (variant, kind, row, example)))
    return [entry for *_, entry in sorted(queue, key=lambda item: item[:3])]


_KINDS = ("worst", "best", "typical")
