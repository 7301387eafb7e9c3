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

import yaml

from hydraudio.report.page import Section, card, page, paragraph, problem_list, table
from hydraudio.report.tables import EN_DASH, Cell, Row, TableData, TableRow, count, floats, is_number, number, read_csv

METRICS = {"si_sdri": "SI-SDRi", "pesq": "PESQ", "stoi": "STOI"}
_DIGITS = {"si_sdri": 2, "pesq": 2, "stoi": 3}
_MAIN = ("si_sdri", "macro_f1", "ccc")  # the first that a run has decides which of two runs is better
# What does not change the result of a run, or only through the seed.
_IGNORED = ("seed", "paths", "report", "logger", "extras", "tags", "ckpt_path", "hydra")


class IncompleteRun(Exception):
    """A run folder without results; the message says what is missing."""


@dataclass(frozen=True)
class Run:
    """A run folder whose best weights were tested.

    scores: of separation those of `METRICS` that the report has, means of variants; of emotions all that the report
    has. duration_s: from the last start of the run to its last checkpoint, NaN if unknown.
    """

    folder: Path
    config: dict[str, Any]
    scores: dict[str, float]
    n_steps: int
    duration_s: float

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def main_metric(self) -> str:
        return next(metric for metric in _MAIN if metric in self.scores)

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
    def best(self) -> Run:
        return max(self.runs, key=lambda run: run.scores[run.main_metric])

    @property
    def main_metric(self) -> str:
        return self.runs[0].main_metric

    @property
    def config(self) -> dict[str, Any]:
        return self.runs[0].config

    def values(self, metric: str) -> list[float]:
        return [run.scores[metric] for run in self.runs if metric in run.scores]

    def mean(self, metric: str) -> float:
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, metric: str) -> float:
        """Standard deviation over the seeds, NaN for a single one."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan


def collect(log_dir: Path) -> tuple[list[Run], dict[Path, str]]:
    """Tested training runs below a folder, and the other ones with the reason why they are left out.

    Evaluations, which have a configuration but train nothing, are neither.
    """
    runs, incomplete = [], {}
    for folder in sorted(_run_folders(log_dir)):
        try:
            run = read_run(folder)
        except IncompleteRun as reason:
            incomplete[folder] = str(reason)
        else:
            runs += [run] if run else []
    return runs, incomplete


def _run_folders(log_dir: Path) -> Iterator[Path]:
    if not log_dir.is_dir():
        raise FileNotFoundError(f"there is no folder {log_dir}; runs are in logs/ or where HYDRAUDIO_LOG_DIR points")
    for parent in (path for path in log_dir.iterdir() if path.is_dir()):
        yield from (path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())


def read_run(folder: Path) -> Run | None:
    """The run in a folder; None if it is no training.

    Raises:
        IncompleteRun: it has no configuration, no checkpoint or no test.
    """
    config = _read_config(folder)
    if "model" not in config or "seed" not in config:
        return None
    if not (folder / "metrics.csv").is_file():
        raise IncompleteRun("stopped before anything was logged")
    if not (folder / "checkpoints" / "best.ckpt").is_file():
        raise IncompleteRun("no checkpoints/best.ckpt: stopped before the first validation, or another callback")
    return Run(folder, config, _scores(folder / "report", config), _n_steps(folder), _duration_s(folder))


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
        raise IncompleteRun("no config.yaml: stopped before the run began")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IncompleteRun(f"config.yaml is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise IncompleteRun("config.yaml is damaged: it is no mapping")
    return config


def _read_rows(path: Path) -> list[Row]:
    try:
        return read_csv(path, ("variant", "id"))
    except (UnicodeDecodeError, ValueError) as error:
        raise IncompleteRun(f"{path.name} is damaged: {error}") from error


def _scores(report: Path, config: Mapping[str, Any]) -> dict[str, float]:
    """Means of variants, from variants.csv or, where that is missing, from items.csv; of emotions from metrics.json."""
    if (report / "metrics.json").is_file():
        return _emotion_scores(report / "metrics.json")
    if (report / "variants.csv").is_file():
        rows = [row for row in _read_rows(report / "variants.csv") if row.get("kind") == "macro"]
        scores = {metric: float(row[metric]) for row in rows for metric in METRICS if is_number(row.get(metric))}  # type: ignore[arg-type]
    elif (report / "items.csv").is_file():
        scores = _means_of_items(_read_rows(report / "items.csv"))
    else:
        raise IncompleteRun("not tested" + ("" if config.get("test", True) else " (test=false)"))
    if "si_sdri" not in scores:
        raise IncompleteRun("the report has no SI-SDRi")
    return scores


def _emotion_scores(path: Path) -> dict[str, float]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["scores"]
        scores = {name: float(entry["value"]) for name, entry in entries.items() if is_number(entry["value"])}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IncompleteRun(f"{path.name} is damaged: {error}") from error
    if not {"macro_f1", "ccc"} & set(scores):
        raise IncompleteRun("the test set had no labels")
    return scores


def _means_of_items(rows: Sequence[Row]) -> dict[str, float]:
    scored = [row for row in rows if row.get("degenerate") is not True]
    variants = sorted({str(row.get("variant")) for row in scored})
    scores = {}
    for metric in METRICS:
        groups = [floats([row for row in scored if str(row.get("variant")) == name], metric) for name in variants]
        finite = [[value for value in group if math.isfinite(value)] for group in groups]
        if finite and all(finite):
            scores[metric] = statistics.fmean(statistics.fmean(group) for group in finite)
    return scores


def _duration_s(folder: Path) -> float:
    """From the last start, which writes config.yaml, to the last checkpoint."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return math.nan
    seconds = last.stat().st_mtime - (folder / "config.yaml").stat().st_mtime
    return seconds if seconds > 0 else math.nan


