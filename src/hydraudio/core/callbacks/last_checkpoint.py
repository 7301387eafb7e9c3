"""``last.ckpt``: written only at instants from which training continues exactly."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from hydraudio.core.callbacks.nan_guard import NonFiniteError
from hydraudio.core.distributed import setting


class StoppedError(SIGTERMException):
    """The run was told to stop, and has written ``last.ckpt``.

    Attributes:
        signum: by which signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


class LastCheckpoint(Callback):
    """Write ``last.ckpt`` between two batches, so that a resumed run ends with the weights of an uninterrupted one.

    Lightning's own checkpoints are written inside hooks in which the batch, the epoch or the plateau scheduler is half
    done. This one is written when a batch is about to begin and everything before it has ended (optimizer, schedulers,
    validation, averaging), and at the end of training. The loop counters in it say just that.

    SIGTERM and Ctrl-C write it too, after the running optimizer step or the running validation, and at the same step in
    all processes; a second Ctrl-C stops at once. Any other exception writes ``on_exception.ckpt`` instead if there is
    one process, which is good for looking at but may lie inside a batch.

    Args:
        dirpath: folder of the two files.
        every_n_steps: write at every multiple of that many optimizer steps; None = at the start of every epoch.
        every_n_minutes: write when the file is older than that, looked at every `log_every_n_steps` batches; None =
            never for that reason.
    """

    def __init__(self, dirpath: str, every_n_steps: int | None = None, every_n_minutes: float | None = 5.0) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1 or null, got {every_n_steps}")
        self.last = Path(dirpath) / "last.ckpt"
        self.on_failure = Path(dirpath) / "on_exception.ckpt"
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self._written_at_s = 0.0
        self._written_step = -1
        self._between_batches = False
        self._stop_signal = 0  # that has arrived and not been heeded yet
        self._n_logged_steps: int | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._n_logged_steps = checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.ckpt_path:  # resumed: the file that it came from says all of this
            self._written_step = trainer.global_step
            self._written_at_s = time.monotonic()
        self._stop_signal = 0
        if threading.current_thread() is threading.main_thread():  # in no other can they be set
            signal.signal(signal.SIGTERM, self._note_signal)  # Lightning takes both back after training
            if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
                signal.signal(signal.SIGINT, self._note_signal)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # From here on nothing is special about a resumed run. Lightning would still leave out the plateau scheduler
        # at the end of this epoch, and counts one logged step too many at the start of one.
        trainer.fit_loop.restarting = False
        if self._n_logged_steps is not None:
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._n_logged_steps
            self._n_logged_steps = None
        if batch_idx % trainer.accumulate_grad_batches:
            return  # gradients of an unfinished step are in no checkpoint
        self._heed_signal(trainer)
        if self._due(trainer, batch_idx):
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._heed_signal(trainer)
        self._write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not trainer.training or setting(trainer, "fast_dev_run") or isinstance(exception, NonFiniteError):
            return  # nothing to keep: the weights are as in last.ckpt, or no longer finite
        if isinstance(exception, SIGTERMException):
            self._write(trainer)
        elif trainer.world_size == 1:  # writing is a joint action, and the other processes have not failed
            trainer.save_checkpoint(self.on_failure)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._between_batches:
            settle_loops(checkpoint["loops"]["fit_loop"])

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        """Only remember it: Lightning's handler talks to the other processes, which may be in the midst of a step."""
        self._stop_signal = signum
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # not by logging, which may be what was interrupted
            os.write(2, b"\nStopping after this step; Ctrl-C again stops at once, without last.ckpt.\n")

    def _heed_signal(self, trainer: Trainer) -> None:
        """Stop in all processes at the same batch, when any of them was told to."""
        if trainer.strategy.reduce_boolean_decision(bool(self._stop_signal), all=False):
            raise StoppedError(self._stop_signal or signal.SIGTERM)

    def _due(self, trainer: Trainer, batch_idx: int) -> bool:
        if trainer.global_step == self._written_step:
            return False
        if batch_idx % setting(trainer, "log_every_n_steps") == 0 and self._is_old(trainer):
            return True
        if self.every_n_steps is not None:
            return trainer.global_step % self.every_n_steps == 0
        return batch_idx == 0

    def _is_old(self, trainer: Trainer) -> bool:
        """Whether the file is older than `every_n_minutes`; all processes agree, which costs a message."""
        if self.every_n_minutes is None or not self._written_at_s:
            return False
        return trainer.strategy.broadcast(time.monotonic() - self._written_at_s > 60 * self.every_n_minutes)

    def _write(self, trainer: Trainer) -> None:
        if setting(trainer, "fast_dev_run"):
            return
        self._between_batches = True
        try:
            trainer.save_checkpoint(self.last)
        finally:
            self._between_batches = False
        self._written_at_s = time.monotonic()
        self._written_step = trainer.global_step


def settle_loops(fit_loop: dict[str, Any]) -> None:
    """Make Lightning's counters say that every batch that was begun is done, and nothing is pending.

    Args:
        fit_loop: state of Lightning's fit loop as found in a checkpoint; changed in place.
    """
    batches = fit_loop["epoch_loop.batch_progress"]
    epochs = fit_loop["epoch_progress"]
    epoch_is_done = epochs["current"]["completed"] == epochs["current"]["ready"]
    for scope in ("total", "current"):
        n_done = batches[scope]["completed"]
        batches[scope] = dict.fromkeys(batches[scope], 0 if epoch_is_done and scope == "current" else n_done)
    batches["is_last_batch"] = False
