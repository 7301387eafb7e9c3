"""The house loses any of its tasks without a crack: scripts/remove_task.py, in a copy of the tracked files."""

from __future__ import annotations

import datetime
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_commands import ROOT

TASKS = sorted(path.stem for path in (ROOT / "configs" / "task").glob("*.yaml"))
WHOLE_SUITE = os.environ.get("REMOVED_TASK") or TASKS[datetime.date.today().toordinal() % len(TASKS)]
"""The task without which the whole fast suite runs: another one every day, or that of the environment."""

_file = importlib.util.spec_from_file_location("remove_task", ROOT / "scripts" / "remove_task.py")
remove_task = importlib.util.module_from_spec(_file)
_file.loader.exec_module(remove_task)

needs_two = pytest.mark.skipif(len(TASKS) < 2, reason="the last task stays")


@pytest.fixture
def copy(tmp_path):
    """A repository of its own that holds the tracked and the new files, committed."""
    copy = tmp_path / "copy"
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, files):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(copy), *arguments], check=True)
    return copy


def run(copy: Path, *arguments: str, check: bool = True, timeout_s: int = 300) -> subprocess.CompletedProcess:
    """Run Python in the copy, on the copy's package."""
    foreign = ("PYTEST_", "HYDRAUDIO_", "PROJECT_ROOT")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    environment |= {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=timeout_s)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(arguments)} failed:\n{result.stdout[-6000:]}\n{result.stderr[-4000:]}")
    return result


def texts(copy: Path) -> dict[str, str]:
    """Name -> text of every tracked file that is still there, but those that may speak of what is gone."""
    listing = ["git", "-C", str(copy), "ls-files"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {name: copy / name for name in names if name != "CHANGELOG.md" and not name.endswith((".png", ".lock"))}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items() if path.is_file()}


def test_lines_between_marks_go():
    text = "a\n\n# task: x\nb\n# end task\n\nc\n# task: x, y\nd\n# end task\n# task: y\ne\n# end task\n"
    assert remove_task.without_task(text, "x") == "a\n\nc\n# task: y\ne\n# end task\n"
    assert remove_task.without_task(text, "z") == text
    page = "<!-- task: x -->\n| a |\n<!-- end task -->\nb<!-- task: x --> and c<!-- end task -->.\n"
    assert remove_task.without_task(page, "x") == "b.\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# task: x\na\n", "has no '# end task'"),
        ("a\n# end task\n", "line 2: a part ends that never began"),
        ("# task: x\n# task: y\n", "line 2: a part of a task begins inside another"),
    ],
)
def test_marks_that_do_not_pair_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        remove_task.without_task(text, "x")


def test_every_mark_names_tasks_that_exist():
    """Else a part would stay for ever."""
    names = ("README.md", "CONTRIBUTING.md", "Makefile", "tests/words.txt")
    for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in names)]:
        named = re.findall(r"(?:#|<!--) task: ([a-z0-9_, ]+?)(?: -->|$)", path.read_text(), re.MULTILINE)
        assert {name for names in named for name in names.split(", ")} <= set(TASKS), path


@needs_two
def test_refusals_and_dry_run_change_nothing(copy):
    before = texts(copy)
    script = "scripts/remove_task.py"
    unknown = run(copy, script, "nothing", check=False)
    assert unknown.returncode == 1
    assert f"there is no task 'nothing'; the tasks are {', '.join(TASKS)}" in unknown.stderr
    listed = run(copy, script, TASKS[0], "--dry-run").stdout
    assert f"delete  src/hydraudio/tasks/{TASKS[0]}/\n" in listed
    assert "edit    README.md\n" in listed
    (copy / "README.md").write_text("changed")
    dirty = run(copy, script, TASKS[0], check=False)
    assert dirty.returncode == 1
    assert "commit or stash your changes first" in dirty.stderr
    assert texts(copy) == before | {"README.md": "changed"}


@needs_two
@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("task", TASKS)
def test_house_stands_without_a_task(copy, task):
    """Nothing names what is gone; lint, configurations, tests and a short run of every other task pass."""
    run(copy, "scripts/remove_task.py", task)
    gone = re.compile(rf"hydraudio[./]tasks[./]{task}\b|\b(?:scripts|tests/tasks|docs)/{task}\b|[=/ ]{task}/\w")
    dangling = [f"{name}: {hit}" for name, text in texts(copy).items() for hit in gone.findall(text)]
    assert dangling == []

    run(copy, "-m", "ruff", "check", ".")
    run(copy, "scripts/docs_tables.py", "--check")
    run(copy, "scripts/check_configs.py")
    remaining = [other for other in TASKS if other != task]
    for other in remaining:
        run(copy, "src/train.py", f"task={other}", "debug=fdr", "trainer.accelerator=cpu", timeout_s=600)
    run(copy, "src/train.py", "debug=fdr", "--cfg", "job")
    fast = ["-m", "pytest", "-n", "2", "-m", "not slow", "--ignore=tests/integration/test_remove_task.py"]
    floors = [] if task == WHOLE_SUITE else ["--ignore=tests/tasks"]
    run(copy, *fast, *floors, timeout_s=1500)

    if len(remaining) == 1:
        last = run(copy, "scripts/remove_task.py", remaining[0], "--force", check=False)
        assert last.returncode == 1
        assert f"{remaining[0]} is the last task" in last.stderr
