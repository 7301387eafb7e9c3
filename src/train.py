"""Train and test: python src/train.py [group=option] [key=value]."""

from pathlib import Path

from hydra_preflight.launch import launch
from hydraudio.train import main

if __name__ == "__main__":
    launch(main, "train.yaml", project=Path(__file__).resolve().parents[1])
