"""Pages stand alone and show hostile text as text."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from hydraudio.core.files import write_text
from hydraudio.report import page as pages
from hydraudio.report.tables import Cell, TableData, TableRow

EVIL = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\udcff"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _document() -> str:
    table = pages.table(TableData((EVIL,), (TableRow((Cell(EVIL, EVIL),), EVIL),)))
    body = table + pages.card("", EVIL) + pages.facts({EVIL: EVIL}) + pages.problem_list([EVIL])
    lead = pages.headlines([(EVIL, Cell(EVIL, EVIL))]) + pages.paragraph(EVIL)
    return pages.page(EVIL, EVIL, lead, [pages.Section(EVIL, EVIL, body)])


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    text = write_text(tmp_path / "index.html", _document()).read_text(encoding="utf-8")
    parser = _Tags()
    parser.feed(text)
    assert [tag for tag, _ in parser.tags if tag in ("img", "style", "script")] == ["style", "script"]
    assert not any(name.startswith("on") for _, attributes in parser.tags for name in attributes)


def test_policy_allows_exactly_our_script_and_nothing_from_outside() -> None:
    document = _document()
    script = re.search(r"<script>(.*)</script></body>", document)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in document
    assert "default-src 'none'" in document
    assert not re.search(r'(?:src|href)="(?!data:|#)', document)
