"""What all tasks share speaks of none: no word of tests/words.txt stands in these rooms and YAMLs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = [
    line.strip() for line in (ROOT / "tests" / "words.txt").read_text().splitlines() if line.strip() and line[0] != "#"
]
LEAVES_WITH_A_TASK = re.compile(r"# task: .*?# end task", re.DOTALL)  # scripts/remove_task.py takes it along
FOREIGN = re.compile(r'font-variant|variant="primary"')  # what style sheets and gradio call so
PATTERN = re.compile(rf"(?<= )(?:{'|'.join(map(re.escape, WORDS))})(?= )")
ROOMS = ("core", "report", "share", "project")
GROUPS = ("trainer", "callbacks", "model/scheduler", "logger", "debug", "paths", "extras", "hydra")
FILES = [path for room in ROOMS for path in (ROOT / "src" / "hydraudio" / room).rglob("*") if path.is_file()]
FILES += [*(ROOT / "src" / "hydraudio").glob("*.py")]
FILES += [*(ROOT / "src" / "hydra_preflight").rglob("*.py")]
FILES += [*(ROOT / "src" / "hydra_plugins").rglob("*.py")]
FILES += [path for group in GROUPS for path in (ROOT / "configs" / group).glob("*.yaml")]
FILES = sorted(path for path in FILES if path.suffix in {".py", ".yaml", ".css", ".html", ".js", ".jinja", ".j2"})


def parted(line: str) -> str:
    """The words of a line in lower case, between single spaces: names split at `_`, capitals and signs.

    >>> parted("class MeanSNRi(small_net): n_items=2")
    ' class mean snri small net n items 2 '
    """
    line = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", FOREIGN.sub("", line))
    line = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", line)
    return f" {' '.join(re.findall(r'[a-z0-9]+', line.lower()))} "


def found(text: str) -> list[str]:
    """Line number and word of every hit."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{number}: {hit}" for number, line in lines for hit in PATTERN.findall(parted(line))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_word_of_a_task(path):
    text = path.read_text(encoding="utf-8")
    assert found(LEAVES_WITH_A_TASK.sub("", text) if path.suffix == ".yaml" else text) == []


@pytest.mark.parametrize(
    ("line", "hits"),
    [
        ("the singing of two", ["1: singing"]),
        ("class SynthReport(Report):", ["1: synth"]),
        ("self.musdb_stems", ["1: musdb", "1: stems"]),
        # task: pretraining
        ("self.mask_ratio", ["1: mask ratio"]),
        ('"val/esc50"', ["1: esc50"]),
        # end task
        ("variance, invariant, sources, separately, system", []),
    ],
)
def test_names_are_split_into_words(line, hits):
    assert found(line) == hits


def test_list_is_sorted_into_tasks_and_has_no_word_twice():
    assert len(WORDS) == len(set(WORDS))
    assert all(word == parted(word).strip() for word in WORDS)
