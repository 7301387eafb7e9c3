"""The task function of a search: it knows the trial of each job, and tells a bad trial from a broken one."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import TaskFunction
from omegaconf import DictConfig
from optuna.trial import Trial

from hydra_preflight.errors import ConfigError
from hydraudio.core.trial import TrialPruned, run_as

_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with one value per objective, or pruned for a reason."""

    values: tuple[float, ...] | None
    reason: str | None
    run_folder: str


class TrialTask:
    """Calls the task function as one trial; travels to other processes with what it holds.

    Args:
        task_function: returns a number, or one number per objective.
    """

    def __init__(self, task_function: TaskFunction) -> None:
        self.task_function = task_function
        self.trials: dict[int, Trial] = {}  # by the number of the job

    def __call__(self, cfg: DictConfig) -> Outcome:
        hydra = HydraConfig.get()
        folder = str(hydra.runtime.output_dir)
        try:
            with run_as(self.trials[hydra.job.num]):
                values = objective_values(self.task_function(cfg))
            reason = _not_finite(values)
        except Exception as error:
            values, reason = None, reason_to_prune(error)
            if reason is None:
                raise
        _free_memory()
        return Outcome(None if reason else values, reason, folder)


def objective_values(value: Any) -> tuple[float, ...]:
    """What the task function returned, as one number per objective.

    Raises:
        ConfigError: it is not a number and not a sequence of numbers.
    """
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    try:
        return tuple(float(item) for item in items)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimized_metric: the run returned {value!r}, which is not a number") from error


def reason_to_prune(error: BaseException) -> str | None:
    """Why an exception says something about the parameters of the trial; None if it does not."""
    from hydraudio.core.callbacks.nan_guard import NonFiniteError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (TrialPruned, NonFiniteError)):
            return str(cause)
        if is_out_of_memory(cause):
            return f"out of memory: {_first_line(cause)}"
        cause = cause.__cause__
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the device or of the machine did not suffice."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def _not_finite(values: tuple[float, ...]) -> str | None:
    if all(math.isfinite(value) for value in values):
        return None
    return f"the objective is {', '.join(str(value) for value in values)}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _free_memory() -> None:
    """Give back what the trial held: the next one runs in the same process."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
