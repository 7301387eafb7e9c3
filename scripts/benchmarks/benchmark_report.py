"""The report of a test of 10,000 items beside that of another revision: time and peak memory, and their ratios.

    python scripts/benchmarks/benchmark_report.py --revision HEAD~1

Each report is made in a process of its own, in a git worktree of the revision and in the working tree in turn, from the
same made-up scores and signals; PESQ and STOI are left out. Printed is the best of `--repeats`: "peak MB" is the peak
of the process, "own MB" that without what it held when the test began (PyTorch and the package).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BATCH_SIZE, RATE = 20, 8000


# task: separation
def separation(n_items: int) -> tuple[dict[str, Any], Iterator[tuple[dict[str, Any], dict[str, Any]]]]:
    """Seven variants of each recording of 4 s; 21 examples."""
    import torch

    variants = ("SER", "SR", "ER", "R", "SE", "S", "E")
    rng = np.random.default_rng(0)
    mixture = torch.from_numpy(rng.normal(0, 0.1, (BATCH_SIZE, 4 * RATE)).astype(np.float32))
    sides = {"target": mixture[:, None].clone(), "estimate": 0.9 * mixture[:, None]}

    def batches() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for start in range(0, n_items, BATCH_SIZE):
            numbers = range(start, start + BATCH_SIZE)
            before, gain = torch.from_numpy(rng.normal(0, 5, (2, BATCH_SIZE, 1)).astype(np.float32))
            metadata = [{"indoor": k % 2 == 0, "ssr_db": k % 9 - 4.0, "scene_class": f"s{k % 10}"} for k in numbers]
            batch = {
                "mixture": mixture,
                "target": sides["target"],
                "id": [f"{k // len(variants):05d}.wav" for k in numbers],
                "variant": [variants[k % len(variants)] for k in numbers],
                "lengths": torch.full((BATCH_SIZE,), mixture.shape[1]),
                "degenerate": torch.zeros(BATCH_SIZE, dtype=torch.bool),
                "metadata": metadata,
            }
            scores = {"si_sdr_mixture": before, "si_sdr": before + gain, "si_sdri": gain}
            order = torch.zeros(BATCH_SIZE, 1, dtype=torch.long)
            yield batch, {"estimate": sides["estimate"], "permutation": order, **scores}

    return {"metrics": "fast", "n_examples": 1, "n_sources": 1}, batches()


# end task
# task: emotion
def emotion(n_items: int) -> tuple[dict[str, Any], Iterator[tuple[dict[str, Any], dict[str, Any]]]]:
    """Categories and attributes of 200 speakers, utterances of 4 s; 20 examples."""
    import torch

    rng = np.random.default_rng(0)
    waveform = torch.from_numpy(rng.normal(0, 0.1, (BATCH_SIZE, 4 * RATE)).astype(np.float32))

    def batches() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for start in range(0, n_items, BATCH_SIZE):
            numbers = range(start, start + BATCH_SIZE)
            label = torch.from_numpy(rng.integers(0, 8, BATCH_SIZE))
            logits = torch.from_numpy(rng.normal(size=(BATCH_SIZE, 8))) + 2 * torch.nn.functional.one_hot(label, 8)
            truth, guess = torch.from_numpy(rng.uniform(0, 1, (2, BATCH_SIZE, 3)))
            about = [
                {
                    "speaker": str(k % 200),
                    "podcast": "",
                    "split": f"Test{k % 2}",
                    "duration_s": 2.0 + k % 12,
                    "path": "",
                }
                for k in numbers
            ]
            batch = {
                "waveform": waveform,
                "lengths": torch.full((BATCH_SIZE,), waveform.shape[1]),
                "id": [f"MSP-PODCAST_{k:05d}.wav" for k in numbers],
                "label": label,
                "votes": torch.nn.functional.one_hot(label, 8).double(),
                "attributes": truth,
                "gender": torch.tensor([k % 200 % 2 for k in numbers]),
                "metadata": about,
            }
            yield batch, {"logits": logits, "probabilities": logits.softmax(-1), "attributes": (truth + guess) / 2}

    heads = {"class_names": [f"class{k}" for k in range(8)], "attribute_names": ["arousal", "valence", "dominance"]}
    return {"n_examples": 8, **heads}, batches()


# end task
TASKS: dict[str, Callable[[int], tuple[dict[str, Any], Iterator[tuple[dict[str, Any], dict[str, Any]]]]]] = {
    # task: separation
    "separation": separation,
    # end task
    # task: emotion
    "emotion": emotion,
    # end task
}


def measure(name: str, n_items: int) -> dict[str, float]:
    """Seconds and megabytes of one report, of the package that this process imports."""
    import torch
    import yaml
    from hydra.utils import get_class
    from lightning.pytorch import Trainer
    from torch.utils.data import DataLoader

    from hydraudio.core.spec import load_spec
    from hydraudio.core.task import Task

    config = yaml.safe_load(Path("configs", "task", f"{name}.yaml").read_text())
    arguments, made_up = TASKS[name](n_items)
    loader = DataLoader(list(made_up), batch_size=None)
    attributes = {key: arguments.pop(key) for key in list(arguments) if key not in ("metrics", "n_examples")}

    class MadeUp(Task):
        spec = load_spec(config["task"]["spec"])

        def test_step(self, batch: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
            return batch[1]

    class TestReport(get_class(config["report"]["_target_"])):  # type: ignore[misc]
        def on_test_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, *place: int) -> None:
            super().on_test_batch_end(trainer, task, outputs, batch[0], *place)

    task = MadeUp(torch.nn.Linear(1, 1), torch.optim.SGD, sample_rate=RATE)
    for key, value in attributes.items():
        setattr(task, key, value)
    with tempfile.TemporaryDirectory() as folder:
        report = TestReport(Path(folder, "made_up", "run", "report"), **arguments)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(accelerator="cpu", callbacks=[report], **quiet)
        before_mb, begin = resident_mb(), time.perf_counter()
        trainer.test(task, loader, verbose=False)
        seconds = time.perf_counter() - begin
        size_mb = (report.output_dir / "index.html").stat().st_size / 1e6
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"s": seconds, "peak MB": peak_mb, "own MB": peak_mb - before_mb, "page MB": size_mb}


def resident_mb() -> float:
    """What the process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="HEAD", help="of git, to compare the working tree with")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=TASKS, help="one report of the package that is imported, as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.items)))
        return
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder, "before")
        subprocess.run(["git", "worktree", "add", "--detach", before, args.revision], cwd=ROOT, check=True)
        try:
            for name in TASKS:
                found = [[run(root, name, args.items) for root in (before, ROOT)] for _ in range(args.repeats)]
                report(name, *(best([pair[k] for pair in found]) for k in (0, 1)))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)


def run(root: Path, name: str, n_items: int) -> dict[str, float]:
    """Measure in a process of its own, with the package and the configuration of a checkout."""
    command = [sys.executable, __file__, "--only", name, "--items", str(n_items)]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def best(rows: list[dict[str, float]]) -> dict[str, float]:
    """The smallest of each figure."""
    return {key: min(row[key] for row in rows) for key in rows[0]}


def report(name: str, before: dict[str, float], now: dict[str, float]) -> None:
    print(f"{name:12}" + "".join(f"{key:>12}" for key in now))
    for title, row in (("before", before), ("now", now)):
        print(f"{title:12}" + "".join(f"{value:12.2f}" for value in row.values()))
    print(f"{'ratio':12}" + "".join(f"{now[key] / before[key]:12.2f}" for key in now), flush=True)


if __name__ == "__main__":
    main()
