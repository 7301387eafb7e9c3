"""The page of a test: the blocks that have something to show, then as many examples as fit."""

import io
from pathlib import Path

from rich.console import Console

from hydraudio.core.spec import Block
from hydraudio.report.charts import Series
from hydraudio.report.examples import ExamplePool
from hydraudio.report.results import Queued, Results, Written, print_written, write_pages
from hydraudio.report.tables import Cell, TableData, TableRow
from hydraudio.stats.intervals import Interval

BLOCKS = (
    Block("lead", "", f"{__name__}.lead"),
    Block("nothing", "Nothing", f"{__name__}.nothing"),
    Block("curves", "Learning curves", "hydraudio.report.blocks.curves"),
    Block("about", "What was tested", "hydraudio.report.blocks.about"),
)


class Two(Results):
    def queue(self) -> list[Queued]:
        cards = (
            ("b", "<p>card b1</p>"),
            ("a", "<p>" + "a" * 5000 + "</p>"),
            ("a", "<p>card a2</p>"),
            ("b", "<p>card b2</p>"),
        )
        return [(group, lambda html=html: html) for group, html in cards]

    def listening(self) -> dict[str, tuple[str, str]]:
        return {"a": ("Listen: a", "<p>legend</p>"), "b": ("Listen: b", ""), "c": ("Listen: c", "")}


def lead(results: Results) -> str:
    return f"<p>lead of {results.title}</p>"


def nothing(results: Results) -> str:
    return ""


def page_of(folder: Path, **arguments) -> str:
    results = Two(
        title="<test>",
        subtitle="",
        information={"Corpus": "woods"},
        curves=arguments.pop("curves", {}),
        examples=ExamplePool(1),
        sample_rate=8000,
        **arguments,
    )
    return write_pages(folder / "index.html", results, BLOCKS).read_text()


def test_blocks_stand_in_order_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    curves = {"Loss": [Series("train/loss", [1, 2], [3, 2])]}
    html = page_of(tmp_path, curves=curves, notes=["a file"])
    places = [html.index(text) for text in ("lead of", 'id="curves"', 'id="about"', 'id="listen-0"', 'id="listen-1"')]
    assert places == sorted(places)
    assert 'id="nothing"' not in html
    assert "listen-2" not in html
    assert "<li>a file</li>" in html
    assert "lead of <test>" in html  # what a block gives is HTML, what the page adds is escaped
    assert "<title>&lt;test&gt;</title>" in html
    assert 'id="curves"' not in page_of(tmp_path)


def test_examples_that_do_not_fit_are_counted_below_the_last_ones(tmp_path: Path) -> None:
    html = page_of(tmp_path, max_page_mb=0.004)
    assert "aaaa" not in html
    assert (
        html.index("card a2")
        < html.index("card b1")
        < html.index("card b2")
        < html.index("1 more examples were left out")
    )
    assert "left out" not in page_of(tmp_path)


def test_what_was_written_is_printed(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    table = TableData(("Score", "Value"), (TableRow((Cell("Gain"), Cell("2.00"))),))
    scores = {"gain": Interval(2.0, 1.0, 3.0, 5)}
    print_written(console, Written(tmp_path / "index.html", scores, {}, [("Scores", table)], ["one thing"]))
    text = console.file.getvalue()
    assert text.index("Scores") < text.index("2.00") < text.index("one thing") < text.index("Report:")
