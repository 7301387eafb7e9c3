"""What the pages of the documentation tell a reader to type. Tests import it: ``pythonpath`` of pyproject.toml."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PARTS = re.compile(r"<!-- task: (?P<names>[\w, ]+?) -->(?P<part>.*?)<!-- end task -->", re.DOTALL)


def part_of(text: str, task: str | None) -> str:
    """The lines of a page that belong to a task; None: those that belong to all."""
    if task is None:
        return PARTS.sub("", text)
    return "\n".join(found["part"] for found in PARTS.finditer(text) if task in re.split(r",\s*", found["names"]))


def commands(text: str) -> list[str]:
    """Lines of a text's bash blocks, continued lines joined, comments removed."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*|^#.*", "", line).strip() for line in lines) if line]


def python_commands(text: str, prefix: str = "") -> list[str]:
    """Those of them that run a Python file whose path begins with the prefix, each once."""
    return list(dict.fromkeys(line for line in commands(text) if line.startswith(f"python {prefix}")))


def run_examples(text: str, name: str) -> int:
    """Run the examples (``>>>``) of a text's Python blocks in their order; returns how many lines there were."""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, name, None, 0)
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
    assert result.failed == 0, "".join(output)
    return result.attempted
