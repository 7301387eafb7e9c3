"""docs/from_the_five.md: what stands in the right column composes and passes the check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_commands import part_of

from hydra_preflight.compose import compose_run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from_the_five.md").read_text()
BESIDE = re.compile(r"hold beside `(experiment=[^`]+)`")
TASKS = [None, *sorted(path.stem for path in (ROOT / "configs/task").glob("*.yaml"))]


def rows() -> list[tuple[str, str]]:
    """What an override stands beside, and the override."""
    found = []
    for task in TASKS:
        part = part_of(PAGE, task)
        beside = BESIDE.search(part)
        cells = [line.split(" | ")[-1].removesuffix(" |") for line in part.splitlines() if line.startswith("| ")]
        overrides = [match[1] for cell in cells if (match := re.fullmatch(r"`([^`]+=[^`]+)`", cell))]
        found += [(beside[1] if beside else "", override) for override in overrides]
    return found


@pytest.mark.parametrize(("beside", "override"), rows(), ids=str)
def test_what_is_to_be_written_here_composes(tmp_path, monkeypatch, beside, override):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setattr(
        "hydraudio.core.pretrained.pretrained_config", lambda *arguments: None
    )  # asks a hub or a folder
    given = [override] if override.startswith("experiment=") or not beside else [beside, override]
    compose_run(given, tmp_path)


def test_the_page_has_its_rows():
    assert len(rows()) >= 4
    assert len(rows()) > 20 * (len(TASKS) - 1)
