"""Peak memory and time of one training step of SPMamba on the CPU, with and without activation checkpointing.

Each measurement is a process of its own; its peak resident set, as the system counts it, includes about 0.4 GB for
PyTorch itself.

    python scripts/separation/benchmark_spmamba_memory.py     # full size, one clip of 4 s at 8 kHz, checkpointing
    python scripts/separation/benchmark_spmamba_memory.py --seconds 0.5 --also-without
"""

import argparse
import resource
import subprocess
import sys
import time

import torch

from hydraudio.tasks.separation.networks.spmamba import SPMamba

SAMPLE_RATE_HZ = 8000


def train_step(seconds: float, batch_size: int, n_blocks: int, activation_checkpointing: bool) -> None:
    """Forward, backward and one step of Adam; prints seconds and GB."""
    torch.manual_seed(0)
    net = SPMamba(
        n_sources=2,
        n_fft=256,
        n_channels=16,
        kernel_size=8,
        n_blocks=n_blocks,
        activation_checkpointing=activation_checkpointing,
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    mixture = torch.randn(batch_size, int(seconds * SAMPLE_RATE_HZ))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    net(mixture).square().mean().backward()
    optimizer.step()
    elapsed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{elapsed:.1f} s, peak {peak / 1e6:.2f} GB, of which {before / 1e6:.2f} GB before the step")  # ru_maxrss: kB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=6, help="grid blocks; 6 is the full size")
    parser.add_argument("--also-without", action="store_true", help="measure without checkpointing too")
    parser.add_argument("--measure", choices=["kept", "recomputed"], help=argparse.SUPPRESS)  # in the child process
    arguments = parser.parse_args()
    if arguments.measure:
        recomputed = arguments.measure == "recomputed"
        train_step(arguments.seconds, arguments.batch_size, arguments.blocks, recomputed)
        return
    for measure in ("recomputed", "kept") if arguments.also_without else ("recomputed",):
        print(f"activations {measure}: ", end="", flush=True)
        subprocess.run([sys.executable, *sys.argv, "--measure", measure], check=True)


if __name__ == "__main__":
    main()
