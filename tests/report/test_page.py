"""Pages stand alone, are valid HTML and show hostile text as text."""

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from hydraudio.report.charts import Series, line_chart
from hydraudio.report.media import Signal
from hydraudio.report.page import Bar, Panel, Section, asset, environment, render, write_page
from hydraudio.report.tables import Cell, TableData, TableRow

EVIL = "</style></summary><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\udcff"
VOID = {"meta", "img", "br", "input", "link"}


class Tags(HTMLParser):
    """All start tags; `open` are those without an end, `strays` ends without a start."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.strays: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.strays.append(tag)


def body() -> Markup:
    """Every macro, with hostile text."""
    source = """
        {% from "blocks.html" import card, note, headlines, facts, lines, table, chart, signal, bars, example %}
        {% call card(evil, evil) %}{{ note(evil) }}{{ headlines([(evil, cell)]) }}{{ facts({evil: evil}) }}{% endcall %}
        {{ lines([evil]) }}{{ table(data) }}{{ chart(drawn) }}{{ bars([bar], evil) }}
        {% call example(evil, evil, evil, [evil]) %}<div class="signals">{{ signal(heard) }}</div>{% endcall %}
    """
    data = TableData((EVIL, "x"), (TableRow((Cell(EVIL, EVIL), Cell("1")), EVIL), TableRow((Cell("a"), Cell("2")))))
    heard = Signal(EVIL, EVIL, EVIL, EVIL, 1.0, 4.0, EVIL, EVIL, ((EVIL, EVIL, EVIL),))
    drawn = line_chart([Series(EVIL, [0, 1], [0, 1]), Series("b", [0], [1])], EVIL, EVIL)
    context = {"evil": EVIL, "data": data, "cell": Cell(EVIL, EVIL), "heard": heard, "drawn": drawn}
    return Markup(environment().from_string(source).render(bar=Bar(EVIL, 10.0, 20.0, EVIL, EVIL), **context))


def document(folder: Path) -> str:
    panels = [Panel(EVIL, EVIL, [Markup("<p>one</p>")]), Panel("b", "", [Markup("<p>two</p>")])]
    sections = [Section(EVIL, EVIL, body()), Section("listen", "Listen", panels=panels, note=EVIL)]
    path = write_page(folder / "index.html", EVIL, EVIL, sections, [Markup("<p>lead</p>")])
    return path.read_text(encoding="utf-8")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    found = Tags(document(tmp_path))
    assert [tag for tag, _ in found.tags if tag in ("style", "script")] == ["style", "script"]
    assert [attributes.get("class") for tag, attributes in found.tags if tag == "img"] == ["spectrogram"]
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_every_tag_is_closed_where_it_was_opened(tmp_path: Path) -> None:
    found = Tags(document(tmp_path))
    assert found.open == []
    assert found.strays == []
    ids = [attributes["id"] for tag, attributes in found.tags if "id" in attributes and tag != "path"]
    assert len(ids) == len(set(ids))


def test_policy_allows_exactly_our_script_and_nothing_from_outside(tmp_path: Path) -> None:
    text = document(tmp_path)
    script = re.search(r"<script>(.*)</script>\n</body>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text or f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert "http-equiv" in text
    assert asset("style.css") in text
    assert not re.search(r"url\((?!data:|&lt;)|@import", asset("style.css"))


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="nobody"):
        environment().from_string("{{ nobody }}").render()


def test_both_colour_schemes_have_every_colour() -> None:
    colours = re.findall(r"^  (--[\w-]+): (.*);$", asset("style.css"), re.MULTILINE)
    assert len(colours) > 15
    assert all(re.fullmatch(r"light-dark\(#[0-9a-f]+, #[0-9a-f]+\)", value) for _, value in colours)
    used = set(re.findall(r"var\((--[\w-]+)\)", asset("style.css")))
    assert used - {"--key"} <= {name for name, _ in colours}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_table_sorts_by_its_buttons_and_keeps_totals_below(tmp_path: Path) -> None:
    rows = [("b10", "\N{MINUS SIGN}2.00"), ("a", "1\u2009000"), ("b9", "1 → 3.5"), ("c", "\N{EN DASH}")]
    corpora = ("Sea", "Woods2", "Alps", "Desert")
    cells = [TableRow((Cell(n), Cell(v, "9 … 9"), Cell(c))) for (n, v), c in zip(rows, corpora, strict=True)]
    total = TableRow((Cell("all"), Cell("0.5"), Cell("")), "total")
    table = environment().from_string('{% from "blocks.html" import table %}{{ table(data) }}')
    html = table.render(data=TableData(("Name", "Score", "Corpus"), (*cells, total)))
    clicks = """
        const names = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent).join();
        const heads = document.querySelectorAll("thead button"), seen = [];
        for (const head of [0, 0, 2, 1, 1]) { heads[head].click(); seen.push(names()); }
        seen.push([...document.querySelectorAll("th")].map(head => head.getAttribute("aria-sort")).join());
        document.title = seen.join(";");
    """
    page = tmp_path / "sort.html"
    scripts = f"<script>{asset('page.js')}</script><script>{clicks}</script>"
    page.write_text(f'<meta charset="utf-8"><body class="hydraudio">{html}{scripts}')
    command = ["chromium", "--headless", "--no-sandbox", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    title = re.search("<title>(.*)</title>", done.stdout)
    assert title is not None, done.stderr
    assert title[1].split(";") == [
        "a,b9,b10,c,all",
        "c,b10,b9,a,all",
        "a,b10,c,b9,all",
        "a,b9,b10,c,all",
        "b10,b9,a,c,all",
        ",ascending,",
    ]


def test_a_template_of_another_package_is_found() -> None:
    assert "That did not work" in render("hydraudio.report.templates/listening.html", "problem", "x")
