"""What a task asks of a configuration: parts of one floor, and a headline that its specification knows."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import zip_longest
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_preflight.own_source import PackageSource
from hydra_preflight.problems import Problem, suggest
from hydra_preflight.project import FLOORS, STAGES, TASK_GROUP
from hydra_preflight.sources import SourceFile, Sources
from hydra_preflight.tree import walk_targets
from hydra_preflight.whitelist import has_prefix

_PARTS = {"data": "corpus", "model": "model", "report": "report", "predict": "predictor", "callbacks": "callback"}
_BETTER = {"higher": ("max", "maximize"), "lower": ("min", "minimize")}


def floor_of(target: Any) -> str | None:
    """The task whose floor defines a target; None for the ground floor and for other packages."""
    inside = isinstance(target, str) and target.startswith(f"{FLOORS}.")
    return target.split(".")[FLOORS.count(".") + 1] if inside else None


def wrong_floor(task: str, floor: str, parts: str) -> str:
    """The sentence about parts of another floor, with the remedy."""
    return (
        f"{_article(task)} {task} experiment cannot use the {floor} {parts}; for that choose {TASK_GROUP}={floor}, or "
        f"an experiment of configs/experiment/{floor}."
    )


def foreign_parts(tree: dict[str, Any], sources: Sources) -> list[Problem]:
    """One problem per floor other than that of the task: what belongs to it, who chose it, and the remedy.

    A target inside a part that an experiment's own file names is meant: there, two floors may meet.
    """
    task = _task(tree).get("name")
    if not isinstance(task, str):
        return []
    found: dict[str, dict[str, str]] = {}  # floor -> key -> part in words
    for key, node in walk_targets(tree):
        floor = floor_of(node["_target_"])
        parts = found.setdefault(floor, {}) if floor and floor != task else None
        if parts is not None and not _is_meant(key, sources) and not any(key.startswith(f"{k}.") for k in parts):
            parts[key] = _in_words(key, sources)
    problems = []
    for floor, parts in found.items():
        for key in list(parts)[:1]:
            text = wrong_floor(task, floor, " and the ".join(dict.fromkeys(parts.values())))
            problems.append(Problem(_origin(key, sources), key, text))
    return problems


def _is_meant(key: str, sources: Sources) -> bool:
    file = sources.setter(f"{key}._target_")
    return key.split(".")[0] in ("data", "model") and "." in key and file is not None and file.in_delta_group


def _choice(key: str, sources: Sources) -> tuple[SourceFile, str, str] | None:
    """The file that sets a target, and the group and option that brought it."""
    file = sources.setter(f"{key}._target_")
    choice = sources.choice(file) if file and not file.in_delta_group else None
    return (file, *choice) if file and choice else None


def _in_words(key: str, sources: Sources) -> str:
    choice = _choice(key, sources)
    kind = _PARTS.get(key.split(".")[0], "target")
    return f"{kind} ({choice[1]}={choice[2]})" if choice else f"{kind} ({key})"


def _origin(key: str, sources: Sources) -> str:
    choice = _choice(key, sources)
    return sources.choice_origin(choice[1], choice[0]) if choice else sources.origin(f"{key}._target_")


def check_headline(
    tree: dict[str, Any], hydra_cfg: DictConfig, sources: Sources, trusted: tuple[str, ...], package: PackageSource
) -> list[Problem]:
    """Problems with ``task.spec``, and with the metrics that are monitored and which of two values is better."""
    if TASK_GROUP not in tree:
        return []
    try:
        spec = _load_spec(_task(tree), trusted, package)
    except ValueError as error:
        return [Problem(sources.origin("task.spec"), "task.spec", str(error))]
    searched = OmegaConf.select(hydra_cfg, "sweeper.direction") if hydra_cfg.mode == RunMode.MULTIRUN else None
    directions = list(searched) if isinstance(searched, ListConfig) else [searched]
    return [Problem(sources.origin(key), key, text) for key, text in _headline_problems(tree, directions, spec)]


def _task(tree: dict[str, Any]) -> dict[str, Any]:
    node = tree.get(TASK_GROUP)
    return node if isinstance(node, dict) else {}


def _load_spec(task: dict[str, Any], trusted: tuple[str, ...], package: PackageSource) -> Any:
    """Import the specification, which imports nothing heavy.

    Raises:
        ValueError: it is not in our package or a trusted one, does not exist, or is that of another task.
    """
    dotted = task.get("spec")
    if not isinstance(dotted, str) or not all(part.isidentifier() for part in dotted.split(".")):
        raise ValueError(f"{dotted!r} is not the dotted name of a task's specification.")
    if not package.owns(dotted) and not has_prefix(dotted, trusted):
        name = dotted.split(".")[0]
        raise ValueError(f"{dotted} may not be imported: if you trust its package, extras.trusted_targets=[{name}]")
    module, _, name = dotted.rpartition(".")
    try:
        spec = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no {dotted} ({error}).") from error
    if not hasattr(spec, "metrics") or spec.name != task.get("name"):
        raise ValueError(f"{dotted} is not the specification of the task {task.get('name')!r}.")
    return spec


def _headline_problems(tree: dict[str, Any], directions: list[Any], spec: Any) -> Iterator[tuple[str, str]]:
    names = [f"val/{metric.name}" for metric in spec.metrics]
    headline = {_task(tree).get("monitor"), _task(tree).get("mode"), None}
    for key, monitor, senses in _monitors(tree, directions):
        stage, _, name = str(monitor).partition("/")
        if key != "task.monitor" and (stage not in STAGES or {monitor, *senses.values()} <= headline):
            continue  # what a callback logs besides, or what is said of the headline
        metric = spec.metric(name) if name and stage in STAGES else None
        if metric is None:
            hint = suggest(str(monitor), names).replace("key", "metric")
            yield key, f"the task {spec.name} has no metric {monitor!r}.{hint}"
            continue
        expected = _BETTER[metric.better]
        for sense_key, sense in senses.items():
            if isinstance(sense, str) and sense in sum(_BETTER.values(), ()) and sense not in expected:
                mend = " ".join(f"{other}={expected[other.endswith('direction')]}" for other in senses)
                yield sense_key, f"{sense} does not fit {monitor}, which is better when it is {metric.better}: {mend}"
                break


def _monitors(tree: dict[str, Any], directions: list[Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every monitored metric: key, name, and the keys that say which of two values is better."""
    task, model = _task(tree), tree.get("model")
    yield "task.monitor", task.get("monitor"), {f"task.{key}": task.get(key) for key in ("mode", "direction")}
    for key, node in walk_targets(tree):
        if "monitor" in node:
            yield f"{key}.monitor", node["monitor"], {f"{key}.mode": node.get("mode")}
    if isinstance(model, dict) and isinstance(model.get("scheduler_monitor"), str):
        scheduler = model.get("scheduler")
        mode = scheduler.get("mode") if isinstance(scheduler, dict) else None
        yield "model.scheduler_monitor", model["scheduler_monitor"], {"model.scheduler.mode": mode}
    metrics = tree.get("optimized_metric") or []
    for metric, direction in zip_longest(metrics if isinstance(metrics, list) else [metrics], directions):
        if metric is not None:
            yield "optimized_metric", metric, {"hydra.sweeper.direction": direction}


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