def group(runs: Sequence[Run]) -> list[Entry]:
    """Group runs by configuration; best first: separation by SI-SDRi, then emotions by macro-F1, then by CCC."""
    found: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.folder):  # named by date: the newest of a seed is last
        found.setdefault(_key(run.config), {})[run.seed] = run
    entries = [Entry(tuple(by_seed[seed] for seed in sorted(by_seed))) for by_seed in found.values()]
    return sorted(entries, key=lambda entry: (_MAIN.index(entry.main_metric), -entry.mean(entry.main_metric)))


def _key(config: dict[str, Any]) -> str:
    reduced = {name: copy.deepcopy(value) for name, value in config.items() if name not in _IGNORED}
    if isinstance(reduced.get("data"), dict):
        reduced["data"].pop("seed", None)
    return json.dumps(reduced, sort_keys=True, default=str)


def rows(entries: Sequence[Entry], costs: Sequence[Cost]) -> list[Row]:
    """One row per entry for the CSV file, columns in order."""
    return [_row(entry, cost) for entry, cost in zip(entries, costs, strict=True)]


def _row(entry: Entry, cost: Cost) -> Row:
    config, best = entry.config, entry.best
    data = config.get("data", {})
    row: Row = {
        "network": str(config["model"].get("net", {}).get("_target_", "")).rpartition(".")[2],
        "experiment": config.get("name"),
        "corpus": str(data.get("_target_", "")).rpartition(".")[2].removesuffix("DataModule"),
        "problem": data.get("problem"),
        "n_seeds": len(entry.runs),
    }
    for metric in METRICS:
        best_value = max(entry.values(metric), default=math.nan)
        row |= {f"{metric}_best": best_value, f"{metric}_mean": entry.mean(metric)}
        row[f"{metric}_std"] = entry.deviation(metric)
    return row | {
        "n_parameters": cost.n_parameters,
        "gmacs_per_s": cost.macs_per_s / 1e9,
        "real_time_factor": cost.real_time_factor,
        "training_h": best.duration_s / 3600,
        "steps": best.n_steps,
        "checkpoint": str(best.checkpoint),
    }


def leaderboard_table(found: Sequence[Row]) -> TableData:
    """The table for the terminal and the page; numbers that one seed cannot give are dashes."""
    columns = ("Experiment", "Corpus", "Seeds", *METRICS.values(), "Params", "GMAC/s", "RTF", "Hours", "Steps")
    return TableData(columns, tuple(TableRow(tuple(_cells(row))) for row in found))


def _cells(row: Row) -> Iterator[Cell]:
    yield Cell(str(row["experiment"]), str(row["network"]))
    yield Cell(str(row["corpus"]), str(row["problem"] or ""))
    yield Cell(str(row["n_seeds"]))
    for metric, digits in _DIGITS.items():
        deviation = row[f"{metric}_std"]
        note = f"± {number(deviation, digits)}, best {number(row[f'{metric}_best'], digits)}"
        yield Cell(number(row[f"{metric}_mean"], digits), note if is_number(deviation) else "")
    yield Cell(count(int(row["n_parameters"])) if is_number(row["n_parameters"]) else EN_DASH)  # type: ignore[call-overload]
    yield Cell(number(row["gmacs_per_s"], 2))
    yield Cell(number(row["real_time_factor"], 3))
    yield Cell(number(row["training_h"], 2))
    yield Cell(count(int(row["steps"])))  # type: ignore[call-overload]


def leaderboard_page(
    found: Sequence[Row], incomplete: Mapping[Path, str], machine: str, others: Sequence[Section] = ()
) -> str:
    """The whole HTML document; others: tables of other tasks, shown after that of separation."""
    explanation = (
        "Scores: means of variants on the test set, over seeds, ± standard deviation over seeds. GMAC/s: 10⁹ "
        "multiply-accumulates per second of audio. RTF: seconds of computation per second of audio, one item, "
        f"{machine}. Hours and steps: of the best run, since its last start."
    )
    sections = []
    if found:
        sections.append(Section("table", "Separation", card(table(leaderboard_table(found)) + paragraph(explanation))))
        checkpoints = [f"{row['experiment']}: {row['checkpoint']}" for row in found]
        sections.append(Section("checkpoints", "Checkpoints", card(problem_list(checkpoints))))
    sections += others
    if incomplete:
        lines = [f"{folder}: {reason}" for folder, reason in incomplete.items()]
        sections.append(Section("incomplete", "Left out", card(problem_list(lines))))
    return page("Leaderboard", "All tested runs, best first", "", sections)
