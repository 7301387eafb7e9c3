"""Remove a task from the house: python scripts/remove_task.py TASK [--dry-run] [--force].

Deletes the folders of the task's floor (src, configs, tests, scripts, docs), and experiments that name another floor
beside it. In files that tasks share, the lines between `# task: NAME` and `# end task` go (in Markdown
`<!-- task: NAME -->` and `<!-- end task -->`; several names, separated by commas, need all of these tasks); a page of
which nothing but its title remains goes as well. Where train.yaml chose the task, it chooses the first remaining one.
Then the tables of the docs are written anew. The CHANGELOG stays. Commit first: git brings everything back.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN = re.compile(r"\s*(?:#|<!--) task: (?P<names>[a-z0-9_]+(?:, [a-z0-9_]+)*)(?: -->)?\s*")
END = re.compile(r"\s*(?:#|<!--) end task(?: -->)?\s*")
INLINE = re.compile(r"<!-- task: (?P<names>[a-z0-9_]+(?:, [a-z0-9_]+)*) -->.*?<!-- end task -->")
SHARED = {".md", ".yaml", ".yml", ".toml", ".py", ".txt", ".cff", ".example", ""}
NEVER = {"CHANGELOG.md", "constraints.txt", "LICENSE", "scripts/remove_task.py"}
OTHERS = re.compile(r"(^|/)(\.git|\.venv|__pycache__|[^/]*\.egg-info|\.[a-z]+_cache)/|^(data|logs)/")


def main() -> int:
    """Remove the task; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="the name of a floor, e.g. the name of a file in configs/task")
    parser.add_argument("--dry-run", action="store_true", help="list what would be deleted and edited, change nothing")
    parser.add_argument("--force", action="store_true", help="also where git has uncommitted changes")
    arguments = parser.parse_args()
    tasks = sorted(path.stem for path in (ROOT / "configs" / "task").glob("*.yaml"))
    refusal = _refusal(arguments.task, tasks) or (
        "" if arguments.force or arguments.dry_run else _uncommitted_changes()
    )
    if refusal:
        print(f"remove_task.py: {refusal}", file=sys.stderr)
        return 1
    remaining = [task for task in tasks if task != arguments.task]
    doomed = list(dict.fromkeys(_doomed(arguments.task, tasks)))
    edited = dict(_edited(arguments.task, remaining, doomed))
    for path in doomed:
        print(f"delete  {path.relative_to(ROOT)}{'/' if path.is_dir() else ''}")
    for path, text in edited.items():
        print(f"{'edit   ' if text else 'delete '} {path.relative_to(ROOT)}")
    if not arguments.dry_run:
        _apply(doomed, edited)
        subprocess.run([sys.executable, str(ROOT / "scripts" / "docs_tables.py")], check=True)
    return 0


def _refusal(task: str, tasks: list[str]) -> str:
    if task not in tasks:
        return f"there is no task {task!r}; the tasks are {', '.join(tasks)}"
    if tasks == [task]:
        return f"{task} is the last task: the house would be empty"
    return ""


def _uncommitted_changes() -> str:
    status = ["git", "-C", str(ROOT), "status", "--porcelain"]
    changes = subprocess.run(status, capture_output=True, text=True).stdout if (ROOT / ".git").exists() else ""
    return "commit or stash your changes first (git status), or add --force" if changes.strip() else ""


def _doomed(task: str, tasks: list[str]) -> Iterator[Path]:
    """Folders and files that belong to the task alone, and experiments that name it beside another task."""
    folders = [ROOT / parent / task for parent in ("src/hydraudio/tasks", "tests/tasks", "scripts", "docs")]
    groups = [ROOT / "configs", *(path for path in sorted((ROOT / "configs").rglob("*")) if path.is_dir())]
    folders += [group / task for group in groups if group.name not in tasks]
    yield from (folder for folder in folders if folder.is_dir())
    yield ROOT / "configs/task" / f"{task}.yaml"
    for path in sorted([*ROOT.glob("configs/experiment/**/*.yaml"), *ROOT.glob("configs/hparams_search/**/*.yaml")]):
        if path.parent.name != task and re.search(rf"\b{task}/|hydraudio\.tasks\.{task}\b", path.read_text()):
            yield path


def _edited(task: str, remaining: list[str], doomed: list[Path]) -> Iterator[tuple[Path, str]]:
    """Shared files that the removal changes, with their new text; "" where nothing but a title remains of a page."""
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        name = relative.as_posix()
        if name in NEVER or OTHERS.search(name) or path.suffix not in SHARED or not path.is_file():
            continue
        if any(path.is_relative_to(gone) for gone in doomed):
            continue
        text = path.read_text(encoding="utf-8")
        try:
            new = without_task(text, task)
        except ValueError as error:
            raise SystemExit(f"remove_task.py: {name}: {error}") from None
        if name == "configs/train.yaml":
            new = re.sub(rf"^(  - task: ){task}\b", rf"\g<1>{remaining[0]}", new, flags=re.MULTILINE)
        if new != text:
            bare = path.suffix == ".md" and not re.sub(r"^#.*$|^<!--.*-->$", "", new, flags=re.MULTILINE).strip()
            yield path, "" if bare else new


def without_task(text: str, task: str) -> str:
    """The text without the parts that need the task, and without the second of two empty lines that this leaves.

    >>> without_task("a\\n\\n# task: x\\nb\\n# end task\\n\\nc\\n", "x")
    'a\\n\\nc\\n'
    """
    kept: list[str] = []
    opened: str | None = None  # the names of the part that we are in
    gap = False  # a part was left out just before
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        begin = BEGIN.fullmatch(line)
        if begin and opened is not None:
            raise ValueError(f"line {number}: a part of a task begins inside another")
        if begin:
            opened = begin["names"]
        ours = opened is not None and task in opened.split(", ")
        if END.fullmatch(line):
            if opened is None:
                raise ValueError(f"line {number}: a part ends that never began")
            opened, gap = None, gap or ours
        if ours or (gap and not line.strip() and not "".join(kept[-1:]).strip()):
            continue
        gap = False
        kept.append(INLINE.sub(lambda found: "" if task in found["names"].split(", ") else found.group(), line))
    if opened is not None:
        raise ValueError(f"the part '# task: {opened}' has no '# end task'")
    return "".join(kept)


def _apply(doomed: list[Path], edited: dict[Path, str]) -> None:
    for path in doomed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path, text in edited.items():
        path.write_text(text, encoding="utf-8") if text else path.unlink()


if __name__ == "__main__":
    sys.exit(main())
