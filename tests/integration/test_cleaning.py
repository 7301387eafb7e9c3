"""What the make targets that delete take away, and what stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KEPT = ["data/recordings/train/a.wav", "data/real_embedded_1/a.wav", "logs/a/metrics.csv", "src/a.py"]
CACHES = ["src/deep/__pycache__/a.pyc", ".mypy_cache/a", ".ruff_cache/a", ".pytest_cache/a", "src/a.egg-info/x"]
ENVIRONMENT = [".venv/bin/python", ".venv/lib/__pycache__/b.pyc"]
GENERATED = ["data/toy_embedded_0123/synthetic.json", "data/toy_embedded_0123/train/a.wav"]


@pytest.fixture
def project(tmp_path, repository) -> Path:
    shutil.copy(repository / "Makefile", tmp_path)
    for name in [*KEPT, *CACHES, *ENVIRONMENT, *GENERATED]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(("target", "gone"), [("clean", CACHES), ("distclean", ENVIRONMENT)])
def test_make_deletes_what_it_says(project, target, gone):
    subprocess.run(["make", target], cwd=project, check=True, capture_output=True)
    assert [name for name in gone if (project / name).exists()] == []
    others = {*KEPT, *CACHES, *ENVIRONMENT, *GENERATED} - {*gone}
    assert [name for name in others if not (project / name).exists()] == []


@pytest.mark.parametrize(("answer", "is_gone"), [("y\n", True), ("\n", False), ("n\n", False)])
def test_generated_corpora_are_listed_and_deleted_after_a_question(project, repository, answer, is_gone):
    command = [sys.executable, str(repository / "scripts/data/delete_generated.py")]
    environment = {**os.environ, "HYDRAUDIO_DATA_DIR": str(project / "data")}
    done = subprocess.run(command, input=answer, env=environment, capture_output=True, text=True, check=True)
    assert "toy_embedded_0123" in done.stdout
    assert "real_embedded_1" not in done.stdout
    assert (project / GENERATED[0]).exists() != is_gone
    assert all((project / name).exists() for name in KEPT)
