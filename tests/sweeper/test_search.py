"""Whole searches of a toy objective through Hydra, in this process."""

import fcntl
import importlib
import math
import pickle
import shutil
from pathlib import Path

import optuna
import pytest
import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from optuna.trial import TrialState

from hydra_preflight.errors import ConfigError
from hydraudio.core.trial import TrialPruned, running_trial

SWEEPER = Path(__file__).parents[2] / "configs" / "hydra" / "sweeper" / "optuna_pruning.yaml"
CONFIG = """
defaults:
  - override hydra/sweeper: optuna_pruning
name: toy
task: {monitor: score, direction: maximize}
x: 0.0
optimized_metric: score
hydra:
  sweep:
    dir: FOLDER/sweep
    subdir: ${hydra.job.num}
  sweeper:
    storage: sqlite:///FOLDER/toy.db
    max_failure_rate: 0.0
    params:
      x: interval(0.0, 1.0)
"""


@pytest.fixture
def search(tmp_path, monkeypatch):
    """search(task function, *overrides) runs a search; returns the study."""
    # There is nothing to free, and looking for it takes long in a process with torch and lightning.
    trial_task = importlib.import_module("hydra_plugins.hydraudio_pruning_sweeper._trial_task")
    monkeypatch.setattr(trial_task, "_free_memory", lambda: None)
    folder = tmp_path / "configs" / "hydra" / "sweeper"
    folder.mkdir(parents=True)
    shutil.copy(SWEEPER, folder)
    (tmp_path / "configs" / "config.yaml").write_text(CONFIG.replace("FOLDER", str(tmp_path)))

    def run(task, *overrides):
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2("toy", create_config_search_path(str(tmp_path / "configs")))
        try:
            hydra.multirun("config.yaml", task, list(overrides), with_log_configuration=False)
        finally:
            GlobalHydra.instance().clear()
        return study(tmp_path)

    return run


def study(folder):
    return optuna.load_study("toy", f"sqlite:///{folder}/toy.db")


def states(found):
    return [trial.state.name for trial in found.trials]


def parabola(cfg):
    return -((cfg.x - 0.3) ** 2)


def raises(error):
    def task(cfg):
        raise error

    return task


def test_best_trial_is_written(search, tmp_path):
    found = search(parabola, "hydra.sweeper.n_trials=6")
    results = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert states(found) == ["COMPLETE"] * 6
    assert results["best_value"] == max(trial.value for trial in found.trials) == found.best_value
    assert results["best_params"] == found.best_params
    assert results["run_folder"] == str(tmp_path / "sweep" / str(results["best_trial"]))
    assert results["n_trials"] == {"complete": 6, "pruned": 0, "fail": 0}


def climb(cfg):
    """The first trial is good, all later ones are worse from the start."""
    trial = running_trial()
    for step in range(1, 4):
        trial.report(step - 10.0 * trial.number, step)
        if trial.should_prune():
            raise TrialPruned(f"after {step}")
    return 3.0 - 10.0 * trial.number


def test_pruner_stops_trials(search):
    pruner = "hydra.sweeper.pruner={_target_:optuna.pruners.MedianPruner,n_startup_trials:1}"
    found = search(climb, "hydra.sweeper.n_trials=3", pruner)
    assert states(found) == ["COMPLETE", "PRUNED", "PRUNED"]
    assert found.trials[0].intermediate_values == {1: 1.0, 2: 2.0, 3: 3.0}
    assert found.trials[1].intermediate_values == {1: -9.0}
    assert found.trials[1].user_attrs["reason"] == "after 1"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (lambda cfg: math.nan, "the objective is nan"),
        (lambda cfg: -math.inf, "the objective is -inf"),
        (raises(MemoryError("no more")), "out of memory: no more"),
    ],
)
def test_bad_trial_is_pruned_and_counts(search, outcome, reason):
    def task(cfg):
        return outcome(cfg) if running_trial().number == 1 else parabola(cfg)

    found = search(task, "hydra.sweeper.n_trials=3")
    assert states(found) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert found.trials[1].user_attrs["reason"] == reason


def test_search_without_a_completed_trial_says_why(search):
    with pytest.raises(ConfigError, match=r"no trial .* was completed \(0: the objective is nan; 1: the objective"):
        search(lambda cfg: math.nan, "hydra.sweeper.n_trials=2")


def test_failure_ends_the_search_as_in_the_stock_sweeper(search, tmp_path):
    with pytest.raises(KeyError, match="broken"):
        search(raises(KeyError("broken")), "hydra.sweeper.n_trials=3")
    assert states(study(tmp_path)) == ["FAIL"]
    assert study(tmp_path).trials[0].user_attrs["reason"] == "KeyError: 'broken'"


def test_tolerated_failures_count_in_this_search_and_are_made_up_for_by_the_next(search):
    def task(cfg):
        return parabola(cfg) if running_trial().number != 1 else raises(KeyError("x"))(cfg)

    options = ["hydra.sweeper.n_trials=3", "hydra.sweeper.max_failure_rate=1.0"]
    assert states(search(task, *options)) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert states(search(task, *options)) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_same_command_continues_with_other_draws(search):
    assert len(search(parabola, "hydra.sweeper.n_trials=3").trials) == 3
    found = search(parabola, "hydra.sweeper.n_trials=6")
    assert states(found) == ["COMPLETE"] * 6
    assert len({trial.params["x"] for trial in found.trials}) == 6
    assert len(search(parabola, "hydra.sweeper.n_trials=6").trials) == 6  # nothing is left to do


