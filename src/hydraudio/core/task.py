"""What every objective shares: a network, an optimizer, a scheduler, compilation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hydra_preflight.errors import ConfigError, DataMismatchError
from hydraudio.core.callbacks.continuation import Continuation
from hydraudio.core.corpus import corpus_of
from hydraudio.core.exportable import Exportable
from hydraudio.core.spec import TaskSpec
from hydraudio.nn.weight_decay import is_exempt_from_weight_decay

Stage = Literal["train", "val", "test"]


class Task(LightningModule):
    """Base of all objectives.

    A subclass implements ``training_step(batch)``, ``evaluate_batch(batch)`` (a dict of tensors, shared by validation
    and test) and ``predict(example)`` (the network alone, without labels), and ``predict_waveform(waveform)`` where one
    waveform is all that it reads.

    Args:
        net: the network. Its state-dict keys stay the same with and without ``compile``.
        optimizer: called with the parameter groups, e.g. a partial of ``torch.optim.Adam``.
        scheduler: called with the optimizer. A scheduler with an argument ``n_steps`` that is not given gets the number
            of optimizer steps of the whole training.
        scheduler_interval: step the scheduler every ``epoch`` or every optimizer ``step``.
        scheduler_monitor: name of the metric that a ReduceLROnPlateau reads.
        sample_rate: of waveforms in and out, in Hz.
        compile: compile the network in place when training begins.
    """

    spec: ClassVar[TaskSpec]
    """What the floor is, as values; the configuration names the same under ``task.spec``."""
    parts: ClassVar[tuple[str, ...]] = ("net",)
    """Attributes that hold the networks: what is shared, and what a resumed run must have in common with its past."""

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        scheduler_monitor: str | None = None,
        sample_rate: int = 16000,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.sample_rate = sample_rate
        self._optimizer, self._scheduler = optimizer, scheduler
        self._scheduler_interval, self._scheduler_monitor = scheduler_interval, scheduler_monitor
        self._compile = compile
        self._continuation = Continuation()

    def setup(self, stage: str) -> None:
        corpus = corpus_of(self.trainer)
        if corpus is not None:
            self.check_data(corpus)
        for network in self.networks().values() if self._compile and stage == "fit" else ():
            network.compile()

    def networks(self) -> dict[str, nn.Module]:
        """Return the modules that :attr:`parts` names."""
        return {name: self.get_submodule(name) for name in self.parts}

    def check_data(self, datamodule: object) -> None:
        """Refuse a corpus that disagrees with the networks in what ``spec.agree`` names, unless the task's is empty.

        Raises:
            DataMismatchError: naming both.
        """
        for name in self.spec.agree:
            given, built = getattr(datamodule, name, None), getattr(self, name)
            if built not in (None, []) and given != built:
                raise DataMismatchError(name, given, built)

    def metric_names(self, stage: Stage) -> list[str]:
        """Name all that a run logs in a stage, as ``stage/name``, as the task is configured."""
        raise NotImplementedError

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build one optimizer over all parameters; a task that alternates between several gives them here itself."""
        optimizer = self._optimizer(self.optimizer_groups())
        if self._scheduler is None:
            return optimizer
        scheduler = self._scheduler(optimizer, **self._total_steps())
        config: LRSchedulerConfigType = {"scheduler": scheduler, "interval": self._scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            config |= {"monitor": self._checked_monitor(), "strict": False}  # before the first validation there is none
        return {"optimizer": optimizer, "lr_scheduler": config}

    def configure_callbacks(self) -> list[Callback]:
        """What every run needs, whatever callbacks are configured."""
        self._continuation = Continuation()
        return [self._continuation]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a scheduler; a ReduceLROnPlateau that reads a validation only when there was a new one."""
        is_plateau = isinstance(scheduler, ReduceLROnPlateau)
        reads_validation = str(self._scheduler_monitor).startswith("val/")
        if not (is_plateau and reads_validation) or self._continuation.has_news_for(self.trainer, scheduler):
            super().lr_scheduler_step(scheduler, metric)

    def optimizer_groups(self) -> list[dict[str, Any]]:
        """Group the parameters for the optimizer; a group without a learning rate has the optimizer's."""
        return parameter_groups(self.parameters())

    def _checked_monitor(self) -> str:
        """Name of the metric that a ReduceLROnPlateau reads.

        Raises:
            ConfigError: the training will give no such metric.
        """
        stage, _, _ = (name := str(self._scheduler_monitor)).partition("/")
        names = {each: self.metric_names(each) for each in ("train", "val")}
        if name not in names.get(stage, []):
            known = ", ".join([*names["val"], *names["train"]])
            raise ConfigError(
                f"model.scheduler_monitor={name}: no such metric is logged in training; choose one of {known}"
            )
        if stage == "val" and not self.trainer.enable_validation:
            raise ConfigError(
                f"model.scheduler_monitor={name}: there is no validation; set trainer.limit_val_batches=null, or "
                "choose another scheduler, e.g. model/scheduler=warmup_cosine"
            )
        return name

    def _total_steps(self) -> dict[str, int]:
        given = getattr(self._scheduler, "keywords", {})
        wants = self._scheduler is not None and "n_steps" in inspect.signature(self._scheduler).parameters
        if not wants or given.get("n_steps") is not None:
            return {}
        return {"n_steps": self._continuation.count_steps(self.trainer, self._estimated_steps)}

    def _estimated_steps(self) -> int:
        n_steps = self.trainer.estimated_stepping_batches
        if not 0 < n_steps < math.inf:
            raise ValueError(
                "the schedule needs the length of the training: set trainer.max_epochs or trainer.max_steps"
            )
        forget_train_loader(self.trainer)
        return int(n_steps)

    def evaluate_batch(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Run the network on a batch and score it; no gradients are needed."""
        raise NotImplementedError

    def predict(self, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the network on what ``spec.inputs`` names, with the axes of ``spec.batch``.

        Returns:
            The outputs of the specification that the model has, with their axes, and what else belongs to them; fp32.
        """
        raise NotImplementedError

    def predict_waveform(self, waveform: Tensor) -> Tensor | dict[str, Tensor]:
        """Turn raw audio, (batch, time) float32 in [-1, 1] at ``sample_rate``, into the task's result."""
        raise NotImplementedError

    def stand_alone(self) -> dict[str, Any]:
        """Return the arguments in which a shared model differs from a training, with what stands there then.

        Any module inside may have a method of this name: it takes in what lies outside of it, and gives the arguments
        that build it again without that; a state dict brings the weights.
        """
        return {}

    def export_module(self) -> Exportable:
        """Return what goes into an exported file: from raw audio to the task's result, without names."""
        raise NotImplementedError


def as_task(module: LightningModule) -> Task:
    """Return the module that Lightning hands to a callback, with its own type.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(module, Task):
        raise TypeError(f"{type(module).__name__} is no hydraudio.core.task.Task")
    return module


def forget_train_loader(trainer: Trainer) -> None:
    """Let the training loader be built again when the loop begins.

    Counting steps builds it when the optimizer is configured, which is before a resumed run knows its epoch and batch.
    """
    trainer.fit_loop.teardown()  # stops the loader's workers
    trainer.fit_loop._combined_loader = None


def parameter_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Split trainable parameters into those with weight decay and those without (`hydraudio.nn.weight_decay`)."""
    trainable = [p for p in parameters if p.requires_grad]
    exempt = [p for p in trainable if is_exempt_from_weight_decay(p)]
    decayed = [p for p in trainable if not is_exempt_from_weight_decay(p)]
    groups: list[dict[str, Any]] = [{"params": decayed}]
    return groups + ([{"params": exempt, "weight_decay": 0.0}] if exempt else [])


def count_parameters(module: torch.nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
