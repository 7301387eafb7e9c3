"""The report of a classifier of clips, of one class each and of several."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from hydraudio.core.task import Task
from hydraudio.report.run_scores import read_run_scores
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.tasks.pretraining.classification import mean_average_precision
from hydraudio.tasks.pretraining.report.classification import ClassifierReport
from hydraudio.tasks.pretraining.report.precision import average_precision, precision_intervals
from hydraudio.tasks.pretraining.spec import SPEC

NAMES = ["dog", "rain", "clock"]


def clips(n: int, several: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for k in range(n):
        target = np.eye(3)[k % 3]
        if several and k % 4 == 0:
            target[(k + 1) % 3] = 1.0
        item = {"id": f"{k}.wav", "target": target, "label": -1 if target.sum() > 1 else k % 3}
        found.append({**item, "logits": 2 * target + rng.normal(size=3)})
    return found


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    batch = {key: torch.tensor(np.stack([one[key] for one in items])).float() for key in ("target", "logits")}
    waveform = 0.1 * torch.randn(len(items), 4000, generator=torch.Generator().manual_seed(0))
    sound = {"waveform": waveform, "lengths": torch.full((len(items),), 4000)}
    return {**batch, **sound, "label": torch.tensor([one["label"] for one in items]), "id": [i["id"] for i in items]}


class Corpus(LightningDataModule):
    sample_rate, class_names, root, fingerprint = 16000, NAMES, "/data/clips", "0f"

    def __init__(self, items: list[dict[str, Any]]) -> None:
        super().__init__()
        self.items = items
        known = [SimpleNamespace(id=one["id"], group=str(k // 2), part="3", path="") for k, one in enumerate(items)]
        self.datasets = {"test": SimpleNamespace(clips=known)}

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.items, batch_size=16, collate_fn=collate)  # type: ignore[arg-type]


class Oracle(Task):
    """Gives the logits that the items bring along."""

    spec = SPEC

    def __init__(self, multilabel: bool) -> None:
        super().__init__(torch.nn.Linear(3, 5), torch.optim.SGD)
        self.class_names, self.multilabel = NAMES, multilabel

    def test_step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        logits = batch["logits"]
        return {"logits": logits, "probabilities": logits.sigmoid() if self.multilabel else logits.softmax(-1)}


def run(folder: Path, multilabel: bool) -> Path:
    report = ClassifierReport(folder / "report", n_bootstrap=50)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=[report], **quiet)
    trainer.test(Oracle(multilabel), Corpus(clips(60, multilabel)), verbose=False)
    return folder / "report"


def test_clips_of_one_class_have_the_blocks_of_every_classifier(tmp_path):
    report = run(tmp_path / "run", multilabel=False)
    details = json.loads((report / "details.json").read_text())
    assert details["n_clusters"] == 30
    page = (report / "index.html").read_text()
    for words in ('id="classes"', 'id="confusion"', 'id="calibration"', "30 sources are resampled whole", "<audio"):
        assert words in page


def test_clips_of_several_classes_are_scored_by_average_precision(tmp_path, capsys):
    report = run(tmp_path / "run", multilabel=True)
    found = read_run_scores(report.parent).scores
    target = torch.tensor(np.stack([one["target"] for one in clips(60, True)]))
    logits = torch.tensor(np.stack([one["logits"] for one in clips(60, True)]))
    assert found["mean_ap"].mean == pytest.approx(float(mean_average_precision(logits.sigmoid(), target)), abs=1e-5)
    assert found["mean_ap"].low < found["mean_ap"].mean < found["mean_ap"].high
    assert set(found) == {"mean_ap", *(f"ap/{name}" for name in NAMES)}
    page = (report / "index.html").read_text()
    assert "Mean average precision" in page
    assert "nothing can be scored" not in page
    assert 'id="confusion"' not in page
    assert "Average precision" in capsys.readouterr().out


def test_average_precision_counts_repetitions_and_ties():
    rng = np.random.default_rng(1)
    p, t = rng.integers(0, 6, 40) / 5, (rng.random(40) < 0.4).astype(float)  # many equal probabilities
    times = rng.integers(0, 3, 40)
    repeated = np.repeat(np.arange(40), times)
    (weighted,) = average_precision(p, t, times[None].astype(float))
    (plain,) = average_precision(p[repeated], t[repeated], np.ones((1, len(repeated))))
    assert weighted == pytest.approx(plain)
    several = torch.tensor(np.stack([t, 1 - t], axis=1))
    scores = torch.tensor(np.stack([p, 1 - p], axis=1))
    ours = [average_precision(scores[:, k].numpy(), several[:, k].numpy(), np.ones((1, 40)))[0] for k in (0, 1)]
    assert np.mean(ours) == pytest.approx(float(mean_average_precision(scores, several)), abs=1e-6)


def test_a_class_without_clips_has_no_precision():
    target = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = precision_intervals(np.ones((2, 2)) / 2, target, np.array(["a", "b"]), ("dog", "rain"), Bootstrap(20, 0))
    assert found["mean_ap"].mean == 1.0
    assert np.isnan(found["ap/rain"].mean)
