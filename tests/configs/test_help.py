"""What ``--help`` of the three commands shows: one screen with three examples."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("verb", ["train", "eval", "predict"])
def test_help_is_one_screen_with_three_examples(command, verb):
    shown = command(f"src/{verb}.py", "--help").stdout.rstrip().splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 120
    assert sum(line.startswith(f"  python src/{verb}.py") for line in shown) == 3
    assert any("source .venv/bin/activate" in line for line in shown)
