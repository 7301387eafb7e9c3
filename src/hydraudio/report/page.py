"""Self-contained HTML pages. Text is escaped here; only arguments called body, lead and cards are HTML."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hydraudio.report.style import CSS, SCRIPT
from hydraudio.report.tables import Cell, TableData, TableRow

_FOOTER = "Written by Hydraudio. This page needs no other file and no network."


@dataclass(frozen=True)
class Section:
    """One part of a page; `anchor` is its address, `body` finished HTML."""

    anchor: str
    title: str
    body: str


def page(title: str, subtitle: str, lead: str, sections: Sequence[Section]) -> str:
    """A whole document. title and subtitle are text, lead is HTML shown before the sections."""
    links = "".join(f'<a href="#{escape(s.anchor)}">{escape(s.title)}</a>' for s in sections)
    parts = "".join(f'<section><h2 id="{escape(s.anchor)}">{escape(s.title)}</h2>{s.body}</section>' for s in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{_security_policy()}'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{CSS}</style></head><body><header><div><h1>{escape(title)}</h1>"
        f'<p class="subtitle">{escape(subtitle)}</p></div></header><nav><div>{links}</div></nav>'
        f"<main>{lead}{parts}<footer>{escape(_FOOTER)}</footer></main><script>{SCRIPT}</script></body></html>\n"
    )


def card(body: str, title: str = "", css: str = "") -> str:
    """A framed block with an optional heading."""
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="{escape(f"card {css}".strip())}">{heading}{body}</div>'


def grid(cards: Sequence[str], css: str = "") -> str:
    """Blocks side by side where there is room; css "narrow": up to three of them."""
    return f'<div class="{escape(f"grid {css}".strip())}">{"".join(cards)}</div>'


def columns(cards: Sequence[str]) -> str:
    """Blocks of different heights in as many columns as there is room for."""
    return f'<div class="columns">{"".join(cards)}</div>'


def paragraph(text: str, css: str = "note") -> str:
    """A paragraph of plain text."""
    return f'<p class="{css}">{escape(text)}</p>'


def facts(pairs: Mapping[str, str]) -> str:
    """Names with their values, one per line."""
    items = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def headlines(pairs: Sequence[tuple[str, Cell]]) -> str:
    """The few numbers that a reader looks for first."""
    items = (
        f'<div class="kpi"><span>{escape(name)}</span><b>{escape(cell.text)}</b><span>{escape(cell.note)}</span></div>'
        for name, cell in pairs
    )
    return f'<div class="kpis">{"".join(items)}</div>'


def table(data: TableData) -> str:
    """A table that scrolls sideways on narrow screens."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in data.columns)
    body = "".join(_table_row(row) for row in data.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def problem_list(lines: Sequence[str]) -> str:
    """Plain lines as a list."""
    return f'<ul class="problems">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def _table_row(row: TableRow) -> str:
    cells = "".join(f"<td>{escape(cell.text)}{_note(cell.note)}</td>" for cell in row.cells)
    return f'<tr class="{escape(row.kind)}">{cells}</tr>'


def _note(note: str) -> str:
    return f"<small>{escape(note)}</small>" if note else ""


def _security_policy() -> str:
    """Nothing is loaded from anywhere and only our own script runs, whatever a file name may contain."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
