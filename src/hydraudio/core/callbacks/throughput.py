"""How fast training runs, and what it waits for."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from hydraudio.core.task import Task, as_task


class Throughput(Callback):
    """Log the speed of training since the previous log step, without making the device wait.

    - ``throughput/items_per_s``: training items per second, all devices together (higher is better)
    - ``throughput/audio_s_per_s``: seconds of audio per second, padding not counted, for batches with
    ``lengths``
    - ``throughput/padding``: share of the samples of the batches that is padding (0 to 1, lower is better), for
    batches that say whether they are ``padded``
    - ``throughput/loader_wait``: share of the time between the end of a batch and the begin of the next,
      which is waiting for the loader and moving the batch (0 to 1, lower is better)
    - ``throughput/peak_memory_gib``: largest memory that tensors took on a CUDA device so far, in GiB

    Validation does not count, nor do batches around which a checkpoint is written.
    """

    def __init__(self) -> None:
        self._reset()
        self._batch_ended_s: float | None = None
        self._batch_began_s: float | None = None
        self._wait_s = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batch_ended_s = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batch_ended_s = time.perf_counter()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._batch_ended_s = self._batch_began_s = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._batch_ended_s is None:
            return
        self._batch_began_s = time.perf_counter()
        self._wait_s = self._batch_began_s - self._batch_ended_s

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now_s = time.perf_counter()
        if self._batch_began_s is not None:
            self._count(batch, now_s - self._batch_began_s, as_task(pl_module).spec.signal)
        self._batch_ended_s, self._batch_began_s = now_s, None
        if self._n_items and _is_log_step(trainer):
            pl_module.log_dict(self._rates(trainer, as_task(pl_module)), on_step=True, on_epoch=False, batch_size=1)
            self._reset()

    def _reset(self) -> None:
        self._n_items = 0
        self._n_slots = 0
        self._n_samples: Tensor | None = None
        self._loading_s = self._working_s = 0.0

    def _count(self, batch: Any, step_s: float, signal: str) -> None:
        self._loading_s += self._wait_s
        self._working_s += step_s
        self._n_items += len(batch["id"])
        if "lengths" in batch:
            n_samples = batch["lengths"].sum()
            self._n_samples = n_samples if self._n_samples is None else self._n_samples + n_samples
        if "padded" in batch and signal in batch:
            self._n_slots += len(batch["id"]) * batch[signal].shape[-1]

    def _rates(self, trainer: Trainer, task: Task) -> dict[str, float | Tensor]:
        elapsed_s = self._loading_s + self._working_s
        rates: dict[str, float | Tensor] = {
            "throughput/items_per_s": trainer.world_size * self._n_items / elapsed_s,
            "throughput/loader_wait": self._loading_s / elapsed_s,
        }
        if self._n_samples is not None:
            audio_s = self._n_samples / task.sample_rate
            rates["throughput/audio_s_per_s"] = trainer.world_size * audio_s / elapsed_s
            if self._n_slots:
                rates["throughput/padding"] = 1 - self._n_samples / self._n_slots
        if task.device.type == "cuda":
            rates["throughput/peak_memory_gib"] = torch.cuda.max_memory_allocated(task.device) / 2**30
        return rates


def _is_log_step(trainer: Trainer) -> bool:
    """Whether Lightning writes metrics after this batch (the question that its own monitors ask)."""
    unfinished = trainer.fit_loop._should_accumulate()
    return trainer._logger_connector.should_update_logs and not unfinished
