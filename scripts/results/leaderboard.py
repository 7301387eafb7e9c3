"""All tested runs in one table, best first: python scripts/results/leaderboard.py [--log-dir logs].

Runs that differ in nothing but the seed are one row. Prints a table of the separation runs and one of the emotion runs
and writes leaderboard.csv, leaderboard_emotion.csv and leaderboard.html into the folder of the runs. What a separation
network costs is computed once and kept: the real-time factor is measured on this
machine, with one item.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from hydra.utils import instantiate  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from hydra_preflight import check_targets  # noqa: E402
from hydra_preflight.errors import ConfigError  # noqa: E402
from hydraudio.core.files import sha256_of_json, write_json, write_text  # noqa: E402
from hydraudio.nn.complexity import count_macs, real_time_factor  # noqa: E402
from hydraudio.report.leaderboard import Cost, Entry, collect, group, leaderboard_page, leaderboard_table, rows  # noqa: E402
from hydraudio.report.tables import rich_table, write_csv  # noqa: E402
from hydraudio.tasks.emotion.report import leaderboard as emotion_leaderboard  # noqa: E402

log = logging.getLogger(__name__)

EXCERPT_S = 4.0
MIN_WIDTH = 120  # characters, also where the output is no terminal
UNKNOWN = Cost(0, math.nan, math.nan)


def main() -> None:
    """Collect, measure, print and write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs, incomplete = collect(arguments.log_dir)
    if not runs:
        raise SystemExit(
            f"{arguments.log_dir}: no tested run; train one: make train ({len(incomplete)} are incomplete)"
        )
    entries = group(runs)
    emotions = emotion_leaderboard.rows([entry for entry in entries if emotion_leaderboard.is_emotion(entry)])
    entries = [entry for entry in entries if not emotion_leaderboard.is_emotion(entry)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = CostCache(arguments.log_dir / ".costs.json", device, arguments.trusted_targets)
    found = rows(entries, [cache.cost(entry) for entry in entries])

    console = Console(width=max(Console().width, MIN_WIDTH))
    if found:
        console.print(rich_table("Separation", leaderboard_table(found)))
    if emotions:
        console.print(rich_table("Emotions", emotion_leaderboard.leaderboard_table(emotions)))
    for folder, reason in list(incomplete.items())[: arguments.n_incomplete]:
        console.print(Text(f"left out: {folder}: {reason}"), soft_wrap=True)
    if len(incomplete) > arguments.n_incomplete:
        console.print(Text(f"... and {len(incomplete) - arguments.n_incomplete} others, all in leaderboard.html"))
    for name, rows_of_task in (("leaderboard.csv", found), ("leaderboard_emotion.csv", emotions)):
        if rows_of_task:
            write_csv(arguments.log_dir / name, rows_of_task, list(rows_of_task[0]))
    document = leaderboard_page(found, incomplete, cache.machine, emotion_leaderboard.sections(emotions))
    path = write_text(arguments.log_dir / "leaderboard.html", document)
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

    def cost(self, entry: Entry) -> Cost:
        """Of an entry's network; unknown, with a line in the log, where it cannot be built any more."""
        net, sample_rate = entry.config["model"]["net"], int(entry.config["model"]["sample_rate"])
        key = sha256_of_json([net, sample_rate, self.machine])
        if key not in self._known:
            try:
                cost = self._measure(net, sample_rate)
            except (ConfigError, HydraException, RuntimeError, TypeError, ValueError) as error:  # of another revision
                log.warning("%s: no costs, its network does not run: %s", entry.best.folder, error)
                return UNKNOWN
            self._known[key] = dataclasses.asdict(cost)
            write_json(self.path, self._known, indent=1)
        return Cost(**self._known[key])

    def _measure(self, config: dict[str, Any], sample_rate: int) -> Cost:
        cfg = OmegaConf.create({"net": config})
        check_targets(cfg, trusted_prefixes=self.trusted, origin="config.yaml")
        net = instantiate(cfg.net, _convert_="all").eval()
        macs = count_macs(net, round(EXCERPT_S * sample_rate)) / EXCERPT_S
        factor = real_time_factor(net.to(self.device), sample_rate, EXCERPT_S)
        return Cost(sum(p.numel() for p in net.parameters() if p.requires_grad), macs, factor)


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
