"""What a continued run needs beside Lightning's own states: the scores of the last validation, and the new settings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.lr_scheduler import LambdaLR

from hydraudio.core.corpus import corpus_of


class Continuation(Callback):
    """Carry the scores of the last validation over a resume, and apply the settings that were changed.

    It also counts validations, which a plateau scheduler is stepped by.

    Every task attaches one itself (:meth:`hydraudio.core.task.Task.configure_callbacks`).

    A checkpoint holds what optimizers and schedulers were configured with. On a resume whatever is configured
    differently now takes effect: a learning rate scales the present one in proportion, so that a schedule goes on with
    the new height; every other value (weight decay, patience, length of a cosine) replaces the old one.
    """

    def __init__(self) -> None:
        self._n_validations = 0
        self._stepped_at: dict[str, int] = {}  # number of a scheduler -> validations when it was stepped last
        self._n_steps: int | None = None
        self._configured: dict[str, Any] = {}
        self._loaded: dict[str, Any] | None = None

    def has_news_for(self, trainer: Trainer, scheduler: Any) -> bool:
        """Tell whether a validation has ended since this question was answered with yes for that scheduler."""
        number = str([config.scheduler for config in trainer.lr_scheduler_configs].index(scheduler))
        is_new = self._n_validations > self._stepped_at.get(number, 0)
        self._stepped_at[number] = self._n_validations
        return is_new

    def count_steps(self, trainer: Trainer, count: Callable[[], int]) -> int:
        """Count the optimizer steps of the training, or take what the checkpoint says of one of this length.

        Epochs may have had another length when the run began; its schedule keeps to that.
        """
        loaded = self._loaded or {}
        is_known = loaded.get("n_steps") is not None and loaded["length"] == _length(trainer)
        self._n_steps = loaded["n_steps"] if is_known else count()
        return self._n_steps

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._n_validations += 1

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        metrics = trainer._logger_connector._callback_metrics  # the property would compute those of this epoch, too
        scores = {name: value.detach().cpu() for name, value in metrics.items() if name.startswith("val/")}
        checkpoint["hydraudio_continuation"] = {
            "metrics": scores,
            "n_validations": self._n_validations,
            "stepped_at": dict(self._stepped_at),
            "n_steps": self._n_steps,
            "length": _length(trainer),
            "configured": self._configured,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING and "hydraudio_continuation" in checkpoint:
            self._loaded = checkpoint["hydraudio_continuation"]
            self._n_validations = self._loaded["n_validations"]
            self._stepped_at = dict(self._loaded["stepped_at"])
            self._restore_metrics(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Optimizers and schedulers are as configured here, and nothing is restored into them yet."""
        self._configured = {
            "optimizers": [[_options(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers],
            "schedulers": [copy.deepcopy(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
        }
        self._restore_metrics(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_metrics(trainer)
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            _apply_changes(trainer, loaded["configured"], self._configured)

    def _restore_metrics(self, trainer: Trainer) -> None:
        """Lightning forgets the metrics between loading a checkpoint and training, and after a sanity check."""
        if self._loaded is not None:
            device = trainer.strategy.root_device
            metrics = {name: value.to(device) for name, value in self._loaded["metrics"].items()}
            trainer._logger_connector._callback_metrics.update(metrics)


def _length(trainer: Trainer) -> list[Any]:
    """List what decides how many steps a training has, but for the size of the corpus."""
    batch_size = getattr(corpus_of(trainer), "batch_size", None)
    return [trainer.max_epochs, trainer.max_steps, trainer.accumulate_grad_batches, trainer.world_size, batch_size]


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """Give what a parameter group was configured with; a schedule may have changed its rate for the first step."""
    options = {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
    return {**options, "lr": float(group.get("initial_lr", group["lr"]))}


def _apply_changes(trainer: Trainer, before: dict[str, Any], now: dict[str, Any]) -> None:
    shapes = [[len(groups) for groups in configured["optimizers"]] for configured in (before, now)]
    if shapes[0] != shapes[1] or len(before["schedulers"]) != len(now["schedulers"]):
        return  # restoring their states has failed already, with Lightning's words
    for optimizer, old, new in zip(trainer.optimizers, before["optimizers"], now["optimizers"], strict=True):
        for group, was, given in zip(optimizer.param_groups, old, new, strict=True):
            _apply_to_group(group, was, given)
    for config, was, given in zip(trainer.lr_scheduler_configs, before["schedulers"], now["schedulers"], strict=True):
        _apply_to_scheduler(config.scheduler, was, given)


def _apply_to_group(group: dict[str, Any], was: dict[str, Any], given: dict[str, Any]) -> None:
    group.update({key: value for key, value in given.items() if key != "lr" and value != was.get(key)})
    if given["lr"] == was["lr"]:
        return
    for key in ("lr", "initial_lr"):
        if key in group:
            rate = float(group[key]) * given["lr"] / was["lr"] if was["lr"] else given["lr"]
            group[key] = group[key].fill_(rate) if isinstance(group[key], torch.Tensor) else rate


def _apply_to_scheduler(scheduler: Any, was: dict[str, Any], given: dict[str, Any]) -> None:
    changes = {key: value for key, value in given.items() if value != was.get(key)}
    if not changes:
        return
    groups = scheduler.optimizer.param_groups
    rates = {"base_lrs": [group.get("initial_lr") for group in groups], "_last_lr": [group["lr"] for group in groups]}
    settings = {key: rates.get(key, value) for key, value in changes.items()}
    scheduler.load_state_dict({**scheduler.state_dict(), **settings})
    closed_form = (
        scheduler.get_lr if isinstance(scheduler, LambdaLR) else getattr(scheduler, "_get_closed_form_lr", None)
    )
    if closed_form is not None:  # a function of the step alone: the new one counts from this step on
        for group, rate in zip(groups, closed_form(), strict=True):
            group["lr"] = rate
        scheduler._last_lr = [group["lr"] for group in groups]
