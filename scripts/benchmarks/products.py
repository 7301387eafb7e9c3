"""Time of training steps and predictions by each route of float32 products, and by an earlier revision.

python scripts/benchmarks/products.py --revision HEAD~1 --rounds 3
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
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What makes `outputs`, and the network whose parameters a step trains.
NETWORKS = {
    # task: separation
    "separation": """
from hydra_preflight.compose import compose_run
from hydra.utils import instantiate
chosen = ["experiment=separation/polsess_" + case + "_sb", "trainer=cpu", "model.net.n_sources=2"]
net = instantiate(compose_run(chosen, sys.argv[4]).model.net)
x = torch.randn(1, 16000)
outputs = lambda: net(x)
""",
    # end task
    # task: emotion
    "emotion": """
from hydraudio.tasks.emotion.networks.upstream.loading import build_model
net = build_model({"model_type": "wavlm", "mask_time_prob": 0.0}, "eager")
x = torch.randn(4, 16000 * 4)
outputs = lambda: net(x).last_hidden_state
""",
    # end task
}
CASES = {
    # task: separation
    "sepformer": "separation",
    "resepformer": "separation",
    # end task
    # task: emotion
    "wavlm_step": "emotion",
    "wavlm_prediction": "emotion",
    # end task
}
WORKER = """
import json, sys, time
import torch
case, route, n_steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
if route != "before":
    from hydraudio.core.products import use_products
    route = use_products(route)
torch.manual_seed(0)
NETWORK
is_step = not case.endswith("_prediction")
net.train(is_step)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5)

def step():
    if not is_step:
        with torch.no_grad():
            return outputs()
    loss = outputs().square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

step()
times = []
for _ in range(n_steps):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(json.dumps({"route": route, "s": sorted(times)[len(times) // 2]}))
"""


def main() -> None:
    """Run all cases in turn and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="HEAD", help="what to compare the working tree with")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind per case")
    parser.add_argument("--steps", type=int, default=3, help="measured in each process")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        before = Path(scratch) / "tree"
        _git("worktree", "add", "--detach", str(before), arguments.revision)
        trees = {"before": before, "reference": ROOT, "onednn": ROOT, "auto": ROOT}
        try:
            for case in arguments.cases:
                compare(case, trees, arguments.rounds, arguments.steps, Path(scratch))
        finally:
            shutil.rmtree(before)
            _git("worktree", "prune")


def compare(case: str, trees: Mapping[str, Path], n_rounds: int, n_steps: int, scratch: Path) -> None:
    """Print the median time of each kind and how many times as fast as the revision before it is."""
    times: dict[str, list[float]] = {kind: [] for kind in trees}
    taken = ""
    for _ in range(n_rounds):
        for kind, tree in trees.items():
            found = measure(tree, case, kind, n_steps, scratch)
            times[kind].append(found["s"])
            taken = found["route"] if kind == "auto" else taken
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    parts = [f"{kind} {1000 * s:.0f} ms ({medians['before'] / s:.2f}x)" for kind, s in medians.items()]
    print(f"{case}: {', '.join(parts)}; auto takes {taken}", flush=True)


def measure(tree: Path, case: str, route: str, n_steps: int, scratch: Path) -> dict[str, float | str]:
    """Median time in seconds of a step in a process of its own, on one thread, and the route that it took."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree / "src"), "PROJECT_ROOT": str(tree)}
    program = WORKER.replace("NETWORK", NETWORKS[CASES[case]])
    command = [sys.executable, "-c", program, case, route, str(n_steps), str(scratch / "run")]
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{case}, {route} failed in {tree}:\n{result.stderr[-2000:]}")
    found: dict[str, float | str] = json.loads(result.stdout.splitlines()[-1])
    return found


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)


if __name__ == "__main__":
    main()
