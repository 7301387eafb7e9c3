"""Whether training computes the same bits as an earlier revision: python scripts/golden.py [--revision HEAD].

Each experiment trains a few steps and tests once, in a worktree of the revision and in the working tree, on one thread.
Compared are all weights of the last checkpoint, the loss of every step and every score of the test. What the earlier
revision gave is kept below logs/golden. Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "logs" / "golden"
EXPERIMENTS = (
    # task: separation
    "polsess_quick",
    "libri2mix_quick",
    # end task
    # task: emotion
    "msp_wavlm_category",
    "msp_frozen_probe",
    # end task
    # task: pretraining
    "esc50_quick",
    # end task
)
N_STEPS = 20
SETTINGS = (
    f"trainer.max_steps={N_STEPS}",
    f"trainer.max_epochs={N_STEPS}",
    "trainer.limit_train_batches=10",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=4",
    "data.num_workers=0",
    "report.n_bootstrap=50",
)
TIMES = ("lr-", "throughput/", "time", "epoch")  # what a log holds besides numbers of the training
Fingerprint = dict[str, str]


def main() -> int:
    """Compare all experiments; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="HEAD", help="what to compare the working tree with")
    parser.add_argument("--experiment", nargs="+", default=list(EXPERIMENTS), help="names of experiments")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest difference of a number that is allowed")
    arguments = parser.parse_args()
    revision = _git("rev-parse", arguments.revision)
    n_different = 0
    for experiment in arguments.experiment:
        before = _stored(revision, experiment)
        with tempfile.TemporaryDirectory() as scratch:
            after = fingerprint(ROOT, experiment, Path(scratch))
        different = differences(before, after, arguments.tolerance)
        n_different += len(different)
        print(f"{experiment}: {len(before)} values compared, {len(different)} differ from {revision[:12]}")
        for line in different[:20]:
            print(f"  {line}")
    return 1 if n_different else 0


def fingerprint(tree: Path, experiment: str, scratch: Path) -> Fingerprint:
    """Name -> value of everything that a short run in a source tree gives.

    Raises:
        RuntimeError: the run failed.
    """
    found = sorted((tree / "configs" / "experiment").rglob(f"{experiment}.yaml"))
    if not found:
        raise FileNotFoundError(f"{tree / 'configs' / 'experiment'}: holds no {experiment}.yaml")
    option = found[0].relative_to(tree / "configs" / "experiment").with_suffix("").as_posix()
    environment = {
        **os.environ,
        "HYDRAUDIO_PRODUCTS": "reference",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(tree / "src"),
        "PROJECT_ROOT": str(tree),
        "HYDRAUDIO_LOG_DIR": str(scratch / "logs"),
        "HYDRAUDIO_DATA_DIR": str(scratch / "data"),
    }
    command = [sys.executable, str(tree / "src" / "train.py"), f"experiment={option}", "name=golden", *SETTINGS]
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
    run = scratch / "logs" / "golden" / "latest"
    return {**_weights(run / "checkpoints" / "last.ckpt"), **_numbers(run / "metrics.csv")}


def differences(before: Mapping[str, str], after: Mapping[str, str], tolerance: float) -> list[str]:
    """A line per value that is missing on one side or differs by more than the tolerance."""
    lines = []
    for name in sorted({*before, *after}):
        pair = before.get(name, "missing"), after.get(name, "missing")
        if pair[0] != pair[1] and not _close(*pair, tolerance):
            lines.append(f"{name}: {pair[0]} -> {pair[1]}")
    return lines


def _close(before: str, after: str, tolerance: float) -> bool:
    try:
        return abs(float(before.split()[-1]) - float(after.split()[-1])) <= tolerance > 0
    except ValueError:
        return False


def _weights(checkpoint: Path) -> Fingerprint:
    """Each tensor as its hash and, for a comparison with a tolerance, its mean magnitude."""
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    hashes = {}
    for name, tensor in state.items():
        values = tensor.detach().contiguous()
        digest = hashlib.sha256(values.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
        hashes[f"weight {name}"] = f"{digest} {values.double().abs().mean().item():.9g}"
    return hashes


def _numbers(table: Path) -> Fingerprint:
    """Every number of the log by step and name."""
    numbers = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name != "step" and not name.startswith(TIMES):
                    numbers[f"{name} at step {row['step']}"] = value
    return numbers


def _stored(revision: str, experiment: str) -> Fingerprint:
    """What a revision gives, computed once."""
    place = STORE / f"{revision[:12]}_{experiment}.json"
    if not place.is_file():
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch) / "tree"
            _git("worktree", "add", "--detach", str(tree), revision)
            try:
                found = fingerprint(tree, experiment, Path(scratch))
            finally:
                shutil.rmtree(tree)
                _git("worktree", "prune")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return json.loads(place.read_text(encoding="utf-8"))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
