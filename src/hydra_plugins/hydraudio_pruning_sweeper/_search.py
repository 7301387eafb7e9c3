"""The loop of a search: ask for trials, launch them, tell how they ended."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.samplers import GridSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from hydra_plugins.hydraudio_pruning_sweeper import _study
from hydra_plugins.hydraudio_pruning_sweeper._trial_task import Outcome, TrialTask
from hydra_preflight.errors import ConfigError

log = logging.getLogger(__name__)


class Search(OptunaSweeperImpl):
    """See :class:`hydra_plugins.hydraudio_pruning_sweeper.sweeper.PruningOptunaSweeper`.

    Of the stock implementation, the parsing of the search space and the overrides of a trial are used.
    """

    def __init__(self, *, pruner: Any, **stock: Any) -> None:
        super().__init__(**stock)
        self.pruner = pruner or NopPruner()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.task = TrialTask(task_function)
        super().setup(hydra_context=hydra_context, task_function=self.task, config=config)

    def sweep(self, arguments: list[str]) -> None:
        directions = self._get_directions()
        self._check_objectives(directions)
        self._check_launcher()
        space, fixed = self._space(arguments)
        study = _study.open_study(self.study_name, self.storage, directions, self.sampler, self.pruner)
        _study.check_space(study, space)
        log.info("Study %s in %s, %d trials finished", study.study_name, self.storage, _study.n_finished(study))
        folder = Path(self.sweep_dir)
        with _study.sharing(study, folder):
            self._run_trials(study, space, fixed)
        found = _study.results(study)
        OmegaConf.save(OmegaConf.create(found), folder / "optimization_results.yaml")
        log.info("Results in %s:\n%s", folder / "optimization_results.yaml", OmegaConf.to_yaml(OmegaConf.create(found)))

    def _check_objectives(self, directions: list[str]) -> None:
        assert self.config is not None
        metric = OmegaConf.select(self.config, "optimized_metric")
        if metric is None:
            raise ConfigError("optimized_metric: name the metric of the search, e.g. optimized_metric=val/loss")
        n_metrics = len(metric) if isinstance(metric, ListConfig) else 1
        if n_metrics != len(directions):
            raise ConfigError(
                f"hydra.sweeper.direction: {len(directions)} direction(s), but {n_metrics} optimized_metric(s). "
                "Give one for each"
            )
        if n_metrics > 1 and not isinstance(self.pruner, NopPruner):
            raise ConfigError(
                "hydra.sweeper.pruner: Optuna prunes by one objective only. With several in optimized_metric say "
                "hydra.sweeper.pruner=null ~callbacks.pruning"
            )

        n_startup_trials = OmegaConf.select(self.config, "hydra.sweeper.sampler.n_startup_trials")
        if n_metrics > 1 and n_startup_trials is not None and n_startup_trials < 2:
            raise ConfigError(
                "hydra.sweeper.sampler.n_startup_trials: with several objectives at least 2 are needed; after a single "
                "trial Optuna 2.10 never ends its search for the next one"
            )

    def _check_launcher(self) -> None:
        if self.storage is None and not isinstance(self.launcher, (BasicLauncher, type(None))):
            raise ConfigError(
                "hydra.sweeper.storage: this launcher runs trials in processes of their own, which reach a study in "
                "a database only. Name one, e.g. hydra.sweeper.storage=sqlite:///FILE.db"
            )

    def _space(self, arguments: list[str]) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
        """Search space and fixed overrides; the command line wins over ``params``."""
        self._process_searchspace_config()
        space, fixed = create_params_from_overrides([*self._parse_sweeper_params_config(), *arguments])
        space = {key: distribution for key, distribution in space.items() if key not in fixed}
        if isinstance(self.sampler, functools.partial) and self.sampler.func is GridSampler:
            grid = {key: self._to_grid_sampler_choices(distribution) for key, distribution in space.items()}
            self.sampler = GridSampler(grid)
            self.n_trials = min(self.n_trials, self.sampler._n_min_trials)
        return space, fixed

    def _run_trials(self, study: Study, space: dict[str, BaseDistribution], fixed: dict[str, Any]) -> None:
        n_failed = 0
        while (n_missing := self.n_trials - _study.n_finished(study) - n_failed) > 0:
            trials = [study.ask() for _ in range(min(self.n_jobs, n_missing))]
            returns = self._launch(study, trials, space, fixed)
            failures = [ret for trial, ret in zip(trials, returns, strict=True) if not self._tell(study, trial, ret)]
            n_failed += len(failures)
            if len(failures) > self.max_failure_rate * len(returns):
                log.error(
                    "%d of %d trials failed, max_failure_rate=%g", len(failures), len(returns), self.max_failure_rate
                )
                failures[0].return_value  # noqa: B018 - raises the exception of the trial

    def _launch(
        self, study: Study, trials: list[Trial], space: dict[str, BaseDistribution], fixed: dict[str, Any]
    ) -> list[JobReturn]:
        """Run trials; when the search is stopped, they end as failed and do not count."""
        assert self.launcher is not None
        try:
            overrides = self._configure_trials(trials, space, fixed)
            self.task.trials = dict(enumerate(trials, start=self.job_idx))
            returns = list(self.launcher.launch(overrides, initial_job_idx=self.job_idx))
        except BaseException as error:
            for trial in trials:
                trial.set_user_attr(_study.REASON, f"interrupted by {type(error).__name__}")
                study.tell(trial, state=TrialState.FAIL)
            raise
        self.job_idx += len(returns)
        return returns

    def _tell(self, study: Study, trial: Trial, ret: JobReturn) -> bool:
        """Store how a trial ended; False if it failed."""
        try:
            outcome: Outcome = ret.return_value
        except Exception as error:
            trial.set_user_attr(_study.REASON, f"{type(error).__name__}: {error}")
            _end(study, trial, None, TrialState.FAIL)
            log.warning("Trial %d failed: %s", trial.number, error)
            return False
        trial.set_user_attr(_study.RUN_FOLDER, outcome.run_folder)
        if outcome.reason is not None:
            trial.set_user_attr(_study.REASON, outcome.reason)
            _end(study, trial, None, TrialState.PRUNED)
            log.info("Trial %d: %s", trial.number, outcome.reason)
            return True
        assert outcome.values is not None
        _end(study, trial, list(outcome.values), TrialState.COMPLETE)
        log.info("Trial %d: %s", trial.number, ", ".join(f"{value:.4g}" for value in outcome.values))
        return True


def _end(study: Study, trial: Trial, values: list[float] | None, state: TrialState) -> None:
    """Tell the study; a grid that is exhausted asks Optuna to stop its own loop, which does not run here."""
    try:
        study.tell(trial, values=values, state=state)
    except RuntimeError as error:
        if not isinstance(study.sampler, GridSampler) or "Study.stop" not in str(error):
            raise
