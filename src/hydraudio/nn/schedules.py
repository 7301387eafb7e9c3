"""Learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass
class WarmupCosine:
    """Give the learning rate of optimizer step t, as a factor of the base rate.

    Linear warm-up (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2), from 1/(w + 1) at step
    0 so that no step is wasted, to 1 at step w = `n_warmup_steps`; then half a cosine (Loshchilov and Hutter,
    "SGDR", ICLR 2017, eq. 5, one period) down to `min_ratio` at step `n_steps` and after it.

    A plain callable object: LambdaLR stores its three numbers in the checkpoint, which thus loads with
    ``weights_only=True`` and continues the schedule it began with.

    >>> rate = WarmupCosine(n_warmup_steps=3, n_steps=13, min_ratio=0.0)
    >>> [round(rate(step), 2) for step in (0, 1, 3, 8, 13)]
    [0.25, 0.5, 1.0, 0.5, 0.0]
    """

    n_warmup_steps: int
    n_steps: int
    min_ratio: float

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ValueError(f"n_steps={self.n_steps}, the optimizer steps of the whole training, must be at least 1")
        if not 0 <= self.min_ratio <= 1:
            raise ValueError(f"min_ratio={self.min_ratio} must lie between 0 and 1")

    def __call__(self, step: int) -> float:
        if step < self.n_warmup_steps:
            return (step + 1) / (self.n_warmup_steps + 1)
        progress = min((step - self.n_warmup_steps) / (self.n_steps - self.n_warmup_steps), 1.0)
        return self.min_ratio + (1 - self.min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_cosine(optimizer: Optimizer, n_steps: int, warmup_ratio: float = 0.05, min_ratio: float = 0.0) -> LambdaLR:
    """Build a cosine decay with linear warm-up; step it after every optimizer step (``scheduler_interval: step``).

    Args:
        optimizer: its groups' rates are the rates after the warm-up.
        n_steps: optimizer steps of the whole training, warm-up included.
        warmup_ratio: share of them that warms up.
        min_ratio: final rate, as a factor of the base rate.
    """
    if not 0 <= warmup_ratio < 1:
        raise ValueError(f"warmup_ratio={warmup_ratio} must be at least 0 and below 1")
    return LambdaLR(optimizer, WarmupCosine(int(warmup_ratio * n_steps), n_steps, min_ratio))
