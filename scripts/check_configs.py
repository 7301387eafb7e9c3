"""Compose and check every YAML file of configs/: python scripts/check_configs.py [--targets].

Each option of each group is put into every primary configuration that has the group, with the task that it belongs to,
each experiment is combined with each debug option, and every job of every search is composed; all are checked as
before a run. Files that nothing can choose are reported. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.catalogue import Case, Catalogue, Result  # noqa: E402


def main() -> int:
    """Check everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-dir", type=Path, default=ROOT / "configs", help="folder of the configurations")
    parser.add_argument("--targets", action="store_true", help="also import every target and bind its arguments (slow)")
    arguments = parser.parse_args()
    catalogue = Catalogue(arguments.config_dir, arguments.targets)
    results: dict[Case, Result] = {}
    start, cases = time.perf_counter(), list(catalogue.first_cases())
    while cases:
        results.update((case, catalogue.check(case)) for case in cases)
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
