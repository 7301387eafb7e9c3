"""The study of a search: opened or continued, cleaned of trials that a kill left behind, and summed up."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hydra_preflight.errors import ConfigError

log = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
REASON = "reason"  # user attribute: why a trial was pruned or failed
RUN_FOLDER = "run_folder"  # user attribute


def open_study(name: str | None, storage: str | None, directions: list[str], sampler: Any, pruner: Any) -> Study:
    """Begin a study, or continue that of this name in the database.

    Raises:
        ConfigError: there is one with other directions.
    """
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, pruner=pruner, directions=directions, load_if_exists=True
        )
    except ValueError as error:
        if "Cannot overwrite study direction" not in str(error):
            raise
        raise ConfigError(
            f"hydra.sweeper.direction: the study {name!r} in {storage} was begun with other directions than "
            f"{', '.join(directions)}. Use those, or begin another study: hydra.sweeper.study_name=NAME"
        ) from error
    if n_finished(study):
        study.sampler.reseed_rng()  # the same seed would draw the first trials once more
    return study


def check_space(study: Study, space: dict[str, BaseDistribution]) -> None:
    """Refuse a search space that cannot continue the study.

    Raises:
        ConfigError: a parameter was drawn from another kind of space, or from other choices.
    """
    for trial in study.get_trials(deepcopy=False):
        for key in space.keys() & trial.distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], space[key])
            except ValueError as error:
                raise ConfigError(
                    f"hydra.sweeper.params.{key}: the study {study.study_name!r} was begun with "
                    f"{trial.distributions[key]}, here is {space[key]}. Begin another study: "
                    "hydra.sweeper.study_name=NAME"
                ) from error


def n_finished(study: Study) -> int:
    """Number of trials that are completed or pruned."""
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def fail_abandoned(study: Study) -> None:
    """Mark trials that are still called running as failed; none may be running."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        log.warning("Trial %d was interrupted; it is marked as failed and does not count.", trial.number)
        study._storage.set_trial_user_attr(trial._trial_id, REASON, "interrupted")
        study.tell(trial.number, state=TrialState.FAIL)


@contextmanager
def sharing(study: Study, folder: Path) -> Iterator[None]:
    """Share a study with other processes on this machine; if there are none, clean it first.

    The lock is a file in ``folder``, which a kill releases too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{study.study_name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fail_abandoned(study)
        except BlockingIOError:
            log.info("Another process searches in the study %s, too.", study.study_name)
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def results(study: Study) -> dict[str, Any]:
    """What ``optimization_results.yaml`` says: the best trial, or for several objectives the Pareto front.

    Raises:
        ConfigError: no trial was completed.
    """
    trials = study.get_trials(deepcopy=False)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        reasons = "; ".join(f"{trial.number}: {trial.user_attrs.get(REASON)}" for trial in trials[:5])
        raise ConfigError(f"hydra.sweeper.params: no trial of the study {study.study_name!r} was completed ({reasons})")
    names = {state: state.name.lower() for state in (*FINISHED, TrialState.FAIL)}
    counts = {name: sum(trial.state == state for trial in trials) for state, name in names.items()}
    common = {"name": "optuna", "study_name": study.study_name, "n_trials": counts}
    if len(study.directions) > 1:
        return {**common, "solutions": [_solution(trial) for trial in study.best_trials]}
    best = study.best_trial
    found = {"best_params": dict(best.params), "best_value": best.value, "best_trial": best.number}
    return {**common, **found, RUN_FOLDER: best.user_attrs.get(RUN_FOLDER)}


def _solution(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "params": dict(trial.params),
        "values": list(trial.values),
        "trial": trial.number,
        RUN_FOLDER: trial.user_attrs.get(RUN_FOLDER),
    }
