"""Evaluate checkpoints: python -m hydraudio.eval ckpt_path=FILE [data.root=FOLDER] [report.KEY=VALUE]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra_preflight.launch import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """Hand the configuration over; what is heavy is imported only now that it is known to be right."""
    from hydraudio import run

    run.evaluate(cfg)


if __name__ == "__main__":
    launch(main, "eval.yaml")
