"""All tested runs in one table, best first: python scripts/results/leaderboard.py [--log-dir logs].

Runs that differ in nothing but the seed are one row. Prints a table per task, best headline (task.monitor) first, and
writes leaderboard_<task>.csv and leaderboard.html into the folder of the runs. What a network costs is computed once
and kept: the real-time factor is measured on this machine, with one item.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import math
import os
import platform
from pathlib import Path
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import torch  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.errors import ConfigError  # noqa: E402
from hydra_preflight.foreign import admit  # noqa: E402
from hydraudio.core.files import sha256_of_json, write_json  # noqa: E402
from hydraudio.core.task import count_parameters  # noqa: E402
from hydraudio.nn.complexity import count_macs, real_time_factor  # noqa: E402
from hydraudio.report.leaderboard import Cost, Entry, TaskTable, by_task, collect, group, write_leaderboard  # noqa: E402
from hydraudio.report.tables import rich_table, write_csv  # noqa: E402
from hydraudio.trained import build_task  # noqa: E402

log = logging.getLogger(__name__)

EXCERPT_S = 4.0
MIN_WIDTH = 120  # characters, also where the output is no terminal
UNKNOWN = Cost(0, math.nan, math.nan)


def main() -> None:
    """Collect, measure, print and write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs, incomplete = collect(arguments.log_dir, arguments.trusted_targets)
    if not runs:
        raise SystemExit(
            f"{arguments.log_dir}: no tested run; train one: make train ({len(incomplete)} are incomplete)"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = CostCache(arguments.log_dir / ".costs.json", device, arguments.trusted_targets)
    tables = [TaskTable(found, [cache.cost(entry) for entry in found]) for found in by_task(group(runs)).values()]

    console = Console(width=max(Console().width, MIN_WIDTH))
    for task in tables:
        console.print(rich_table(task.title, task.table()))
        rows = task.rows()
        write_csv(arguments.log_dir / f"leaderboard_{task.spec.name}.csv", rows, list(rows[0]))
    for folder, reason in list(incomplete.items())[: arguments.n_incomplete]:
        console.print(Text(f"left out: {folder}: {reason}"), soft_wrap=True)
    if len(incomplete) > arguments.n_incomplete:
        console.print(Text(f"... and {len(incomplete) - arguments.n_incomplete} others, all in leaderboard.html"))
    path = write_leaderboard(arguments.log_dir / "leaderboard.html", tables, incomplete, cache.machine)
    console.print(Text(f"Page: {path}"), soft_wrap=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("HYDRAUDIO_LOG_DIR", ROOT / "logs"))
    parser.add_argument("--log-dir", type=Path, default=default, help="folder that holds <experiment>/<run>/")
    parser.add_argument("--n-incomplete", type=int, default=10, help="incomplete runs to print")
    parser.add_argument("--trusted-targets", nargs="*", default=[], help="packages of yours that networks come from")
    return parser.parse_args()


class CostCache:
    """Costs of networks, kept in a file by network, sample rate and machine."""

    def __init__(self, path: Path, device: torch.device, trusted: list[str]) -> None:
        self.path, self.device, self.trusted = path, device, trusted
        self.machine = f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        self._known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    @functools.cached_property
    def paths(self) -> Any:
        """The folders of this machine."""
        return compose_run(["ckpt_path=."], self.path.parent, "eval.yaml").paths

    def cost(self, entry: Entry) -> Cost:
        """Of an entry's networks; unknown, with a line in the log, where they cannot be built any more."""
        key = sha256_of_json([entry.config["model"], self.machine], default=str)
        if key not in self._known:
            try:
                cost = self._measure(entry.config)
            except (ConfigError, HydraException, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                log.warning("%s: no costs, its network does not run: %s", entry.best.folder, error)
                return UNKNOWN
            self._known[key] = dataclasses.asdict(cost)
            write_json(self.path, self._known, indent=1)
        return Cost(**self._known[key])

    def _measure(self, config: dict[str, Any]) -> Cost:
        cfg = admit({"model": config["model"]}, "config.yaml", paths=self.paths, trusted_prefixes=self.trusted)
        task = build_task(cfg).eval()
        module, sample_rate = task.export_module().module, task.sample_rate
        macs = count_macs(module, round(EXCERPT_S * sample_rate)) / EXCERPT_S
        factor = real_time_factor(module.to(self.device), sample_rate, EXCERPT_S)
        return Cost(sum(count_parameters(network) for network in task.networks().values()), macs, factor)


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
