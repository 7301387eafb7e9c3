"""Train and test: python -m hydraudio.train [group=option] [key=value]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra_preflight.launch import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Hand the configuration over; what is heavy is imported only now that it is known to be right."""
    from hydraudio import run
    from hydraudio.core.objective import optimized_value

    return optimized_value(run.train(cfg))


if __name__ == "__main__":
    launch(main, "train.yaml")
