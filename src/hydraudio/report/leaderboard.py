"""All tested runs below a folder in one table; runs that differ in nothing but the seed are one row."""

from __future__ import annotations

import copy
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra_preflight.errors import ConfigError
from hydra_preflight.foreign import read_file
from hydraudio.core.spec import Metric, TaskSpec, load_spec
from hydraudio.report.page import Section, render, write_page
from hydraudio.report.run_scores import RunScores, read_run_scores
from hydraudio.report.tables import EN_DASH, Cell, Row, TableData, TableRow, count, is_number, number

# What does not change the result of a run, or only through the seed.
_IGNORED = ("seed", "paths", "report", "logger", "extras", "tags", "ckpt_path", "hydra")


class IncompleteRun(Exception):
    """A run folder without results; the message says what is missing."""


class FailedStart(Exception):
    """A run folder that was left before anything was logged."""


@dataclass(frozen=True)
class Run:
    """A run folder whose best weights were tested.

    scores: by name of the metric. monitor: the run's headline, one of them. duration_s: from the last start of the run
    to its last checkpoint, NaN if unknown.
    """

    folder: Path
    spec: TaskSpec
    config: dict[str, Any]
    scores: dict[str, float]
    monitor: str
    n_steps: int
    duration_s: float

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"


@dataclass(frozen=True)
class Cost:
    """What a network costs: parameters, MACs per second of audio, seconds of computation per second of audio."""

    n_parameters: int
    macs_per_s: float
    real_time_factor: float


