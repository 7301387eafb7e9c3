"""What the reports of all tasks say about the test itself."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from hydraudio.core.environment import git_revision

_NO_CHECKPOINT = "none: the weights as they were in memory"


def tested_checkpoint(trainer: Trainer, checkpoint: str | None) -> str:
    """File that the weights came from: the trainer's, else the given one; or that there was none."""
    return str(trainer.ckpt_path or checkpoint or _NO_CHECKPOINT)


def corpus_facts(trainer: Trainer, pl_module: LightningModule) -> dict[str, str]:
    """Which data it was."""
    data = getattr(trainer, "datamodule", None)
    return {
        "Sample rate": f"{pl_module.sample_rate} Hz",
        "Corpus": str(getattr(data, "root", "unknown")),
        "Corpus fingerprint": str(getattr(data, "fingerprint", "unknown")),
    }


def computation_facts(trainer: Trainer) -> dict[str, str]:
    """Which program computed how."""
    return {"Git revision": git_revision(), "Precision": str(trainer.precision)}
