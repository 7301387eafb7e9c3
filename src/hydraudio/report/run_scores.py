"""`metrics.json` of a run folder: the scores of its test with their intervals, the same for every task."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydraudio.core.files import write_json
from hydraudio.report.tables import is_number
from hydraudio.stats.intervals import Interval

FILE = "metrics.json"


@dataclass(frozen=True)
class RunScores:
    """What a test has found.

    Attributes:
        task: name of the task.
        monitor: the headline of the run, ``stage/name``.
        scores: name of each metric, without a stage, -> its value with interval and number of items. Metrics without a
            value are not in it.
        information: names and values of what was tested, as the report shows them.
    """

    task: str
    monitor: str
    scores: Mapping[str, Interval]
    information: Mapping[str, str] = field(default_factory=dict)


def write_run_scores(folder: Path, found: RunScores) -> Path:
    """Write the file into a run folder, atomically; null stands for what has no number."""
    content = {
        "task": found.task,
        "monitor": found.monitor,
        "scores": {name: interval_entry(i) for name, i in found.scores.items() if is_number(i.mean)},
        "information": dict(found.information),
    }
    return write_json(folder / FILE, finite(content))


def read_run_scores(folder: Path) -> RunScores:
    """Read what :func:`write_run_scores` wrote.

    Raises:
        FileNotFoundError: the run was not tested.
        ValueError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; test the run first to write it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scores = {str(name): _interval(entry) for name, entry in content["scores"].items()}
        return RunScores(str(content["task"]), str(content["monitor"]), scores, dict(content.get("information", {})))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error!r}; test the run again") from error


def interval_entry(interval: Interval) -> dict[str, float | int]:
    """Return the parts of an interval by name."""
    return {"value": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _interval(entry: Mapping[str, Any]) -> Interval:
    low, high = (math.nan if entry.get(end) is None else float(entry[end]) for end in ("low", "high"))
    return Interval(float(entry["value"]), low, high, int(entry.get("n", 0)))


def finite(content: Any) -> Any:
    """Return the content with None in place of NaN, which JSON does not know."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
