"""What a test has found, as its page, its files and the terminal show it: the same for every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from hydraudio.core.spec import Block
from hydraudio.report.charts import Series
from hydraudio.report.examples import ExamplePool, Kept
from hydraudio.report.page import Panel, Section, render, write_page
from hydraudio.report.tables import TableData, rich_table
from hydraudio.stats.intervals import Interval

LISTEN = "listen"
"""Anchor of the section of examples, which takes what room the others leave."""


@dataclass(frozen=True)
class Group:
    """Items among which examples are chosen.

    Attributes:
        name: as the pool has it.
        title: of its panel.
        scores: of all its items.
        n_best: how many best and typical ones are shown, beside the worst ones that the pool keeps.
        note: how to read the examples, text.
    """

    name: str
    title: str
    scores: Sequence[float]
    n_best: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Results(Generic[Kept]):
    """What the page of every task shows; a floor adds what it measures.

    title: text of the heading; subtitle: the line below it; information: names and values of what was tested.
    curves: by title of the chart; notes: lines about the files; examples: pool to choose from; n_repeated: items that
    were left out because they were there before; max_page_mb: size in 10^6 bytes up to which examples are added;
    max_example_s: their longest length.
    """

    title: str
    subtitle: str
    information: Mapping[str, str]
    curves: Mapping[str, Sequence[Series]]
    examples: ExamplePool[Kept]
    sample_rate: int
    notes: Sequence[str] = ()
    n_repeated: int = 0
    max_page_mb: float = 8.0
    max_example_s: float = 10.0

    def groups(self) -> list[Group]:
        """Where examples come from, in the order of their panels."""
        raise NotImplementedError

    def card(self, kind: str, example: Kept, is_open: bool) -> Markup:
        """Return an example to look at and listen to; kind is worst, best or typical."""
        raise NotImplementedError

    def panels(self, n_bytes: int) -> tuple[list[Panel], int]:
        """Return the examples that fit into so many bytes, the most wanted first, and how many do not."""
        groups = self.groups()
        wanted = [(rank, place, *one) for place, g in enumerate(groups) for rank, one in enumerate(self._wanted(g))]
        cards: dict[int, list[Markup]] = {}
        n_left_out = 0
        for rank, place, kind, example in sorted(wanted, key=lambda entry: entry[:2]):
            card = self.card(kind, example, rank == 0)
            if len(card) > n_bytes:
                n_left_out += 1
                continue
            n_bytes -= len(card)
            cards.setdefault(place, []).append(card)
        panels = [Panel(groups[place].title, groups[place].note, found) for place, found in sorted(cards.items())]
        return panels, n_left_out

    def _wanted(self, group: Group) -> Iterator[tuple[str, Kept]]:
        """A worst, a best and a typical one, then the next of each."""
        chosen = self.examples.choose(group.name, group.scores)
        for rank in range(max(map(len, chosen.values()))):
            for kind, found in chosen.items():
                if rank < (len(found) if kind == "worst" else min(len(found), group.n_best)):
                    yield kind, found[rank]


@dataclass(frozen=True)
class Written:
    """A report on disk.

    page: where it lies. scores: by name of the metric. information: names and values of what was tested. tables: title
    and content, and lines: text, for the terminal.
    """

    page: Path
    scores: Mapping[str, Interval]
    information: Mapping[str, str]
    tables: Sequence[tuple[str, TableData]] = ()
    lines: Sequence[str] = field(default_factory=list)


def write_report(path: Path, results: Results[Kept], blocks: Sequence[Block]) -> Path:
    """Write the page of a test: the blocks that have something to show, and examples until the page has its size.

    What a block without a title shows stands above the sections.
    """
    bodies = {b.anchor: render(b.template, b.anchor, results) for b in blocks if b.anchor != LISTEN}
    n_bytes = int(results.max_page_mb * 1e6) - sum(map(len, bodies.values()))
    panels, n_left_out = results.panels(n_bytes) if any(b.anchor == LISTEN for b in blocks) else ([], 0)
    left_out = f"{n_left_out} more examples were left out to keep the page small." if n_left_out else ""
    sections = []
    for block in (block for block in blocks if block.title):
        if block.anchor == LISTEN and panels:
            sections.append(Section(block.anchor, block.title, panels=panels, note=left_out))
        elif block.anchor != LISTEN and bodies[block.anchor].strip():
            sections.append(Section(block.anchor, block.title, bodies[block.anchor]))
    lead = [bodies[block.anchor] for block in blocks if not block.title]
    return write_page(path, results.title, results.subtitle, sections, lead)


def print_written(console: Console, written: Written) -> None:
    """The tables, what stands apart from them, and where the page lies."""
    for title, data in written.tables:
        console.print(rich_table(title, data))
    for line in (*written.lines, f"Report: {written.page}"):
        console.print(Text(line), soft_wrap=True)
