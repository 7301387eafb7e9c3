"""A run of an emotion network that was never trained, with a report, and its shared folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import untrained
from scipy.special import softmax

from hydraudio.share.model_folder import Trained, open_trained, write_model_folder

SMALL = {
    "model_type": "wavlm",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "apply_spec_augment": False,
    "do_normalize": True,
    "sampling_rate": 16000,
}
ARCHITECTURE = ",".join(f"{key}:{str(value).lower()}" for key, value in SMALL.items())
NETWORK = (
    "model.net.upstream.trainable_blocks=1",
    "model.net.category.hidden_dim=16",
    "+model.net.pooling.attention_dim=8",
    "model/emotion/gender=auxiliary",
)


def write_run(folder: Path, root: Path, overrides: tuple[str, ...] = ()) -> Path:
    """A checkpoint as the training writes it, of a network as it begins; returns its path."""
    settings = ["experiment=emotion/msp_wavlm_joint", f"data.root={root}", "data.num_workers=0", *NETWORK, *overrides]
    settings.append(f"model.net.upstream.architecture={{{ARCHITECTURE}}}")
    settings.append(f"paths.data_dir={root.parent / 'sharing_cache'}")
    about = {"version": "0.1.0", "git_revision": "0" * 40, "fingerprint": "f" * 64}
    return untrained.write_run(folder, *settings, hydraudio=about, epoch=3, global_step=40)


def metrics_of(checkpoint: Path) -> dict[str, Any]:
    """metrics.json of a test of 300 made-up items."""
    from hydraudio.core.checkpoints import read_checkpoint
    from hydraudio.report.classification.scores import Options, score, slices
    from hydraudio.tasks.emotion.report.callback import USUAL_GROUPS
    from hydraudio.tasks.emotion.report.predictions import EmotionTable
    from hydraudio.tasks.emotion.report.tables import summary

    rng, n = np.random.default_rng(0), 300
    names = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
    labels, targets = rng.integers(0, 8, n), rng.uniform(0, 1, (n, 3))
    logits = rng.normal(size=(n, 8)) + 1.5 * np.eye(8)[labels]
    p = EmotionTable(
        class_names=names,
        class_letters=tuple("ASHUFDCN"),
        attribute_names=("arousal", "valence", "dominance"),
        ids=np.array([f"{k}.wav" for k in range(n)]),
        split=np.array(["Test1"] * n),
        speaker=np.array([f"s{k // 15}" for k in range(n)]),
        podcast=np.array([""] * n),
        path=np.array([""] * n),
        gender=(np.arange(n) // 15) % 2,
        duration_s=np.full(n, 3.0),
        labels=labels,
        logits=logits,
        probabilities=softmax(logits, axis=1),
        votes=np.full((n, 8), np.nan),
        attributes=np.clip(targets + 0.2 * rng.normal(size=(n, 3)), 0, 1),
        attribute_targets=targets,
    )
    options = Options(n_bootstrap=20, min_items=10, groups=USUAL_GROUPS)
    scores = score(p, options, temperature=1.3)
    information = {"Checkpoint": str(checkpoint), "Corpus": "/home/somebody/corpora/msp", "Splits": "Test1"}
    assert read_checkpoint(checkpoint)
    found = slices(p, options)
    return summary(p, scores, found, [], information)


def eval_config(*overrides: str) -> Any:
    from hydra_preflight.compose import compose_run

    return compose_run(["ckpt_path=.", *overrides], "unused", "eval.yaml")


@pytest.fixture(scope="session", autouse=True)
def project_root(repository: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        yield


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture(scope="session")
def compose_eval(project_root: None) -> Callable[..., Any]:
    return eval_config


@pytest.fixture(scope="session")
def checkpoint(msp_root: Path, tmp_path_factory: pytest.TempPathFactory, project_root: None) -> Path:
    """A checkpoint in a run folder with a report. Do not write into it."""
    folder = tmp_path_factory.mktemp("logs") / "msp_joint" / "2026-01-01_00-00-00"
    path = write_run(folder, msp_root)
    (folder / "report").mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics_of(path)))
    return path


@pytest.fixture(scope="session")
def trained(checkpoint: Path) -> Trained:
    return open_trained(eval_config("data.root=/elsewhere"), checkpoint)


@pytest.fixture(scope="session")
def model_folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared folder of the checkpoint. Do not write into it."""
    return write_model_folder(tmp_path_factory.mktemp("shared") / "model", trained)
