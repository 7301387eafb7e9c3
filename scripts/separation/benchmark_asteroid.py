"""Conv-TasNet and DPRNN against asteroid's: training step, taking turns, each in a process of its own.

asteroid needs older packages than Hydraudio, hence an environment of its own:

    python -m venv .venv-asteroid
    .venv-asteroid/bin/pip install "torch==2.13.0" "asteroid==0.7.0" "torchmetrics<=0.11.4" requests
    python scripts/separation/benchmark_asteroid.py --peer-python .venv-asteroid/bin/python

Sizes, inputs, loss (-SI-SDR without permutations) and optimizer are equal; medians are printed. asteroid's Conv-TasNet
has a skip path, which is switched off here because ours (and SpeechBrain's) has none. The last row of each network is
with `keep_freed_memory`, which Hydraudio's training on a CPU switches on.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

SAMPLE_RATE_HZ = 8000
NETS: dict[str, dict[str, int]] = {
    "conv_tasnet": {
        "n_filters": 128,
        "bottleneck_channels": 128,
        "hidden_channels": 256,
        "n_blocks": 6,
        "n_repeats": 3,
    },
    "dprnn": {"n_filters": 64, "chunk_size": 100, "n_layers": 6, "hidden_size": 128},
}


def hydraudio_net(name: str) -> nn.Module:
    if name == "conv_tasnet":
        from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet

        return ConvTasNet(n_sources=2, kernel_size=16, **NETS[name])
    from hydraudio.tasks.separation.networks.dprnn import DPRNN

    return DPRNN(n_sources=2, kernel_size=16, **NETS[name])


def asteroid_net(name: str) -> nn.Module:
    _install_torchaudio_standin()
    from asteroid.models import ConvTasNet, DPRNNTasNet  # type: ignore

    size = NETS[name]
    if name == "conv_tasnet":
        return ConvTasNet(
            n_src=2,
            n_filters=size["n_filters"],
            kernel_size=16,
            stride=8,
            bn_chan=size["bottleneck_channels"],
            hid_chan=size["hidden_channels"],
            skip_chan=0,
            n_blocks=size["n_blocks"],
            n_repeats=size["n_repeats"],
            mask_act="relu",
        )
    return DPRNNTasNet(
        n_src=2,
        n_filters=size["n_filters"],
        kernel_size=16,
        stride=8,
        bn_chan=size["n_filters"],
        hid_size=size["hidden_size"],
        chunk_size=size["chunk_size"],
        n_repeats=size["n_layers"],
        mask_act="relu",
    )


def _install_torchaudio_standin() -> None:
    """From its file: the package is not installed in asteroid's environment."""
    path = Path(__file__).parents[2] / "src" / "hydraudio" / "core" / "torchaudio_standin.py"
    spec = importlib.util.spec_from_file_location("torchaudio_standin", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    module.install_torchaudio_standin()


def negative_si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True)
    projection = scale * target
    ratio = projection.square().sum(-1) / (projection - estimate).square().sum(-1)
    return -10 * torch.log10(ratio).mean()


def serve(library: str, name: str, batch_size: int, seconds: float) -> None:
    """Make a training step for every line on stdin, answer with its duration in ms."""
    torch.manual_seed(0)
    if library == "hydraudio, freed memory kept":
        from hydraudio.core.cpu_memory import keep_freed_memory

        keep_freed_memory()
    net = asteroid_net(name) if library == "asteroid" else hydraudio_net(name)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    mixture = 0.1 * torch.randn(batch_size, round(seconds * SAMPLE_RATE_HZ))
    target = 0.1 * torch.randn(batch_size, 2, mixture.shape[-1])
    print(sum(p.numel() for p in net.parameters()), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        optimizer.zero_grad()
        negative_si_sdr(net(mixture), target).backward()
        optimizer.step()
        print(1000 * (time.perf_counter() - start), flush=True)


class Worker:
    """A process with one library's network."""

    def __init__(self, python: str, library: str, name: str, arguments: argparse.Namespace) -> None:
        options = [f"--batch-size={arguments.batch_size}", f"--seconds={arguments.seconds}"]
        command = [python, __file__, "--serve", library, "--nets", name, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.n_parameters = int(self._answer())

    def step_ms(self) -> float:
        self.process.stdin.write("\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return float(self._answer())

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()

    def _answer(self) -> str:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"the worker ended with status {self.process.wait()}; its error is above")
        return line


def compare(name: str, arguments: argparse.Namespace) -> None:
    pythons = dict.fromkeys(("hydraudio", "hydraudio, freed memory kept"), sys.executable)
    pythons = {"asteroid": arguments.peer_python, **pythons}
    workers = {library: Worker(python, library, name, arguments) for library, python in pythons.items()}
    times: dict[str, list[float]] = {library: [] for library in workers}
    for step in range(arguments.steps + 1):
        for library, worker in workers.items():
            duration = worker.step_ms()
            if step > 0:  # the first is a warm-up
                times[library].append(duration)
    medians = {library: statistics.median(values) for library, values in times.items()}
    for library, worker in workers.items():
        worker.close()
        ratio = medians["asteroid"] / medians[library]
        size = f"{worker.n_parameters:>10,} parameters"
        print(f"{name:12} {library:29} {size} {medians[library]:6.0f} ms per step {ratio:6.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter of asteroid's environment")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--steps", type=int, default=5, help="timed steps after one warm-up")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.nets[0], arguments.batch_size, arguments.seconds)
        return
    if not arguments.peer_python:
        print("asteroid needs an environment of its own, which is not given (--peer-python): see --help")
        return
    for name in arguments.nets:
        compare(name, arguments)


if __name__ == "__main__":
    main()
