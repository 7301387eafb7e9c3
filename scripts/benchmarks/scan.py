"""The selective scan against its alternatives in PyTorch, forward and backward: time, ratio, memory beyond the inputs.

Each method runs in a process of its own, with equal inputs; best time of `--repeats` after one warm-up (the published
reference: one run, its backward is quadratic in the steps).

    python scripts/benchmarks/scan.py                      # batch 4, 2000 steps, 256 channels, 16 states
    python scripts/benchmarks/scan.py --steps 200 --mixer  # whole mixers, beside transformers' slow path
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Scan = Callable[..., Tensor]


def published_reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """As mamba-ssm documents it: all decays and inputs at once, steps taken by slicing. (batch, channels, steps)."""
    u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    inputs = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    state, outputs = torch.zeros_like(decay[:, :, 0]), []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + inputs[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, t]))
    return (torch.stack(outputs, 2) + u * D[:, None]).transpose(1, 2)


def loop_over_steps(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """A plain loop that unbinds the steps and computes nothing beforehand."""
    state, outputs = u.new_zeros(len(u), *A.shape), []
    for u_t, delta_t, B_t, C_t in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        state = torch.exp(delta_t.unsqueeze(-1) * A) * state + (delta_t * u_t).unsqueeze(-1) * B_t.unsqueeze(1)
        outputs.append((state * C_t.unsqueeze(1)).sum(-1))
    return torch.stack(outputs, 1) + u * D


def mambapy_pscan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    from mambapy.pscan import pscan

    states = pscan(torch.exp(delta.unsqueeze(-1) * A), (delta * u).unsqueeze(-1) * B.unsqueeze(2))
    return (states @ C.unsqueeze(-1)).squeeze(-1) + u * D


def hydraudio(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Takes delta before softplus, like all of ours; its inverse is not part of what is timed."""
    from hydraudio.nn.layers.scan import selective_scan

    return selective_scan(*(x.unsqueeze(0) for x in (u, delta, A, B, C, D)), torch.zeros_like(D)[None])[0]


def mixers(channels: int, states: int) -> dict[str, nn.Module]:
    """Equal weights; `channels` is the inner width."""
    import transformers
    from transformers.models.mamba.modeling_mamba import MambaMixer

    from hydraudio.nn.layers.mamba import Mamba

    def theirs(use_mambapy: bool) -> nn.Module:
        config = transformers.MambaConfig(hidden_size=channels // 2, state_size=states, use_mambapy=use_mambapy)
        return MambaMixer(config, layer_idx=0)

    nets = {"transformers, slow path": theirs(False), "transformers, mambapy": theirs(True)}
    nets["Hydraudio"] = Mamba(channels // 2, d_state=states)
    for net in nets.values():
        net.load_state_dict(nets["Hydraudio"].state_dict())
    return nets


SCANS: dict[str, Scan] = {
    "published reference": published_reference,
    "loop over steps": loop_over_steps,
    "mambapy pscan": mambapy_pscan,
    "Hydraudio": hydraudio,
}
MIXERS = ("transformers, slow path", "transformers, mambapy", "Hydraudio")
ONE_RUN = ("published reference",)


def inputs(args: argparse.Namespace, name: str) -> list[Tensor]:
    """u, delta, A, B, C, D of equal values for every method."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.batch_size, args.steps)
    u, raw = torch.randn(2, *shape, args.channels, generator=generator)
    B, C = torch.randn(2, *shape, args.states, generator=generator)
    A = -torch.arange(1.0, args.states + 1).repeat(args.channels, 1)
    delta = raw - 4 if name == "Hydraudio" else F.softplus(raw - 4)
    return [x.requires_grad_() for x in (u, delta, A, B, C, torch.ones(args.channels))]


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Of the method `--only`, in this process."""
    if args.mixer:
        from hydraudio.core.torchaudio_standin import install_torchaudio_standin

        install_torchaudio_standin()  # transformers imports torchaudio where there is one
        torch.manual_seed(0)
        function: Callable[..., Tensor] = mixers(args.channels, args.states)[args.only]
        tensors = [torch.randn(args.batch_size, args.steps, args.channels // 2).requires_grad_()]
    else:
        function, tensors = SCANS[args.only], inputs(args, args.only)
    short = [x[:, :20] if x.ndim == 3 else x for x in tensors]
    function(*short).sum().backward()  # imports, first use of every kernel
    before, forward, total = resident_mb(), [], []
    for repeat in range(1 if args.only in ONE_RUN else args.repeats + 1):
        start = time.perf_counter()
        y = function(*tensors)
        forward.append(time.perf_counter() - start)
        y.square().sum().backward()
        total.append(time.perf_counter() - start)
        if repeat == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    checksum = y.square().sum().item()
    return {"forward": min(forward), "total": min(total), "memory": max(peak - before, 0), "checksum": checksum}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mixer", action="store_true", help="whole mixers of this inner width instead of scans")
    parser.add_argument("--only", choices=[*SCANS, *MIXERS], help="one method, as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args)))
        return
    names = [name for name in (MIXERS if args.mixer else SCANS) if "mambapy" not in name or _has_mambapy()]
    rows = {}
    for name in names:
        command = [sys.executable, *sys.argv, "--only", name]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        rows[name] = json.loads(result.stdout.splitlines()[-1])
    shape = f"batch {args.batch_size}, {args.steps} steps, {args.channels} channels, {args.states} states"
    print(f"{shape}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':26}{'forward ms':>11}{'+ backward':>11}{'times ours':>11}{'memory MB':>11}{'checksum':>13}")
    for name, row in rows.items():
        ratio = row["total"] / rows["Hydraudio"]["total"]
        times = f"{1000 * row['forward']:11.0f}{1000 * row['total']:11.0f}{ratio:11.1f}"
        print(f"{name:26}{times}{row['memory']:11.0f}{row['checksum']:13.6g}")


def _has_mambapy() -> bool:
    return importlib.util.find_spec("mambapy") is not None


if __name__ == "__main__":
    main()
