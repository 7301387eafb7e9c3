"""Run a list of experiments, one after the other, and compare their tests.

    python scripts/results/run_experiments.py experiments.yaml [--only NAME] [--dry-run]
    python scripts/results/run_experiments.py experiments.yaml --eval [data.root=FOLDER] [KEY=VALUE ...]

The file (YAML, or TOML with the same keys) is a list of names of configs/experiment, or

    base: # overrides of src/train.py that all share
      experiment: TASK/NAME
      data.root: /data/CORPUS
    experiments:
      - name: slower # the runs go to logs/slower/
        overrides: {model.optimizer.lr: 1.0e-4, seed: 1}
      - TASK/OTHER # short for name and experiment

Every run is a process of its own, composed from the same base. The same command continues: what is finished with the
very same configuration is left alone, what was interrupted goes on where it stopped, what failed is run again. A
failure does not stop the others. What a run prints is kept in logs/<name>/output.log. At the end one table of the test
metrics is printed and written beside the runs as <name of the file>.csv; the exit status is 1 if anything failed.

--eval trains nothing: src/eval.py tests the best checkpoint of every finished run, with the overrides that follow, in
logs/eval_<name>/. The table goes to <name of the file>_eval.csv.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.errors import ConfigError  # noqa: E402
from hydra_preflight.resolvers import run_dir  # noqa: E402
from hydraudio.core.experiment_list import (  # noqa: E402
    Experiment,
    State,
    digest,
    find_state,
    last_line,
    metrics_of_test,
    override_text,
    read_experiments,
)
from hydraudio.core.files import write_csv  # noqa: E402
from hydraudio.core.run_folder import best_checkpoint  # noqa: E402
from hydraudio.report.run_scores import read_run_scores  # noqa: E402

FAILURES = ("failed", "not trained")


@dataclass
class Outcome:
    """What has become of an experiment: ``finished``, ``failed``, ``not run``, or ``not trained``, where it was to be
    evaluated."""

    name: str
    status: str
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


def main() -> int:
    """Run what is missing, print the table, return the exit status."""
    arguments = parse_arguments()
    console = Console(soft_wrap=True)
    try:
        experiments = chosen(read_experiments(arguments.file), arguments.only)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    is_eval, suffix = arguments.eval is not None, "" if arguments.eval is None else "_eval"
    outcomes: list[Outcome] = []
    interrupted = False
    for experiment in experiments:
        try:
            outcomes.append(
                evaluate(experiment, arguments.eval, arguments.log_dir, arguments.dry_run, console)
                if is_eval
                else run(experiment, arguments.log_dir, arguments.dry_run, console)
            )
        except KeyboardInterrupt:
            interrupted = True
            break
    missing = [Outcome(each.name, "not run") for each in experiments[len(outcomes) :]]
    if not arguments.dry_run:
        summarise([*outcomes, *missing], arguments.log_dir / f"{arguments.file.stem}{suffix}.csv", console)
    return 130 if interrupted else int(any(outcome.status in FAILURES for outcome in outcomes))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("HYDRAUDIO_LOG_DIR", ROOT / "logs"))
    parser.add_argument("file", type=Path, help="YAML or TOML file with the experiments")
    parser.add_argument("--only", action="append", metavar="NAME", help="run only this one; can be repeated")
    parser.add_argument("--log-dir", type=Path, default=default, help="folder that gets <name>/<run>/")
    parser.add_argument(
        "--eval", nargs="*", metavar="KEY=VALUE", help="test the best checkpoints, with these overrides of src/eval.py"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be run")
    return parser.parse_args()


def chosen(experiments: Sequence[Experiment], names: Sequence[str] | None) -> list[Experiment]:
    """The experiments of these names, all for None."""
    there = [experiment.name for experiment in experiments]
    unknown = [name for name in names or [] if name not in there]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: there is no such experiment; there are {', '.join(there)}")
    return [experiment for experiment in experiments if names is None or experiment.name in names]


def run(experiment: Experiment, log_dir: Path, dry_run: bool, console: Console) -> Outcome:
    """Bring one experiment to its end, if it is not there already."""
    try:
        wanted = digest(compose_run(experiment.overrides, log_dir / experiment.name))
    except ConfigError as error:
        console.print(f"{experiment.name}: {error}", markup=False, highlight=False)
        return Outcome(experiment.name, "failed", str(error).splitlines()[0])
    state = find_state(log_dir, experiment.name, wanted)
    if state.status == "finished" and state.folder is not None:
        say(console, experiment, state, "is finished already")
        return Outcome(experiment.name, "finished", metrics=metrics_of_test(state.folder))
    arguments = [*experiment.overrides, *(["ckpt_path=last"] if state.status == "interrupted" else [])]
    command = [sys.executable, str(ROOT / "src" / "train.py"), *arguments]
    say(console, experiment, state, "is continued" if state.status == "interrupted" else "starts")
    console.print("  " + shlex.join(command), markup=False, highlight=False)
    if dry_run:
        return Outcome(experiment.name, "not run")
    return execute(experiment, command, log_dir, wanted, console)


def evaluate(
    experiment: Experiment, overrides: Sequence[str], log_dir: Path, dry_run: bool, console: Console
) -> Outcome:
    """Test the best checkpoint of an experiment that is finished."""
    try:
        state = find_state(
            log_dir, experiment.name, digest(compose_run(experiment.overrides, log_dir / experiment.name))
        )
        if state.status != "finished" or state.folder is None:
            raise FileNotFoundError("has no finished run with this very configuration: run the list without --eval")
        best = best_checkpoint(state.folder)
    except (ConfigError, FileNotFoundError) as error:
        console.print(f"{experiment.name}: {error}", markup=False, highlight=False)
        return Outcome(experiment.name, "not trained", str(error).splitlines()[0])
    name = f"eval_{experiment.name}"
    command = [
        sys.executable,
        str(ROOT / "src" / "eval.py"),
        override_text("ckpt_path", str(best.resolve())),
        *overrides,
    ]
    say(console, experiment, state, "is evaluated")
    console.print("  " + shlex.join(command), markup=False, highlight=False)
    if dry_run:
        return Outcome(experiment.name, "not run")
    folder = Path(run_dir(str(log_dir.resolve()), name, claim=True))
    log = log_dir / name / "output.log"
    status = spawn([*command, f"name={name}", override_text("hydra.run.dir", str(folder))], log, log_dir)
    if status == 0:
        scores = read_run_scores(folder).scores
        return Outcome(experiment.name, "finished", metrics={key: score.mean for key, score in scores.items()})
    error_line = last_line(log)
    console.print(f"{experiment.name} failed: {error_line}\n  see {log}", markup=False, highlight=False)
    return Outcome(experiment.name, "failed", error_line)


def execute(experiment: Experiment, command: Sequence[str], log_dir: Path, wanted: str, console: Console) -> Outcome:
    """Run a command with its output in a file, and see what is there afterwards."""
    log = log_dir / experiment.name / "output.log"
    began_s = time.monotonic()
    status = spawn(command, log, log_dir)
    took = f"after {(time.monotonic() - began_s) / 60:.1f} min"
    state = find_state(log_dir, experiment.name, wanted)
    if status == 0 and state.status == "finished" and state.folder is not None:
        say(console, experiment, state, f"finished {took}")
        return Outcome(experiment.name, "finished", metrics=metrics_of_test(state.folder))
    error = last_line(log) if status else "it wrote no report"
    console.print(f"{experiment.name} failed {took}: {error}\n  see {log}", markup=False, highlight=False)
    return Outcome(experiment.name, "failed", error)


def spawn(command: Sequence[str], log: Path, log_dir: Path) -> int:
    """Run a command with its output in a file; return its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "HYDRAUDIO_LOG_DIR": str(log_dir.resolve())}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()  # the run writes last.ckpt before it ends
            process.wait()
            raise


def say(console: Console, experiment: Experiment, state: State, what: str) -> None:
    """One line about an experiment."""
    where = f" ({state.folder})" if state.folder is not None else ""
    console.print(f"{experiment.name} {what}{where}", markup=False, highlight=False)


def summarise(outcomes: Sequence[Outcome], path: Path, console: Console) -> None:
    """Print the table and write it as CSV; metrics that only some runs have leave gaps."""
    metrics = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    rows = [{"name": run.name, "status": run.status, "error": run.error, **run.metrics} for run in outcomes]
    write_csv(path, ["name", "status", *metrics, "error"], rows)
    table = Table("Experiment", "Status", *metrics)
    for outcome in outcomes:
        cells = [f"{outcome.metrics[name]:.4f}" if name in outcome.metrics else "" for name in metrics]
        table.add_row(outcome.name, outcome.status, *cells)
    console.print(table)
    for outcome in outcomes:
        if outcome.error:
            console.print(f"{outcome.name}: {outcome.error}", markup=False, highlight=False)
    console.print(str(path), markup=False, highlight=False)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends the running experiment as Ctrl-C does
    sys.exit(main())
