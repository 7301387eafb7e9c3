"""Time of a training step: our whole loop (task, callbacks, loggers) against a bare PyTorch loop on the same network.

Both draw the same kind of batches from the same embedded corpus. The arms take turns; medians and the overhead are
printed.

    python scripts/separation/benchmark_loop.py [key=value ...]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import rootutils
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback
from omegaconf import DictConfig

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.resolvers import bind_data_attributes  # noqa: E402
from hydraudio.core.cpu_memory import keep_freed_memory  # noqa: E402

N_WARMUP = 5


class StepTimes(Callback):
    """Seconds from the end of one batch to the end of the next, loading included."""

    def __init__(self) -> None:
        self.ends_s: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends_s.append(time.perf_counter())


def durations(ends_s: list[float]) -> list[float]:
    return [after - before for before, after in zip(ends_s[N_WARMUP:-1], ends_s[N_WARMUP + 1 :], strict=True)]


def our_steps(cfg: DictConfig, n_steps: int) -> list[float]:
    """Step times in seconds of `trainer.fit` with every callback and logger of the configuration."""
    data, task, times = instantiate(cfg.data), instantiate(cfg.model), StepTimes()
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node]
    loggers = [instantiate(node) for node in cfg.logger.values()]
    limits = {"max_steps": n_steps, "limit_val_batches": 0, "enable_progress_bar": True}
    trainer = instantiate(cfg.trainer, callbacks=[*callbacks, times], logger=loggers, **limits)
    trainer.fit(task, datamodule=data)
    return durations(times.ends_s)


def bare_steps(cfg: DictConfig, n_steps: int) -> list[float]:
    """Step times in seconds of the shortest loop that does the same arithmetic."""
    data, task = instantiate(cfg.data), instantiate(cfg.model)
    data.prepare_data()
    data.setup("fit")
    optimizer = torch.optim.Adam(task.net.parameters(), lr=1e-3)
    ends_s: list[float] = []
    while len(ends_s) < n_steps:
        for batch in data.train_dataloader():
            loss = task.loss(task.net(batch["mixture"]), batch["target"], batch["lengths"])[0].mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.net.parameters(), cfg.trainer.gradient_clip_val)
            optimizer.step()
            ends_s.append(time.perf_counter())
            if len(ends_s) == n_steps:
                break
    return durations(ends_s)


def configuration(overrides: list[str], folder: str) -> DictConfig:
    cfg = compose_run(["experiment=separation/polsess_quick", "callbacks.early_stopping=null", *overrides], folder)
    bind_data_attributes(instantiate(cfg.data))
    (Path(folder) / "config.yaml").write_text("benchmark: true\n")
    return cfg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="steps of each arm in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of configs/train.yaml, over experiment=separation/polsess_quick")
    arguments = parser.parse_args()
    keep_freed_memory()  # as a run does; for both arms
    with tempfile.TemporaryDirectory() as folder:
        cfg = configuration(arguments.overrides, folder)
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(arguments.rounds):
            bare += bare_steps(cfg, arguments.steps)
            ours += our_steps(cfg, arguments.steps)
    print(f"{len(ours)} steps each, medians")
    print(f"bare loop   {1e3 * statistics.median(bare):8.1f} ms per step")
    print(f"hydraudio   {1e3 * statistics.median(ours):8.1f} ms per step")
    print(f"overhead    {100 * (statistics.median(ours) / statistics.median(bare) - 1):8.1f} %")


if __name__ == "__main__":
    main()
