"""Check a corpus: python scripts/data/check.py data=TASK/CORPUS data.root=FOLDER [key=value] [--processes N]

Reads the whole corpus once and lists every defect; the exit status is 1 if there is any. The overrides are those of
src/train.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

if TYPE_CHECKING:
    from hydraudio.core.defects import Defect


def main() -> int:
    arguments = _parse_arguments()
    from rich.console import Console

    console = Console(soft_wrap=True)
    try:
        data = _make_datamodule(arguments.overrides)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    defects = _check(data, arguments.processes)
    for defect in defects:
        console.print(f"{defect.severity:7s}  {defect.kind:18s}  {defect.message}", markup=False, highlight=False)
    console.print(_summary(defects), markup=False, highlight=False)
    return 1 if defects else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for src/train.py, e.g. data=TASK/CORPUS data.root=FOLDER")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one per CPU")
    return parser.parse_intermixed_args()


def _make_datamodule(overrides: list[str]) -> Any:
    from hydra.utils import instantiate

    from hydra_preflight.compose import compose_run

    folders = [line.removeprefix("data=").partition("/")[0] for line in overrides if line.startswith("data=")]
    tasks = [f"task={name}" for name in folders if (ROOT / "configs" / "task" / f"{name}.yaml").is_file()]
    data = instantiate(compose_run([*tasks, *overrides], ROOT / "logs").data, _convert_="all")
    if not hasattr(data, "check"):
        raise ValueError(f"{type(data).__name__} has no check of its corpus")
    return data


def _check(data: Any, n_processes: int) -> list[Defect]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("rows", total=None)
        return data.check(
            n_processes=n_processes,
            on_row=lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _summary(defects: list[Defect]) -> str:
    if not defects:
        return "no defects"
    severities = Counter(defect.severity for defect in defects)
    listed = ", ".join(_count(severities[name], name) for name in ("error", "warning"))
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(each.kind for each in defects).most_common())
    return f"{_count(len(defects), 'defect')} ({listed}): {kinds}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
