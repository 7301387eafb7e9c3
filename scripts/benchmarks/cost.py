"""What a training costs now, against an earlier revision, as medians of interleaved runs.

Of a training: start, step and checkpoint. Of commands: the processor time of `debug=fdr` from its start to its end,
beside that of importing Lightning as that revision does, and the time until a wrong command is answered.

python scripts/benchmarks/cost.py --revision HEAD~1 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS: dict[str, Sequence[str]] = {
    # task: separation
    "separation/polsess_quick": ("data.max_train_samples=80", "data.max_val_samples=8"),
    # end task
    # task: emotion
    "emotion/msp_wavlm_category": ("data.max_train_samples=160", "data.max_val_samples=40", "data.batch_s=null"),
    # end task
}
COMMON = (
    "trainer=cpu",
    "trainer.max_epochs=2",
    "data.num_workers=0",
    "callbacks.last_checkpoint.every_n_steps=4",
    "callbacks.progress=null",
    "callbacks.model_summary=null",
    "logger=csv",
    "test=false",
)
WORKER = """
import json, sys, time
from pathlib import Path
began = float(sys.argv[1])
from hydra_preflight.compose import compose_run
from hydraudio import run
import lightning.pytorch as pl

times = {"start": [], "step": [], "checkpoint": []}
last = [None]

class Probe(pl.Callback):
    def on_train_batch_start(self, trainer, *_):
        if not times["start"]:
            times["start"].append(time.time() - began)
        elif last[0] is not None:
            times["step"].append(time.perf_counter() - last[0])
        last[0] = time.perf_counter()

    def on_validation_start(self, *_):
        last[0] = None

def fit(trainer, *arguments, **options):
    trainer.callbacks.append(Probe())
    return before(trainer, *arguments, **options)

def save(trainer, *arguments, **options):
    start = time.perf_counter()
    saved(trainer, *arguments, **options)
    times["checkpoint"].append(time.perf_counter() - start)
    last[0] = None

before, pl.Trainer.fit = pl.Trainer.fit, fit
saved, pl.Trainer.save_checkpoint = pl.Trainer.save_checkpoint, save
run.train(compose_run(sys.argv[3:], Path(sys.argv[2])))
print(json.dumps(times))
"""
DEBUG_RUN = ("debug=fdr", "trainer=cpu", "logger=csv")
WRONG = {
    "missing corpus": "data.root=/nowhere",
    "missing checkpoint": "ckpt_path=/nowhere.ckpt",
    "wrong type": "trainer.max_epochs=many",
}
IMPORTS = {
    "before": "import lightning.pytorch",
    "now": "from hydraudio.core.imports import import_lightning; import_lightning()",
}
LIMITS = {"start": "0.2 s", "step": "1 %", "checkpoint": "5 %"}


def main() -> None:
    """Measure and print a table per experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="HEAD", help="what to compare the working tree with")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each revision per experiment")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        trees = {"before": Path(scratch) / "tree", "now": ROOT}
        _git("worktree", "add", "--detach", str(trees["before"]), arguments.revision)
        try:
            for experiment, options in EXPERIMENTS.items():
                for part in arguments.parts:
                    PARTS[part](experiment, options, trees, arguments.rounds, Path(scratch))
        finally:
            shutil.rmtree(trees["before"])
            _git("worktree", "prune")


def compare(experiment: str, options: Sequence[str], trees: Mapping[str, Path], n_rounds: int, scratch: Path) -> None:
    """Train with both revisions in turn and print the medians in milliseconds."""
    times: dict[str, dict[str, list[float]]] = {name: {} for name in trees}
    for number in range(n_rounds + 1):
        for name in sorted(trees, reverse=bool(number % 2)):
            found = measure(trees[name], [f"experiment={experiment}", *COMMON, *options], scratch)
            if number:  # the first run generates the corpus and compiles modules
                for what, values in found.items():
                    times[name].setdefault(what, []).append(statistics.median(values))
    print(f"{experiment}, medians of {n_rounds} runs")
    for what, limit in LIMITS.items():
        before, now = (1000 * statistics.median(times[name][what]) for name in ("before", "now"))
        change = f"{now - before:+.1f} ms, {100 * (now / before - 1):+.2f} %"
        print(f"  {what:10} {before:8.1f} ms before, {now:8.1f} ms now: {change} (at most +{limit})", flush=True)


def measure(tree: Path, overrides: Sequence[str], scratch: Path) -> dict[str, list[float]]:
    """Times in seconds of one run: to its first batch, of every step, of every checkpoint."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        output = _run(tree, ["-c", WORKER, str(time.time()), folder, *overrides], scratch)
    found: dict[str, list[float]] = json.loads(output.splitlines()[-1])
    return found


def compare_commands(
    experiment: str, options: Sequence[str], trees: Mapping[str, Path], n_rounds: int, scratch: Path
) -> None:
    """Run commands with both revisions in turn and print the medians in seconds."""
    script, common = "src/train.py", [f"experiment={experiment}"]
    kinds = ["debug=fdr", "import", *WRONG]
    times: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in trees} for kind in kinds}
    for number in range(n_rounds + 1):
        for name in sorted(trees, reverse=bool(number % 2)):
            tree = trees[name]
            found = {
                "debug=fdr": processor_time(tree, [script, *common, *options, *DEBUG_RUN], scratch),
                "import": processor_time(tree, ["-c", IMPORTS[name]], scratch),
                **{kind: time_to_answer(tree, [script, *common, wrong], scratch) for kind, wrong in WRONG.items()},
            }
            for kind, seconds in found.items() if number else ():
                times[kind][name].append(seconds)
    median = {kind: {name: statistics.median(each[name]) for name in trees} for kind, each in times.items()}
    median["rest"] = {name: median["debug=fdr"][name] - median["import"][name] for name in trees}
    print(f"{experiment}, medians of {n_rounds} runs")
    titles = {
        "debug=fdr": "debug=fdr, processor time",
        "import": "of it the import of Lightning",
        "rest": "of it the rest",
        **{kind: f"answer to a {kind}" for kind in WRONG},
    }
    for kind, title in titles.items():
        before, now = median[kind]["before"], median[kind]["now"]
        print(f"  {title:30} {before:5.2f} s before, {now:5.2f} s now: {now / before:.2f}x", flush=True)


def processor_time(tree: Path, arguments: Sequence[str], scratch: Path) -> float:
    """User and system time of a Python process and its children, in seconds."""
    before = os.times()
    _run(tree, arguments, scratch)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def time_to_answer(tree: Path, arguments: Sequence[str], scratch: Path) -> float:
    """Time until a Python process that is to fail has ended, in seconds."""
    start = time.perf_counter()
    _run(tree, arguments, scratch, status=1)
    return time.perf_counter() - start


def _run(tree: Path, arguments: Sequence[str], scratch: Path, status: int = 0) -> str:
    """Run Python on one thread with the package of a tree; return what it prints."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(tree / "src"),
        "PROJECT_ROOT": str(tree),
        "HYDRAUDIO_DATA_DIR": str(scratch / "data"),
        "HYDRAUDIO_LOG_DIR": str(scratch / "logs"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the first round compiles the modules
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != status:
        raise RuntimeError(f"{arguments} failed in {tree}:\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return result.stdout


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)


PARTS = {"training": compare, "commands": compare_commands}

if __name__ == "__main__":
    main()
