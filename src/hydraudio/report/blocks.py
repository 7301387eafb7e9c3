"""Sections that the pages of several tasks have: `Block.render` of their specifications names them."""

from __future__ import annotations

from hydraudio.report.charts import line_chart
from hydraudio.report.examples import Kept
from hydraudio.report.page import card, facts, grid, problem_list
from hydraudio.report.results import Results


def curves(results: Results[Kept]) -> str:
    """Learning curves, one card per chart; empty without any."""
    cards = [card(line_chart(found, "optimizer step", title), title) for title, found in results.curves.items()]
    return grid(cards, "narrow" if len(cards) > 2 else "") if cards else ""


def about(results: Results[Kept]) -> str:
    """What was tested, and what there is to say about the files."""
    notes = card(problem_list(results.notes), "Files") if results.notes else ""
    return card(facts(results.information)) + notes
