"""The tables of the docs are those that scripts/docs_tables.py makes of the YAMLs and the specifications."""

from __future__ import annotations

import importlib.util

import pytest
from page_commands import PAGES, ROOT

_file = importlib.util.spec_from_file_location("docs_tables", ROOT / "scripts" / "docs_tables.py")
docs_tables = importlib.util.module_from_spec(_file)
_file.loader.exec_module(docs_tables)

TABLES = {
    f"{page.relative_to(ROOT)}: {found['name']}": found
    for page in PAGES
    for found in docs_tables.TABLE.finditer(page.read_text())
}
SLOW = [pytest.param(name, marks=[pytest.mark.slow] if ": networks" in name else []) for name in TABLES]


@pytest.mark.parametrize("name", SLOW)
def test_table_is_fresh(name):
    """Run python scripts/docs_tables.py; the counts of networks are also in the contract tests of their floor."""
    found = TABLES[name]
    assert found["begin"] + docs_tables.table(found["name"]) + found["end"] == found.group()


def test_every_network_and_corpus_is_in_a_table():
    for task in docs_tables.TASKS:
        assert any(f": networks {task}" in name for name in TABLES)
        assert any(f": corpora {task}" in name for name in TABLES)


def test_unknown_table_is_refused():
    with pytest.raises(ValueError, match="there is no table 'corpora nothing'"):
        docs_tables.table("corpora nothing")
