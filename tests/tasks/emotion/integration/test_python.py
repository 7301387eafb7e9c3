"""Emotion recognition from Python: what the README shows."""

from __future__ import annotations

import pytest
from page_commands import README, part_of, run_examples
from untrained import write_run

pytestmark = pytest.mark.slow  # for what transformers takes to be imported


def test_the_examples_of_the_readme(tmp_path, monkeypatch, repository):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))
    write_run(tmp_path / "logs" / "msp_wavlm_category" / "latest", "experiment=emotion/msp_wavlm_category")
    monkeypatch.chdir(tmp_path)
    assert run_examples(part_of(README.read_text(), "emotion"), "README.md") == 4
