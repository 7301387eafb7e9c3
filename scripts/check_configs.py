"""Compose and check every YAML file of configs/: python scripts/check_configs.py [--targets].

Each option of each group is put into every primary configuration that has the group, and checked as before a run.
Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.catalogue import Case, cases, check_case, unreachable  # noqa: E402
from hydra_preflight.errors import ConfigError  # noqa: E402


def main() -> int:
    """Check everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-dir", type=Path, default=ROOT / "configs", help="folder of the configurations")
    parser.add_argument("--targets", action="store_true", help="also import every target and bind its arguments (slow)")
    arguments = parser.parse_args()
    all_cases = list(cases(arguments.config_dir))
    failures = list(_failures(arguments.config_dir, all_cases, arguments.targets))
    for failure in dict.fromkeys(failures):
        print(failure, file=sys.stderr)
    print(f"{len(all_cases)} configurations checked, {len(set(failures))} failures")
    return 1 if failures else 0


def _failures(config_dir: Path, all_cases: list[Case], targets: bool) -> Iterator[str]:
    for path in unreachable(config_dir, all_cases):
        yield f"{path}: no primary configuration has this group: it can never be chosen"
    for case in all_cases:
        try:
            check_case(config_dir, case, targets=targets)
        except ConfigError as error:
            yield f"[{case}]\n{error}"


if __name__ == "__main__":
    sys.exit(main())
