"""A run of the toy floor on disk: a checkpoint as the training writes it, and what evaluates it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

TRUSTED = "extras.trusted_targets=[toy_floor.]"


def config(folder: Path) -> dict[str, Any]:
    return {
        "name": "toys",
        "seed": 7,
        "task": {"name": "toy", "spec": "toy_floor.SPEC", "monitor": "val/error"},
        "data": {
            "_target_": "toy_floor.ToyDataModule",
            "root": str(folder / "corpus"),
            "kind_names": ["low", "high"],
            "splits": {"train": ["A", "B"], "test": "C"},
            "notes": str(folder / "private_notes.txt"),
        },
        "model": {
            "_target_": "toy_floor.ToyTask",
            "net": {"_target_": "toy_floor.Judge", "n_kinds": 2},
            "ear": {"_target_": "toy_floor.Ear", "source": str(folder / "ear.pt"), "revision": "abc"},
            "kind_names": ["low", "high"],
        },
        "trainer": {"max_epochs": 3},
        "extras": {"trusted_targets": ["toy_floor."]},
        "paths": {"output_dir": str(folder)},
    }


def write_run(folder: Path, with_metrics: bool = True) -> Path:
    """``<folder>/checkpoints/best.ckpt`` of networks as they begin."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(torch.tensor([3.0, 0.5]), folder / "ear.pt")
    given = OmegaConf.create(config(folder))
    torch.manual_seed(0)
    task = instantiate(given.model)
    path = folder / "checkpoints" / "best.ckpt"
    about = {"version": "0.1.0", "git_revision": "0" * 40, "fingerprint": "f" * 64}
    state = {"monitor": "val/error", "current_score": torch.tensor(1.25), "best_model_score": torch.tensor(1.25)}
    contents = {"state_dict": task.state_dict(), "hydraudio_config": OmegaConf.to_yaml(given), "hydraudio": about}
    torch.save({**contents, "epoch": 3, "global_step": 40, "callbacks": {"ModelCheckpoint{}": state}}, path)
    if with_metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics_of(path)))
    return path


def metrics_of(checkpoint: Path) -> dict[str, Any]:
    scores = {
        "error": {"value": 1.25, "low": 1.0, "high": 1.5, "n": 12},
        "error_high": {"value": 2.0, "low": None, "high": None, "n": 6},
        "hits": {"value": 0.75, "low": 0.5, "high": 0.9, "n": 12},
        "error_low": {"value": None, "low": None, "high": None, "n": 0},
        "unheard_of": {"value": 1.0, "low": None, "high": None, "n": 12},
    }
    information = {"Checkpoint": str(checkpoint), "Corpus": "/home/somebody/corpora/toys", "Splits": "C"}
    information["Items"] = "12"
    return {"task": "toy", "scores": scores, "information": information}


def eval_config(*overrides: str) -> Any:
    from hydra_preflight.compose import compose_run

    return compose_run(["ckpt_path=.", TRUSTED, *overrides], "unused", "eval.yaml")