@dataclass(frozen=True)
class Entry:
    """Runs with equal configurations, of one seed each; the newest where a seed was run several times."""

    runs: tuple[Run, ...]

    @property
    def spec(self) -> TaskSpec:
        return self.runs[0].spec

    @property
    def monitor(self) -> str:
        return self.runs[0].monitor

    @property
    def best(self) -> Run:
        return max(self.runs, key=lambda run: self._sign(self.monitor) * run.scores[self.monitor])

    @property
    def order(self) -> tuple[int, str, float]:
        """Sorting key among the entries of a task: equal headlines side by side, the best first."""
        metric = self.spec.metric(self.monitor)
        place = self.spec.metrics.index(metric) if metric else len(self.spec.metrics)
        return place, self.monitor, -self._sign(self.monitor) * self.mean(self.monitor)

    def best_value(self, metric: str) -> float:
        values = [self._sign(metric) * value for value in self.values(metric)]
        return self._sign(metric) * max(values) if values else math.nan

    def _sign(self, metric: str) -> int:
        found = self.spec.metric(metric)
        return -1 if found is not None and found.better == "lower" else 1

    @property
    def config(self) -> dict[str, Any]:
        return self.runs[0].config

    def values(self, metric: str) -> list[float]:
        return [run.scores[metric] for run in self.runs if metric in run.scores]

    def mean(self, metric: str) -> float:
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, metric: str) -> float:
        """Return the standard deviation over the seeds, NaN for a single one."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan


def collect(log_dir: Path, trusted_prefixes: Sequence[str] = ()) -> tuple[list[Run], dict[Path, str]]:
    """Tested training runs below a folder, and the other ones with the reason why they are left out.

    Evaluations, which have a configuration but train nothing, are neither, and nor are failed starts, which logged
    nothing.

    Args:
        log_dir: holds <experiment>/<run>/.
        trusted_prefixes: packages beside ours whose tasks may be looked up.
    """
    runs, incomplete = [], {}
    for folder in sorted(_run_folders(log_dir)):
        try:
            run = read_run(folder, trusted_prefixes)
        except IncompleteRun as reason:
            incomplete[folder] = str(reason)
        except FailedStart:
            continue
        else:
            runs += [run] if run else []
    return runs, incomplete


def _run_folders(log_dir: Path) -> Iterator[Path]:
    if not log_dir.is_dir():
        raise FileNotFoundError(f"there is no folder {log_dir}; runs are in logs/ or where HYDRAUDIO_LOG_DIR points")
    for parent in (path for path in log_dir.iterdir() if path.is_dir()):
        yield from (path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())


def read_run(folder: Path, trusted_prefixes: Sequence[str] = ()) -> Run | None:
    """Return the run in a folder; None if it is no training.

    Raises:
        IncompleteRun: it has no readable configuration, no checkpoint or no test.
        FailedStart: it logged nothing.
    """
    config = _read_config(folder)
    if "model" not in config or "seed" not in config:
        return None
    if not (folder / "metrics.csv").is_file():
        raise FailedStart("stopped before anything was logged")
    if not (folder / "checkpoints" / "best.ckpt").is_file():
        raise IncompleteRun("no checkpoints/best.ckpt: stopped before the first validation, or another callback")
    found = _read_scores(folder, config)
    return Run(
        folder=folder,
        spec=_read_spec(config, trusted_prefixes),
        config=config,
        scores={name: interval.mean for name, interval in found.scores.items()},
        monitor=found.monitor.rpartition("/")[2],
        n_steps=_n_steps(folder),
        duration_s=_duration_s(folder),
    )


def _n_steps(folder: Path) -> int:
    """Optimizer steps of the whole run, from its last checkpoint."""
    from hydraudio.core.checkpoints import read_checkpoint

    files = [folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt")]
    try:
        return int(read_checkpoint(next(file for file in files if file.is_file()), mmap=True)["global_step"])
    except ValueError as error:
        raise IncompleteRun(str(error)) from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        raise FailedStart("no config.yaml: stopped before the run began")
    try:
        return read_file(path)
    except ConfigError as error:
        raise IncompleteRun(f"config.yaml is damaged: {str(error).splitlines()[0]}") from error


def _read_spec(config: Mapping[str, Any], trusted_prefixes: Sequence[str]) -> TaskSpec:
    try:
        return load_spec(config["task"]["spec"], trusted_prefixes)
    except (KeyError, TypeError) as error:
        raise IncompleteRun("config.yaml names no task.spec: written by an earlier revision") from error
    except ValueError as error:
        raise IncompleteRun(str(error)) from error


def _read_scores(folder: Path, config: Mapping[str, Any]) -> RunScores:
    try:
        found = read_run_scores(folder)
    except FileNotFoundError as error:
        raise IncompleteRun("not tested" + ("" if config.get("test", True) else " (test=false)")) from error
    except ValueError as error:
        raise IncompleteRun(str(error)) from error
    if found.monitor.rpartition("/")[2] not in found.scores:
        raise IncompleteRun(f"the test gave no {found.monitor.rpartition('/')[2]}")
    return found


def _duration_s(folder: Path) -> float:
    """From the last start, which writes config.yaml, to the last checkpoint."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return math.nan
    seconds = last.stat().st_mtime - (folder / "config.yaml").stat().st_mtime
    return seconds if seconds > 0 else math.nan


def group(runs: Sequence[Run]) -> list[Entry]:
    """Group runs by configuration, those of a task together, best first."""
    found: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.folder):  # named by date: the newest of a seed is last
        found.setdefault(_key(run.config), {})[run.seed] = run
    entries = [Entry(tuple(by_seed[seed] for seed in sorted(by_seed))) for by_seed in found.values()]
    return sorted(entries, key=lambda entry: (entry.spec.name, *entry.order))


