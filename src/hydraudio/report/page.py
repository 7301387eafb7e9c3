"""Pages of one file: jinja2 templates, one style sheet and one script, which escape all text."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from hydraudio.core.files import whole_file
from hydraudio.report import charts
from hydraudio.report.tables import count, number

_OURS = "hydraudio.report.templates"


@dataclass(frozen=True)
class Bar:
    """A name with a number as a bar or dot, beside what it should be.

    Attributes:
        name: text.
        percent: where the number lies on its scale.
        mark: where it should lie; None where that is unknown.
        text: the number.
        kind: true (what should be large), plain, dot, or empty.
    """

    name: str
    percent: float
    mark: float | None
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Panel:
    """Examples of one group: finished cards below a title and a note, which are text."""

    title: str
    note: str
    cards: Sequence[Markup]


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        anchor: its address.
        title: its heading.
        body: finished HTML.
        panels: of which one is seen at a time, below the body.
        note: text below them.
    """

    anchor: str
    title: str
    body: Markup = Markup()  # noqa: RUF009
    panels: Sequence[Panel] = ()
    note: str = ""


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[Section], lead: Sequence[Markup] = ()) -> Path:
    """Write a whole document piece by piece, whole or not at all.

    Args:
        path: of the file.
        title: of the page, text.
        subtitle: the line below it, text.
        sections: with a heading each, and a link at the top.
        lead: what stands above them.
    """
    page = environment().get_template("page.html")
    with whole_file(path) as file:
        for piece in page.generate(
            title=title,
            subtitle=subtitle,
            lead=lead,
            sections=sections,
            style=Markup(asset("style.css")),
            script=Markup(asset("page.js")),
            script_digest=base64.b64encode(hashlib.sha256(asset("page.js").encode()).digest()).decode("ascii"),
        ):
            file.write(piece.encode("utf-8", "replace"))  # file names may hold lone surrogates
    return path


def render(template: str, macro: str, *arguments: object) -> Markup:
    """Render a macro of a template with its arguments.

    Args:
        template: name of one of ours, or ``package/file`` of another package.
        macro: its name.
        arguments: of it.
    """
    return getattr(environment().get_template(template).module, macro)(*arguments)


def asset(name: str) -> str:
    """Return the text of the style sheet or the script."""
    return importlib.resources.files(_OURS).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def environment() -> Environment:
    """Where templates are found, and what they may use beside jinja2's own."""
    found = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawings = (charts.line_chart, charts.scatter_chart, charts.interval_chart, charts.heat_chart)
    found.globals |= {drawing.__name__: drawing for drawing in drawings}
    found.filters |= {"number": number, "spaced": count}
    return found


def _source(name: str) -> str | None:
    package, _, file = name.rpartition("/")
    path = importlib.resources.files(package or _OURS).joinpath(file)
    return path.read_text(encoding="utf-8") if path.is_file() else None
