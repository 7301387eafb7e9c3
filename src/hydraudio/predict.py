"""Process audio files: python -m hydraudio.predict ckpt_path=FILE input=FILE_OR_FOLDER [output=FOLDER]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra_preflight.launch import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """Hand the configuration over; what is heavy is imported only now that it is known to be right."""
    from hydraudio import run

    run.predict(cfg)


if __name__ == "__main__":
    launch(main, "predict.yaml")
