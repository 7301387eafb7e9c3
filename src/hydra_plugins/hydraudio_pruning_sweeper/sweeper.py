"""What Hydra finds when it looks for plugins, at every start; Optuna is imported only when a search begins."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PruningOptunaSweeper(Sweeper):
    """Search with Optuna: `configs/hydra/sweeper/optuna_pruning.yaml`.

    Beyond the stock Optuna sweeper:

    - a pruner stops trials early, by what `hydraudio.core.callbacks.pruning.TrialPruning` reports;
    - `optimized_metric` may be a list, with one direction each: the results are the Pareto front;
    - the same command continues an interrupted study: `n_trials` counts finished trials, those that a kill left
      running are marked as failed;
    - a trial whose objective is not finite, or that runs out of memory, is pruned and not a failure.

    Args:
        sampler: an instance of a class of ``optuna.samplers``.
        pruner: an instance of a class of ``optuna.pruners``; None = no pruning.
        direction: ``minimize``, ``maximize``, or a list with one of them per objective.
        storage: URL of a database; None = memory, which ends with the process.
        study_name: name of the study in the database; None = a random one, which cannot be continued.
        n_trials: number of trials that are completed or pruned when the search is over.
        n_jobs: trials that are handed to the launcher at once.
        max_failure_rate: the search ends with an error if more of the trials handed over at once fail, 0 to 1.
        custom_search_space: dotted name of a function ``(config, trial)`` that sets up further parameters.
        params: search space, key of the configuration to a sweep expression such as ``interval(0, 1)``.
    """

    def __init__(
        self,
        sampler: Any,
        pruner: Any,
        direction: Any,
        storage: str | None,
        study_name: str | None,
        n_trials: int,
        n_jobs: int,
        max_failure_rate: float,
        custom_search_space: str | None,
        params: DictConfig | None,
    ) -> None:
        from hydra_plugins.hydraudio_pruning_sweeper._search import Search

        self.search = Search(
            pruner=pruner,
            sampler=sampler,
            direction=direction,
            storage=storage,
            study_name=study_name,
            n_trials=n_trials,
            n_jobs=n_jobs,
            max_failure_rate=max_failure_rate,
            search_space=None,
            custom_search_space=custom_search_space,
            params=params,
        )

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        self.search.sweep(arguments)
