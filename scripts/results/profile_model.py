"""What a network costs: python scripts/results/profile_model.py model=separation/conv_tasnet [key=value ...].

Parameters, multiply-accumulates and computing time per second of audio, and time and memory of a training step with
the optimizer, batch size and precision of the configuration. Options of this script come first: --seconds, --steps.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time

import rootutils

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import torch  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.errors import ConfigError  # noqa: E402
from hydra_preflight.resolvers import bind_data_attributes  # noqa: E402
from hydraudio.core.task import Task, count_parameters, parameter_groups  # noqa: E402
from hydraudio.nn.complexity import count_macs, real_time_factor  # noqa: E402

OTHERS = "for emotion networks there is scripts/emotion/benchmark_recipe.py"
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def main() -> int:
    """Build, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the mixtures")
    parser.add_argument("--steps", type=int, default=3, help="timed training steps after one that is not")
    parser.add_argument("overrides", nargs="*", help="as for src/train.py")
    arguments = parser.parse_args()
    try:
        cfg = compose_run(arguments.overrides, tempfile.gettempdir())
        bind_data_attributes(instantiate(cfg.data))
        task: Task = instantiate(cfg.model)
    except ConfigError as error:
        sys.stderr.write(f"Configuration error:\n{error}\n")
        return 1
    if not hasattr(task, "n_sources"):
        name = type(task).__name__
        sys.stderr.write(f"{parser.prog}: measures separation networks, and {name} has another task; {OTHERS}\n")
        return 1
    device = instantiate(cfg.trainer, logger=False, callbacks=[]).strategy.root_device
    for name, text in measurements(task.to(device), cfg, arguments.seconds, arguments.steps).items():
        print(f"{name:38} {text}", flush=True)
    return 0


def measurements(task: Task, cfg: DictConfig, seconds: float, n_steps: int) -> dict[str, str]:
    """Names with their values and units."""
    macs = count_macs(task.net, round(seconds * task.sample_rate)) / seconds
    factor = real_time_factor(task.net.eval(), task.sample_rate, seconds)
    step_s, memory_gib = training_step(task.train(), cfg, seconds, n_steps)
    device = next(task.parameters()).device
    batch = f"{cfg.data.batch_size} x {seconds:g} s, {cfg.trainer.precision}"
    return {
        "parameters": f"{count_parameters(task.net):,}",
        "MACs per second of audio": f"{macs / 1e9:.3f} G at {task.sample_rate} Hz",
        f"real-time factor, 1 x {seconds:g} s": f"{factor:.4f} on {device}, {torch.get_num_threads()} threads",
        f"training step, {batch}": f"{step_s:.3f} s",
        "peak memory": f"{memory_gib:.2f} GiB " + ("on the device" if device.type == "cuda" else "of the process"),
    }


def training_step(task: Task, cfg: DictConfig, seconds: float, n_steps: int) -> tuple[float, float]:
    """Median time of forward pass, loss, backward pass and optimizer step; peak memory in GiB."""
    device = next(task.parameters()).device
    shape = (cfg.data.batch_size, task.n_sources, round(seconds * task.sample_rate))
    target = 0.1 * torch.randn(*shape, device=device)
    batch = {"mixture": target.sum(1), "target": target}
    lengths = torch.full(shape[:1], shape[-1], device=device)
    optimizer = instantiate(cfg.model.optimizer)(parameter_groups(task.parameters()))
    precision = AUTOCAST.get(cfg.trainer.precision)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times_s = []
    for _ in range(n_steps + 1):
        begin_s = time.perf_counter()
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            estimate = task.net(batch["mixture"])
        loss = task.loss(estimate.float(), batch["target"], lengths)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_s.append(time.perf_counter() - begin_s)
    return statistics.median(times_s[1:]), peak_memory_gib(device)


def peak_memory_gib(device: torch.device) -> float:
    """Of the tensors on a CUDA device; elsewhere of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    sys.exit(main())