def by_task(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the entries of each task."""
    tasks: dict[str, list[Entry]] = {}
    for entry in entries:
        tasks.setdefault(entry.spec.name, []).append(entry)
    return tasks


def _key(config: dict[str, Any]) -> str:
    reduced = {name: copy.deepcopy(value) for name, value in config.items() if name not in _IGNORED}
    if isinstance(reduced.get("data"), dict):
        reduced["data"].pop("seed", None)
    return json.dumps(reduced, sort_keys=True, default=str)


@dataclass(frozen=True)
class TaskTable:
    """The entries of one task with what their networks cost, best first."""

    entries: Sequence[Entry]
    costs: Sequence[Cost]

    @property
    def spec(self) -> TaskSpec:
        return self.entries[0].spec

    @property
    def title(self) -> str:
        return self.spec.name.capitalize()

    @property
    def metrics(self) -> list[Metric]:
        """Those with a column: the main ones that an entry has."""
        return [m for m in self.spec.metrics if m.main and any(entry.values(m.name) for entry in self.entries)]

    def rows(self) -> list[Row]:
        """Return one row per entry for the CSV file, columns in order."""
        return [self._row(entry, cost) for entry, cost in zip(self.entries, self.costs, strict=True)]

    def table(self) -> TableData:
        """Return the table for the terminal and the page; numbers that one seed cannot give are dashes."""
        labels = [metric.label for metric in self.metrics]
        columns = ("Experiment", "Corpus", "Seeds", *labels, "Params", "GMAC/s", "RTF", "Hours", "Steps")
        return TableData(columns, tuple(TableRow(tuple(self._cells(row))) for row in self.rows()))

    @property
    def checkpoints(self) -> list[str]:
        """Where the best weights of each row lie."""
        return [f"{entry.config.get('name')}: {entry.best.checkpoint}" for entry in self.entries]

    def _row(self, entry: Entry, cost: Cost) -> Row:
        best, data = entry.best, entry.config.get("data", {})
        row: Row = {
            "network": str(entry.config["model"].get("net", {}).get("_target_", "")).rpartition(".")[2],
            "experiment": entry.config.get("name"),
            "corpus": str(data.get("_target_", "")).rpartition(".")[2].removesuffix("DataModule"),
            "problem": _problem(self.spec.problem, data.get(self.spec.problem)),
            "n_seeds": len(entry.runs),
        }
        for name in (metric.name for metric in self.metrics):
            row |= {f"{name}_best": entry.best_value(name), f"{name}_mean": entry.mean(name)}
            row[f"{name}_std"] = entry.deviation(name)
        return row | {
            "n_parameters": cost.n_parameters,
            "gmacs_per_s": cost.macs_per_s / 1e9,
            "real_time_factor": cost.real_time_factor,
            "training_h": best.duration_s / 3600,
            "steps": best.n_steps,
            "checkpoint": str(best.checkpoint),
        }

    def _cells(self, row: Row) -> Iterator[Cell]:
        yield Cell(str(row["experiment"]), str(row["network"]))
        yield Cell(str(row["corpus"]), str(row["problem"] or ""))
        yield Cell(str(row["n_seeds"]))
        for metric in self.metrics:
            deviation, digits = row[f"{metric.name}_std"], metric.digits
            note = f"± {number(deviation, digits)}, best {number(row[f'{metric.name}_best'], digits)}"
            yield Cell(number(row[f"{metric.name}_mean"], digits), note if is_number(deviation) else "")
        n_parameters, steps = (row[name] for name in ("n_parameters", "steps"))
        yield Cell(count(n_parameters) if isinstance(n_parameters, int) and n_parameters else EN_DASH)
        yield Cell(number(row["gmacs_per_s"], 2))
        yield Cell(number(row["real_time_factor"], 3))
        yield Cell(number(row["training_h"], 2))
        yield Cell(count(steps) if isinstance(steps, int) else EN_DASH)


def _problem(key: str, value: object) -> str:
    """What the corpus was asked: a word, or how many there are."""
    if isinstance(value, int | list):
        return f"{len(value) if isinstance(value, list) else value} {key}"
    return str(value or "")


def write_leaderboard(path: Path, tables: Sequence[TaskTable], incomplete: Mapping[Path, str], machine: str) -> Path:
    """Write the page.

    Args:
        path: of the page.
        tables: one per task.
        incomplete: folders of runs without results, and why.
        machine: what the real-time factors were measured on.
    """
    sections = [Section(t.spec.name, t.title, render("leaderboard.html", "part", t, machine)) for t in tables]
    if incomplete:
        sections.append(Section("incomplete", "Left out", render("leaderboard.html", "left_out", incomplete)))
    return write_page(path, "Leaderboard", "All tested runs, best first", sections)
