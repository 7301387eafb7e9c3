"""The headline of a run and the objectives of a search, by the names under which the task logs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig

from hydra_preflight.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import Tensor

    from hydraudio.core.task import Task


def check_logged(cfg: DictConfig, task: Task) -> None:
    """Refuse a headline or an objective of a search that the task never logs as it is configured, before an epoch."""
    names: list[str] = task.metric_names("val")
    if cfg.train and cfg.task.monitor not in names:
        raise ConfigError(_not_logged("task.monitor", cfg.task.monitor, task, names))
    names = [*names, *task.metric_names("train")]
    objectives = cfg.optimized_metric if isinstance(cfg.optimized_metric, ListConfig) else [cfg.optimized_metric]
    for metric in objectives:
        if metric is not None and metric.startswith(("train/", "val/", "test/")) and metric not in names:
            raise ConfigError(_not_logged("optimized_metric", metric, task, names))


def _not_logged(key: str, metric: str, task: Task, names: Sequence[str]) -> str:
    return (
        f"{key}={metric}: {type(task).__name__} as it is configured logs no such metric in training and validation; "
        f"choose one of {', '.join(names)}"
    )


def optimized_value(outcome: tuple[Mapping[str, Tensor], Mapping[str, Any]]) -> float | tuple[float, ...] | None:
    """Return what a search reads of a training: ``cfg.optimized_metric``.

    Args:
        outcome: what :func:`hydraudio.run.train` returned.

    Returns:
        One number for a name, a tuple for a list of names; None if not asked for. Of the best checkpoint where that was
        chosen by the metric, else of the last epoch.
    """
    metrics, objects = outcome
    wanted = objects["cfg"].optimized_metric
    if isinstance(wanted, ListConfig):
        return tuple(_optimized_value(objects["trainer"], metrics, name) for name in wanted)
    return None if wanted is None else _optimized_value(objects["trainer"], metrics, wanted)


def _optimized_value(trainer: Trainer, metrics: Mapping[str, Tensor], metric: str) -> float:
    checkpoint = trainer.checkpoint_callback
    best = getattr(checkpoint, "best_model_score", None)
    if best is not None and getattr(checkpoint, "monitor", None) == metric:
        return float(best)
    if metric not in metrics:
        names = ", ".join(sorted(metrics))
        raise ConfigError(f"optimized_metric: there is no metric {metric!r} after training; there are {names}")
    return float(metrics[metric])
