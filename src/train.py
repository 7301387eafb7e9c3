"""Train and test: python src/train.py [group=option] [key=value]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra_preflight.launch import launch
from hydra_preflight.project import enter_project
from hydraudio.train import main

if TYPE_CHECKING:
    from omegaconf import DictConfig

PROJECT = Path(__file__).resolve().parents[1]


def train(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Call :func:`hydraudio.run.train` with a configuration that Hydra's ``compose`` has made."""
    from hydraudio import run

    enter_project(PROJECT)
    return run.train(cfg)


if __name__ == "__main__":
    launch(main, "train.yaml", project=PROJECT)
