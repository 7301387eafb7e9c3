"""Process audio files: python src/predict.py ckpt_path=FILE input=FILE_OR_FOLDER output=FOLDER."""

from pathlib import Path

from hydra_preflight.launch import launch
from hydraudio.predict import main

if __name__ == "__main__":
    launch(main, "predict.yaml", project=Path(__file__).resolve().parents[1])
