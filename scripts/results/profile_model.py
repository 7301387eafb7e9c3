"""What a network costs: python scripts/results/profile_model.py model=TASK/NETWORK [key=value ...].

For any task. Parameters; of networks that hear something multiply-accumulates and computing time per second of audio;
time and memory of a training step on the batches, with the optimizer and the precision of the configuration. Options of
this script come first: --seconds, --steps.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import rootutils

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import torch  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.errors import ConfigError  # noqa: E402
from hydra_preflight.resolvers import bind_data_attributes  # noqa: E402
from hydraudio.core.task import Task, count_parameters  # noqa: E402
from hydraudio.nn.complexity import count_macs, real_time_factor  # noqa: E402

QUIET = {
    "logger": False,
    "limit_val_batches": 0,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class StepTimer(Callback):
    """Notes how long each training step takes: forward pass, loss, backward pass, optimizer."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self._begin_s = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._begin_s = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.times_s.append(time.perf_counter() - self._begin_s)


def main() -> int:
    """Build, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="length of the recordings of the first three numbers"
    )
    parser.add_argument("--steps", type=int, default=3, help="timed training steps after one that is not")
    parser.add_argument("overrides", nargs="*", help="as for src/train.py")
    arguments = parser.parse_args()
    try:
        cfg = compose_run(arguments.overrides, tempfile.gettempdir())
        data = instantiate(cfg.data)
        bind_data_attributes(data)
        task: Task = instantiate(cfg.model, scheduler=None)
    except ConfigError as error:
        sys.stderr.write(f"Configuration error:\n{error}\n")
        return 1
    for name, text in measurements(task, data, cfg, arguments.seconds, arguments.steps):
        print(f"{name:38} {text}", flush=True)
    return 0


def measurements(
    task: Task, data: LightningDataModule, cfg: DictConfig, seconds: float, n_steps: int
) -> Iterator[tuple[str, str]]:
    """Names with their values and units."""
    timer = StepTimer()
    trainer: Trainer = instantiate(cfg.trainer, callbacks=[timer], max_epochs=-1, max_steps=n_steps + 1, **QUIET)
    device = trainer.strategy.root_device
    yield "parameters", f"{sum(count_parameters(network) for network in task.networks().values()):,}"
    if task.spec.signal:
        module = task.export_module().module.to(device).eval()
        macs = count_macs(module, round(seconds * task.sample_rate)) / seconds
        factor = real_time_factor(module, task.sample_rate, seconds)
        yield "MACs per second of audio", f"{macs / 1e9:.3f} G at {task.sample_rate} Hz"
        threads = f"{device}, {torch.get_num_threads()} threads"
        yield f"real-time factor, 1 x {seconds:g} s", f"{factor:.4f} on {threads}"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer.fit(task.train(), datamodule=data)
    batch = f"{cfg.data.batch_size} items of the corpus, {cfg.trainer.precision}"
    yield f"training step, {batch}", f"{statistics.median(timer.times_s[1:]):.3f} s"
    where = "on the device" if device.type == "cuda" else "of the process"
    yield "peak memory", f"{peak_memory_gib(device):.2f} GiB {where}"


def peak_memory_gib(device: torch.device) -> float:
    """Of the tensors on a CUDA device; elsewhere of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    sys.exit(main())