def test_trial_that_a_kill_left_running_fails_and_does_not_count(search, tmp_path):
    search(parabola, "hydra.sweeper.n_trials=1")
    study(tmp_path).ask()
    found = search(parabola, "hydra.sweeper.n_trials=3")
    assert states(found) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert found.trials[1].user_attrs["reason"] == "interrupted"


def test_trial_of_another_process_is_left_alone(search, tmp_path):
    search(parabola, "hydra.sweeper.n_trials=1")
    study(tmp_path).ask()
    with (tmp_path / "sweep" / ".toy.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        found = search(parabola, "hydra.sweeper.n_trials=2")
    assert states(found) == ["COMPLETE", "RUNNING", "COMPLETE"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_stopped_search_leaves_no_running_trial(search, tmp_path, stop):
    with pytest.raises(type(stop)):
        search(raises(stop), "hydra.sweeper.n_trials=2")
    assert states(study(tmp_path)) == ["FAIL"]
    assert states(search(parabola, "hydra.sweeper.n_trials=2")) == ["FAIL", "COMPLETE", "COMPLETE"]


TWO = ["optimized_metric=[score,cost]", "hydra.sweeper.direction=[maximize,minimize]"]
SMALL = ["hydra.sweeper.sampler.n_startup_trials=2"]


@pytest.mark.slow
def test_several_objectives_give_a_pareto_front(search, tmp_path):
    found = search(
        lambda cfg: (cfg.x, cfg.x**2 if cfg.x < 0.5 else 9.0 - cfg.x), *TWO, *SMALL, "hydra.sweeper.n_trials=8"
    )
    results = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    values = [tuple(trial.values) for trial in found.trials]
    front = {v for v in values if not any(w[0] >= v[0] and w[1] <= v[1] and w != v for w in values)}
    assert {tuple(solution["values"]) for solution in results["solutions"]} == front
    assert all(solution["run_folder"] for solution in results["solutions"])


def test_not_finite_objective_among_several(search):
    def task(cfg):
        return (math.nan, 0.0) if running_trial().number == 0 else (cfg.x, -cfg.x)

    assert states(search(task, *TWO, *SMALL, "hydra.sweeper.n_trials=4")) == ["PRUNED", *["COMPLETE"] * 3]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimized_metric=null"], "optimized_metric: name the metric"),
        ([TWO[0]], r"1 direction\(s\), but 2 optimized_metric\(s\)"),
        ([*TWO, "hydra.sweeper.pruner={_target_:optuna.pruners.MedianPruner}"], "prunes by one objective only"),
        ([*TWO, "hydra.sweeper.sampler.n_startup_trials=1"], "with several objectives at least 2"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(search, overrides, message):
    with pytest.raises(ConfigError, match=message):
        search(parabola, *overrides)


def test_another_space_or_direction_cannot_continue_a_study(search):
    search(parabola, "hydra.sweeper.n_trials=1", "x=choice(0.1,0.2)")
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.params\.x: the study 'toy' was begun with"):
        search(parabola, "hydra.sweeper.n_trials=2")
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.direction: the study 'toy'"):
        search(parabola, "hydra.sweeper.n_trials=2", "hydra.sweeper.direction=minimize")


@pytest.mark.slow
def test_grid_is_run_once(search):
    found = search(parabola, "hydra/sweeper/sampler=grid", "x=choice(0.1,0.2,0.3)")
    assert sorted(float(trial.params["x"]) for trial in found.trials) == [0.1, 0.2, 0.3]
    assert states(found) == ["COMPLETE"] * 3


def test_memory_serves_this_process_only(search, monkeypatch):
    module = importlib.import_module("hydra_plugins.hydraudio_pruning_sweeper._search")
    monkeypatch.setattr(module, "BasicLauncher", type("Other", (), {}))
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage: this launcher runs trials in processes"):
        search(parabola, "hydra.sweeper.storage=null")


def test_trial_reports_from_another_process_through_the_database(search, tmp_path):
    """What a launcher with processes of its own does: the task travels with its trials."""

    def task(cfg):
        copy = pickle.loads(pickle.dumps(running_trial()))
        copy.report(4.0, step=1)
        return parabola(cfg)

    found = search(task, "hydra.sweeper.n_trials=1")
    assert found.trials[0].intermediate_values == {1: 4.0}
    assert found.trials[0].state == TrialState.COMPLETE


def test_hydra_finds_both_sweepers():
    """The folder is part of a namespace package, so that the stock plugin stays visible."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper

    found = {plugin.__module__ for plugin in Plugins.instance().discover(Sweeper)}
    ours = "hydra_plugins.hydraudio_pruning_sweeper.sweeper"
    assert {ours, "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper"} <= found
    assert not (SWEEPER.parents[3] / "src" / "hydra_plugins" / "__init__.py").exists()
