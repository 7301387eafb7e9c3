"""Train the best configurations of a search again, with several seeds.

    python scripts/results/rerun_best_trials.py logs/optuna_NAME.db --top 3 --seeds 1,2,3 data.max_train_samples=16000

Every run gets the overrides of its trial (from the trial's run folder), then those of this command, and is tested. The
runs of trial 7 go to logs/NAME_trial7/. The same command continues: what is there already is not run again. At the end
the mean and the standard deviation over the seeds are printed; `make leaderboard` shows the runs among all others.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import optuna  # noqa: E402
import yaml  # noqa: E402
from optuna.study import Study  # noqa: E402
from optuna.trial import FrozenTrial, TrialState  # noqa: E402

from hydra_preflight.foreign import read_file  # noqa: E402
from hydraudio.report.leaderboard import Run, collect, group  # noqa: E402
from hydraudio.report.tables import is_number, number  # noqa: E402


def main() -> None:
    """Run what is missing, then sum up."""
    arguments = parse_arguments()
    study = open_study(arguments.database, arguments.study)
    names = []
    for trial in best_trials(study, arguments.top):
        overrides, name = overrides_of(trial)
        names.append(name)
        done = finished_seeds(arguments.log_dir, name)
        for seed in arguments.seeds:
            if seed in done:
                print(f"{name}: seed {seed} is there already")
                continue
            command = [sys.executable, str(ROOT / "src" / "train.py"), *overrides, f"seed={seed}", *arguments.overrides]
            print(shlex.join(command), flush=True)
            if not arguments.dry_run:
                subprocess.run(command, check=True, env={**os.environ, "HYDRAUDIO_LOG_DIR": str(arguments.log_dir)})
    print_summary([run for name in names for run in finished(arguments.log_dir, name)])


def parse_arguments() -> argparse.Namespace:
    """The command line; what is no option is an override of Hydra."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("HYDRAUDIO_LOG_DIR", ROOT / "logs"))
    parser.add_argument("database", type=Path, help="SQLite file of the search")
    parser.add_argument("--study", help="name of the study, needed where the file holds several")
    parser.add_argument("--top", type=int, default=3, help="number of trials; of several objectives, the Pareto front")
    parser.add_argument("--seeds", type=integers, default=[1, 2, 3], help="separated by commas")
    parser.add_argument("--log-dir", type=Path, default=default, help="folder that holds <experiment>/<run>/")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    arguments, overrides = parser.parse_known_args()
    unknown = [text for text in overrides if text.startswith("-") or "=" not in text]
    if unknown:
        parser.error(f"neither an option nor an override key=value: {' '.join(unknown)}")
    arguments.overrides = overrides
    return arguments


def integers(text: str) -> list[int]:
    """``1,2,3`` as a list."""
    return [int(item) for item in text.split(",")]


def open_study(database: Path, name: str | None) -> Study:
    """The study of this name, or the only one in the file."""
    if not database.is_file():
        raise SystemExit(f"{database}: there is no such file; a search writes logs/optuna_NAME.db")
    storage = f"sqlite:///{database.resolve()}"
    names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
    if name is None and len(names) != 1:
        raise SystemExit(f"{database} holds the studies {', '.join(names)}; choose one: --study NAME")
    if name is not None and name not in names:
        raise SystemExit(f"{database} has no study {name!r}; it holds {', '.join(names)}")
    return optuna.load_study(name or names[0], storage)


def best_trials(study: Study, n: int) -> list[FrozenTrial]:
    """The n best completed trials, or for several objectives all on the Pareto front."""
    if len(study.directions) > 1:
        return study.best_trials
    completed = study.get_trials(states=[TrialState.COMPLETE])
    higher_is_better = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return sorted(completed, key=lambda trial: trial.value, reverse=higher_is_better)[:n]


def overrides_of(trial: FrozenTrial) -> tuple[list[str], str]:
    """Overrides that repeat a trial as a whole run, and the name that its runs get."""
    folder = Path(trial.user_attrs.get("run_folder", "unknown"))
    if not (folder / ".hydra" / "overrides.yaml").is_file():
        raise SystemExit(f"trial {trial.number}: its run folder {folder} is gone, and with it what it was run with")
    given = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    config = read_file(folder / "config.yaml")
    name = f"{config['name']}_trial{trial.number}"
    own = ("seed", "name", "test", "extras.trusted_targets")  # what to trust is said anew
    kept = [text for text in given if text.split("=")[0].lstrip("+") not in own and not text.startswith("-")]
    without_pruning = ["~callbacks.pruning"] if config["callbacks"].get("pruning") else []
    return [*kept, *without_pruning, f"name={name}", "test=true"], name


def finished(log_dir: Path, name: str) -> list[Run]:
    """Tested runs of a name."""
    return [run for run in collect(log_dir)[0] if run.folder.parent.name == name] if log_dir.is_dir() else []


def finished_seeds(log_dir: Path, name: str) -> set[int]:
    """Seeds with a tested run of a name."""
    return {run.seed for run in finished(log_dir, name)}


def print_summary(runs: Sequence[Run]) -> None:
    """Mean and deviation over the seeds, best first."""
    for entry in group(runs):
        metric = entry.spec.metric(entry.monitor)
        label, unit, digits = (metric.label, metric.unit, metric.digits) if metric else (entry.monitor, "", 3)
        mean, deviation = entry.mean(entry.monitor), entry.deviation(entry.monitor)
        spread = f" ± {number(deviation, digits)}" if is_number(deviation) else ""
        score = f"{label} {number(mean, digits)}{spread} {unit}".rstrip()
        print(f"{entry.config['name']}: {score} over {len(entry.runs)} seed(s)")


if __name__ == "__main__":
    main()
