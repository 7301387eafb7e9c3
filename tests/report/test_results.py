"""The page of a test: the blocks that have something to show, and as many examples as fit."""

import io
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from rich.console import Console

from hydraudio.core.spec import Block
from hydraudio.report import page
from hydraudio.report.charts import Series
from hydraudio.report.examples import ExamplePool
from hydraudio.report.results import Group, Results, Written, print_written, write_report
from hydraudio.report.tables import Cell, TableData, TableRow
from hydraudio.stats.intervals import Interval

TEMPLATE = """
{% macro lead(r) %}<p>lead of {{ r.title }}</p>{% endmacro %}
{% macro nothing(r) %}
{% endmacro %}
"""
BLOCKS = (
    Block("lead", "", "my_blocks/mine.html"),
    Block("listen", "Listen"),
    Block("nothing", "Nothing", "my_blocks/mine.html"),
    Block("curves", "Learning curves"),
    Block("about", "What was tested"),
)


@dataclass(frozen=True)
class Example:
    group: str
    item_id: str
    score: float


class Two(Results):
    def groups(self) -> list[Group]:
        return [Group("a", "Group <a>", [1.0, 5.0], 1, "how & why"), Group("b", "Group b", [1.0, 5.0], 1)]

    def card(self, kind: str, example: Example, is_open: bool) -> Markup:
        size = 5000 if example == Example("a", "1.0", 1.0) else 1
        return Markup("<p>{} {} {} {}</p>").format(example.group, kind, "open" if is_open else "shut", "x" * size)


def page_of(folder: Path, monkeypatch, **arguments) -> str:
    package = folder / "my_blocks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.html").write_text(TEMPLATE)
    monkeypatch.syspath_prepend(folder)
    pool: ExamplePool = ExamplePool(1)
    pool.add([Example(group, str(k), k) for group in "ab" for k in (1.0, 5.0)])
    results = Two(
        title="<test>",
        subtitle="",
        information={"Corpus": "woods"},
        curves=arguments.pop("curves", {}),
        examples=pool,
        sample_rate=8000,
        **arguments,
    )
    return write_report(folder / "index.html", results, BLOCKS).read_text()


def test_blocks_stand_in_order_and_empty_ones_are_left_out(tmp_path: Path, monkeypatch) -> None:
    curves = {"Loss": [Series("train/loss", [1, 2], [3, 2])]}
    html = page_of(tmp_path, monkeypatch, curves=curves, notes=["a file"])
    places = [html.index(text) for text in ("lead of", 'id="listen"', 'id="curves"', 'id="about"')]
    assert places == sorted(places)
    assert 'id="nothing"' not in html
    assert "<li>a file</li>" in html
    assert "lead of &lt;test&gt;" in html
    assert "<title>&lt;test&gt;</title>" in html


def test_a_block_without_content_has_no_section(tmp_path: Path, monkeypatch) -> None:
    assert 'id="curves"' not in page_of(tmp_path, monkeypatch)


def test_examples_stand_in_panels_the_worst_one_open(tmp_path: Path, monkeypatch) -> None:
    html = page_of(tmp_path, monkeypatch)
    places = [
        "Group &lt;a&gt;",
        "how &amp; why",
        "a worst open",
        "a best shut",
        "Group b",
        "b worst open",
        "b best shut",
    ]
    assert [html.index(text) for text in places] == sorted(html.index(text) for text in places)
    assert "left out" not in html


def test_examples_that_do_not_fit_are_counted_below_the_last_ones(tmp_path: Path, monkeypatch) -> None:
    html = page_of(tmp_path, monkeypatch, max_page_mb=0.004)
    assert "xx" not in html
    places = ["a best", "b worst", "b best", "1 more examples were left out"]
    assert [html.index(text) for text in places] == sorted(html.index(text) for text in places)


def test_what_was_written_is_printed(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    table = TableData(("Score", "Value"), (TableRow((Cell("Gain"), Cell("2.00"))),))
    scores = {"gain": Interval(2.0, 1.0, 3.0, 5)}
    print_written(console, Written(tmp_path / "index.html", scores, {}, [("Scores", table)], ["one thing"]))
    text = console.file.getvalue()
    assert text.index("Scores") < text.index("2.00") < text.index("one thing") < text.index("Report:")


def test_templates_are_read_once() -> None:
    assert page.environment() is page.environment()
