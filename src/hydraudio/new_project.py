"""Begin a project of one's own: python -m hydraudio.new_project NAME [--task TASK].

Writes a folder with a network, a corpus, their configuration files, an experiment, tests and a README with the
commands. It trains at once, and nothing of the house is touched. The files come from `hydraudio/project` and from the
folder `project` of the task, which wins where both have one; they are a project by the name of `my_project`.
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
NAME, TASK = "my_project", "my_task"
"""What stands in the files for the names of the project and of the task."""


def main() -> int:
    """Write the project; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", type=Path, help="of the folder to write and of the package in it")
    parser.add_argument("--task", choices=list(tasks()), default=next(tasks()), help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        folder = write_project(arguments.name, arguments.task)
    except ValueError as error:
        sys.stderr.write(f"new_project: {error}\n")
        return 1
    sys.stdout.write(f"cd {folder}\npython -m hydraudio.train\n")
    return 0


def tasks() -> Iterator[str]:
    """Names of the tasks that a project can begin with; first the one that a training without arguments has."""
    train = (PACKAGE / "configs" / "train.yaml").read_text(encoding="utf-8")
    default = re.search(r"^  - task: (\w+)", train, re.MULTILINE)
    names = sorted(path.parent.name for path in PACKAGE.glob("tasks/*/project"))
    return iter(sorted(names, key=lambda name: not (default and name == default[1])))


def write_project(folder: Path, task: str) -> Path:
    """Write a project.

    Args:
        folder: to make; its name is that of the project and of its package.
        task: one of `tasks`.

    Returns:
        The folder.

    Raises:
        ValueError: it exists, or its name is not one that a package can have, or that of a package that is installed.
    """
    name = folder.name
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another name")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be the name of a package: use small letters, digits and _, a letter first")
    if find_spec(name) is not None:
        raise ValueError(f"a package called {name} is installed already; choose another name")
    files: dict[str, Path] = {}
    for template in (PACKAGE / "project", PACKAGE / "tasks" / task / "project"):
        paths = (path for path in template.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        files |= {path.relative_to(template).as_posix(): path for path in paths}
    for place, path in files.items():
        target = folder / _named(place, name, task).replace("gitignore", ".gitignore")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_named(path.read_text(encoding="utf-8"), name, task), encoding="utf-8")
    return folder


def _named(text: str, name: str, task: str) -> str:
    return text.replace(NAME, name).replace(TASK, task)


if __name__ == "__main__":
    sys.exit(main())
