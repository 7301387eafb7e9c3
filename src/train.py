"""Train and test: python src/train.py [group=option] [key=value]."""

import hydra
import rootutils
from omegaconf import DictConfig

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.launch import launch  # noqa: E402


@hydra.main(version_base="1.3", config_path="../configs", config_name="train.yaml")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    from hydraudio import run

    return run.train(cfg)


if __name__ == "__main__":
    launch(main)
