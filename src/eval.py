"""Evaluate checkpoints: python src/eval.py ckpt_path=FILE [data.root=FOLDER] [report.KEY=VALUE]."""

import hydra
import rootutils
from omegaconf import DictConfig

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.launch import launch  # noqa: E402


@hydra.main(version_base="1.3", config_path="../configs", config_name="eval.yaml")
def main(cfg: DictConfig) -> None:
    from hydraudio import run

    run.evaluate(cfg)


if __name__ == "__main__":
    launch(main)
