"""What a test has found, as its page, its files and the terminal show it: the same for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from rich.console import Console
from rich.text import Text

from hydraudio.core.files import write_text
from hydraudio.core.spec import Block, find
from hydraudio.report.charts import Series
from hydraudio.report.examples import ExamplePool, Kept
from hydraudio.report.page import Section, page, paragraph
from hydraudio.report.tables import TableData, rich_table
from hydraudio.stats.intervals import Interval

Queued = tuple[str, Callable[[], str]]
"""Group of an example, and what makes its card."""


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

    def queue(self) -> list[Queued]:
        """The examples that one can listen to, the most wanted first."""
        raise NotImplementedError

    def listening(self) -> dict[str, tuple[str, str]]:
        """Group of examples -> title of its section and HTML above the cards, in order."""
        raise NotImplementedError


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


def write_pages(path: Path, results: Results[Kept], blocks: Sequence[Block]) -> Path:
    """Write the page of a test: the blocks that have something to show, then examples until the page has its size.

    What a block without a title shows stands above the sections.
    """
    shown = [(block, find(block.render)(results)) for block in blocks]
    sections = [Section(block.anchor, block.title, body) for block, body in shown if block.title and body]
    n_bytes = int(results.max_page_mb * 1e6) - sum(len(section.body) for section in sections)
    lead = "".join(body for block, body in shown if not block.title)
    document = page(results.title, results.subtitle, lead, [*sections, *_examples(results, n_bytes)])
    return write_text(path, document)


def print_written(console: Console, written: Written) -> None:
    """The tables, what stands apart from them, and where the page lies."""
    for title, data in written.tables:
        console.print(rich_table(title, data))
    for line in (*written.lines, f"Report: {written.page}"):
        console.print(Text(line), soft_wrap=True)


def _examples(results: Results[Kept], n_bytes: int) -> list[Section]:
    """One section per group; an example that the page has no room for is left out and counted."""
    cards: dict[str, list[str]] = {}
    n_left_out = 0
    for group, make in results.queue():
        html = make()
        if len(html) > n_bytes:
            n_left_out += 1
            continue
        n_bytes -= len(html)
        cards.setdefault(group, []).append(html)
    found = [
        (title, lead + "".join(cards[group])) for group, (title, lead) in results.listening().items() if group in cards
    ]
    if found and n_left_out:
        title, body = found[-1]
        found[-1] = title, body + paragraph(f"{n_left_out} more examples were left out to keep the page small.")
    return [Section(f"listen-{index}", title, body) for index, (title, body) in enumerate(found)]
