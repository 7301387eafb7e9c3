"""Compose and check every YAML file of configs/: python scripts/check_configs.py [--targets] [--processes 2].

Each option of each group is put into every primary configuration that has the group, with the task that it belongs to,
each experiment is combined with each debug option, and every job of every search is composed; all are checked as
before a run. Files that nothing can choose are reported. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.catalogue import Case, Catalogue, Result  # noqa: E402


def main() -> int:
    """Check everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-dir", type=Path, default=ROOT / "configs", help="folder of the configurations")
    parser.add_argument("--targets", action="store_true", help="also import every target and bind its arguments (slow)")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="1 = in this process alone")
    arguments = parser.parse_args()
    catalogue = Catalogue(arguments.config_dir, arguments.targets)
    results: dict[Case, Result] = {}
    start, cases = time.perf_counter(), list(catalogue.first_cases())
    while cases:
        results.update(checked(catalogue, cases, arguments.processes))
        cases = list(catalogue.further_cases(results))
    seconds = time.perf_counter() - start
    failures = list(found(catalogue, results))
    for failure in failures:
        print(failure, file=sys.stderr)
    n_jobs = sum(result.n_jobs for result in results.values())
    each = sum(result.seconds for result in results.values()) / max(n_jobs, 1)
    print(
        f"{len(results)} cases with {n_jobs} configurations checked, {len(failures)} failures, {seconds:.1f} s; "
        f"one configuration takes {each:.3f} s of a core"
    )
    return 1 if failures else 0


def checked(catalogue: Catalogue, cases: list[Case], n_processes: int) -> Iterable[tuple[Case, Result]]:
    """Each case with its result."""
    if n_processes == 1:
        return zip(cases, map(catalogue.check, cases), strict=True)
    with get_context("fork").Pool(n_processes) as pool:
        return zip(cases, pool.map(catalogue.check, cases, chunksize=4), strict=True)


def found(catalogue: Catalogue, results: dict[Case, Result]) -> Iterator[str]:
    """What is wrong, the same message once with the first case that shows it."""
    messages: dict[str, Case] = {}
    for case, result in results.items():
        if result.failure is not None:
            messages.setdefault(result.failure, case)
    yield from (f"[{case}]\n{message}" for message, case in messages.items())
    for path in catalogue.unreached(results.values()):
        yield f"{path}: nothing chooses this file and no other file inherits from it"


if __name__ == "__main__":
    sys.exit(main())
