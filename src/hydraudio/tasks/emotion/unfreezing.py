"""Gradual unfreezing: more and more blocks of an upstream are trained.

Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.3.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream

log = logging.getLogger(__name__)
_NAME = "callbacks.gradual_unfreezing"


class GradualUnfreezing(Callback):
    """Sets how many of the topmost blocks of ``net.upstream`` are trained, by epoch.

    The optimizer is made while the blocks of the largest stage are trainable, so that it holds their parameters from
    the start; those that are frozen get no gradient and stay as they are. What is trained follows from the epoch alone:
    a run that is continued goes on exactly.

    Args:
        stages: first epoch (from 0) of each stage and the number of blocks, or "all": {0: 0, 1: 2, 2: 4}. There must be
            one for epoch 0.
        extras: further parts that are trained throughout, see ``trainable_extras`` of the upstream.
    """

    def __init__(self, stages: Mapping[int, int | str], extras: Sequence[str] = ()) -> None:
        self.stages = {int(epoch): n_blocks for epoch, n_blocks in sorted(stages.items())}
        if 0 not in self.stages or min(self.stages) < 0:
            raise ValueError(f"{_NAME}.stages={self.stages}: epochs count from 0, and 0 needs a stage")
        self.extras = list(extras)
        self._trained: int | str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._trained = None
        upstream = _upstream(trainer, pl_module)
        n_blocks = [upstream.n_blocks if given == "all" else given for given in self.stages.values()]
        upstream.set_trainable(max(n_blocks), self.extras)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._enter(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._enter(trainer, pl_module)

    def _enter(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
        n_blocks = self.stages[max(first for first in self.stages if first <= epoch)]
        if n_blocks != self._trained:
            self._trained = n_blocks
            _upstream(trainer, pl_module).set_trainable(n_blocks, self.extras)
            log.info("Epoch %d: %s blocks of the upstream are trained.", epoch, n_blocks)


def _upstream(trainer: Trainer, pl_module: LightningModule) -> Upstream:
    """The upstream that is trained in stages, where that is possible."""
    upstream: Any = getattr(getattr(pl_module, "net", None), "upstream", None)
    if not hasattr(upstream, "set_trainable"):
        raise ValueError(f"{_NAME} needs a network with an upstream, such as model=emotion/category")
    if getattr(pl_module, "cached", None) is not None:
        raise ValueError(f"{_NAME} changes the upstream, but its features are cached: set cache_features=null")
    options = getattr(trainer.strategy, "_ddp_kwargs", {})
    if trainer.world_size > 1 and not options.get("find_unused_parameters", False):
        raise ValueError(
            f"{_NAME} leaves parameters without gradients in its first stages: on several devices it needs "
            "trainer.strategy=ddp_find_unused_parameters_true"
        )
    return upstream
