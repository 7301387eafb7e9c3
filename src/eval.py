"""Evaluate checkpoints: python src/eval.py ckpt_path=FILE [data.root=FOLDER] [report.KEY=VALUE]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra_preflight.launch import launch
from hydra_preflight.project import enter_project
from hydraudio.eval import main

if TYPE_CHECKING:
    from omegaconf import DictConfig

PROJECT = Path(__file__).resolve().parents[1]


def evaluate(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Call :func:`hydraudio.run.evaluate` with a configuration that Hydra's ``compose`` has made."""
    from hydraudio import run

    enter_project(PROJECT)
    return run.evaluate(cfg)


if __name__ == "__main__":
    launch(main, "eval.yaml", project=PROJECT)
