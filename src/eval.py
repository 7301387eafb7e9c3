"""Evaluate checkpoints: python src/eval.py ckpt_path=FILE [data.root=FOLDER] [report.KEY=VALUE]."""

from pathlib import Path

from hydra_preflight.launch import launch
from hydraudio.eval import main

if __name__ == "__main__":
    launch(main, "eval.yaml", project=Path(__file__).resolve().parents[1])
