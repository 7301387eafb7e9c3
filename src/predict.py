"""Process audio files: python src/predict.py ckpt_path=FILE input=FILE_OR_FOLDER output=FOLDER."""

import hydra
import rootutils
from omegaconf import DictConfig

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.launch import launch  # noqa: E402


@hydra.main(version_base="1.3", config_path="../configs", config_name="predict.yaml")
def main(cfg: DictConfig) -> None:
    from hydraudio import run

    run.predict(cfg)


if __name__ == "__main__":
    launch(main)
