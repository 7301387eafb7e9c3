"""Writing the files of a separation report and printing its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hydraudio.core.files import write_text
from hydraudio.report.tables import rich_table, write_csv
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.tasks.separation.report.page import SeparationResults, separation_page
from hydraudio.tasks.separation.report.summaries import (
    Summary,
    degenerate_line,
    item_columns,
    problems,
    slice_csv_rows,
    slices,
    summarise,
    summary_csv_rows,
    summary_table,
)

_MAX_PRINTED_PROBLEMS = 5


@dataclass(frozen=True)
class WrittenReport:
    """What the terminal shows of a report: its page, the summaries and one line per unscorable item."""

    page: Path
    summaries: list[Summary]
    problems: list[str]


def write_report(output_dir: Path, results: SeparationResults, bootstrap: Bootstrap) -> WrittenReport:
    """Writes items.csv, variants.csv, slices.csv and index.html."""
    if not results.rows:
        raise ValueError(f"the test had no items, so there is nothing to report in {output_dir}")
    summaries = summarise(results.rows, bootstrap)
    found = slices(results.rows, bootstrap)
    with_perceptual = any("pesq" in row for row in results.rows)
    columns = item_columns(results.n_sources, with_perceptual)
    write_csv(output_dir / "items.csv", results.rows, columns)
    write_csv(output_dir / "variants.csv", *summary_csv_rows(summaries))
    write_csv(output_dir / "slices.csv", *slice_csv_rows(found))
    page = write_text(output_dir / "index.html", separation_page(results, summaries, found))
    return WrittenReport(page, summaries, problems(results.rows))


def print_report(console: Console, report: WrittenReport) -> None:
    """The table per variant, what stands apart from it, and where the page lies."""
    table = summary_table(report.summaries)
    if table.rows:
        console.print(rich_table("Test per variant, with 95 % intervals", table))
    for summary in report.summaries:
        if summary.kind == "degenerate":
            console.print(Text(degenerate_line(summary)))
    _print_problems(console, report.problems)
    console.print(Text(f"Report: {report.page}"), soft_wrap=True)


def _print_problems(console: Console, problems: list[str]) -> None:
    if not problems:
        return
    console.print(Text(f"Not completely scored: {len(problems)} of all items (column error of items.csv), such as"))
    for line in problems[:_MAX_PRINTED_PROBLEMS]:
        console.print(Text(f"  {line}"), soft_wrap=True)
