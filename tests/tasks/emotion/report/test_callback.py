"""The report of a test of emotions: through a real trainer on synthetic items whose scores are known."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from hydraudio.core.task import Task
from hydraudio.metrics.classification import category_scores
from hydraudio.report.run_scores import read_run_scores
from hydraudio.report.tables import read_csv
from hydraudio.tasks.emotion.report.callback import EmotionReport
from hydraudio.tasks.emotion.report.predictions import EmotionTable
from hydraudio.tasks.emotion.report.submission import submission_defects
from hydraudio.tasks.emotion.spec import SPEC

SAMPLE_RATE = 16000
NAMES = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
LETTERS = tuple("ASHUFDCN")
ATTRIBUTES = ("arousal", "valence", "dominance")
HOSTILE = '<img src=x onerror="alert(1)">.wav'


def item(number: int, labelled: bool = True, features: bool = False) -> dict[str, Any]:
    """Logits and ratings that are right more often than not, the same for the same number."""
    rng = np.random.default_rng(number)
    label = int(rng.choice(8, p=[0.12, 0.1, 0.22, 0.05, 0.04, 0.04, 0.05, 0.38]))
    logits = rng.normal(size=8) + 2.0 * np.eye(8)[label] + np.array([0, 0, 0.5, 0, 0, 0, 0, 0.8])
    truth = rng.uniform(0.1, 0.9, 3)
    votes = rng.multinomial(5, 0.4 * np.eye(8)[label] + 0.6 / 8) / 5
    n_samples = 4000 + 400 * (number % 10)
    phase = 2 * np.pi * (120 + 20 * label) * np.arange(n_samples) / SAMPLE_RATE
    waveform = (0.2 * sum(np.sin(k * phase) / k for k in range(1, 8))).astype(np.float32)
    sound = {"features": np.zeros((2, 8), np.float32)} if features else {"waveform": waveform, "lengths": n_samples}
    return {
        **sound,
        "id": HOSTILE if number == 0 else f"MSP-PODCAST_{number:04d}.wav",
        "label": label if labelled else -1,
        "votes": votes if labelled else np.full(8, np.nan),
        "attributes": truth if labelled else np.full(3, np.nan),
        "gender": number % 3 if number % 7 else 2,
        "metadata": {
            "speaker": "Unknown" if number % 9 == 0 else str(number % 6),
            "podcast": f"{number % 4:04d}",
            "split": "Test1" if number % 3 else "Test2",
            "duration_s": 2.5 + number % 10,
            "path": "",
        },
        "output": {"logits": logits, "attributes": np.clip(0.2 + 0.6 * truth + 0.1 * rng.normal(size=3), 0, 1)},
    }


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {key: [one[key] for one in items] for key in ("id", "metadata")}
    for key in ("label", "gender"):
        batch[key] = torch.tensor([one[key] for one in items])
    for key in ("votes", "attributes"):
        batch[key] = torch.tensor(np.stack([one[key] for one in items]), dtype=torch.float32)
    for key in ("logits", "attributes"):
        batch[f"output_{key}"] = torch.tensor(np.stack([one["output"][key] for one in items]), dtype=torch.float32)
    if "waveform" in items[0]:
        batch["lengths"] = torch.tensor([one["lengths"] for one in items])
        batch["waveform"] = torch.zeros(len(items), int(batch["lengths"].max()))
        for row, one in zip(batch["waveform"], items, strict=True):
            row[: one["lengths"]] = torch.from_numpy(one["waveform"])
    return batch


class Corpus(LightningDataModule):
    sample_rate, class_names, attribute_names = SAMPLE_RATE, list(NAMES), list(ATTRIBUTES)
    class_letters, class_counts = list(LETTERS), [120, 100, 220, 50, 40, 40, 50, 380]
    fingerprint, root = "0f3c", "/data/msp"

    def __init__(self, items: list[dict[str, Any]], val: list[dict[str, Any]] | None = None) -> None:
        super().__init__()
        self.items, self.val = items, val or items

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.items, batch_size=16, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=16, collate_fn=collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.items[:16], batch_size=16, collate_fn=collate)  # type: ignore[arg-type]


class Oracle(Task):
    """Gives the outputs that the items bring along; its logits are `sharpness` times too sure."""

    spec = SPEC

    def __init__(self, heads: tuple[str, ...] = ("category", "attributes"), sharpness: float = 2.0) -> None:
        super().__init__(torch.nn.Linear(3, 5), torch.optim.SGD, sample_rate=SAMPLE_RATE)
        self.class_names = list(NAMES) if "category" in heads else []
        self.attribute_names = list(ATTRIBUTES) if "attributes" in heads else []
        self.sharpness = sharpness

    def test_step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        logits = self.sharpness * batch["output_logits"]
        result = {"logits": logits, "probabilities": logits.softmax(-1)} if self.class_names else {}
        return result | ({"attributes": batch["output_attributes"]} if self.attribute_names else {})

    validation_step = test_step

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        return self.net(torch.ones(1, 3)).square().sum()


def trainer_of(report: EmotionReport, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", callbacks=[report], **quiet, **arguments)


def run(folder: Path, items: list[dict[str, Any]], task: LightningModule | None = None, **arguments: Any) -> Path:
    report = EmotionReport(folder / "report", **{"n_bootstrap": 50, "min_items": 20, **arguments})
    trainer_of(report).test(task or Oracle(), Corpus(items), verbose=False)
    return folder / "report"


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ser") / "msp_wavlm_joint" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,train/loss,val/macro_f1\n1,3,.1\n2,2,.5\n")
    return run(folder, [item(k) for k in range(160)], n_examples=2)


def test_the_files_are_there_and_agree_with_each_other(joint: Path) -> None:
    assert {file.name for file in joint.iterdir()} == {
        *("items.csv", "predictions.npz", "details.json", "summary.csv", "confusion.csv", "confusion.png"),
        *("slices.csv", "gender.csv", "speakers.csv", "submission_task1.csv", "submission_task2.csv", "index.html"),
    }
    predictions = EmotionTable.load(joint / "predictions.npz")
    assert len(predictions) == 160
    expected = category_scores(predictions.probabilities, predictions.labels, 8)
    found = json.loads((joint / "details.json").read_text())
    for name in ("macro_f1", "weighted_f1", "accuracy", "uar", "top2", "nll", "brier"):
        entry = found["scores"][name]
        assert entry["value"] == pytest.approx(expected[name], abs=1e-9)
        assert entry["low"] <= entry["value"] <= entry["high"]
    scores = read_run_scores(joint.parent).scores
    assert scores["macro_f1"].mean == pytest.approx(expected["macro_f1"])
    assert "ccc_valence" in scores
    assert found["confusion"] == expected["confusion"].tolist()
    rows = read_csv(joint / "items.csv", ("id", "speaker", "podcast"))
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(expected["accuracy"])
    ratings = [row["arousal"] for row in rows]
    assert min(ratings) >= 1  # type: ignore[type-var]
    assert max(ratings) > 4  # type: ignore[type-var,operator]


def test_the_page_stands_alone_is_safe_and_lets_one_listen(joint: Path) -> None:
    page = (joint / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    for anchor in ("classes", "confusion", "calibration", "attributes", "slices", "gender", "speakers", "curves"):
        assert f'id="{anchor}"' in page
    assert (
        page.count("<audio") == page.count('class="card item"') == 8
    )  # 2 worst, a best and a typical one of two groups
    assert "Fixed label set: all 8 classes count" in page
    assert "The checkpoint holds no temperature" in page


def test_submissions_hold_every_file_once_in_range(joint: Path) -> None:
    ids = [item(k)["id"] for k in range(160)]
    for task in (1, 2):
        assert submission_defects(joint / f"submission_task{task}.csv", ids) == []
    categories = {row["FileName"]: row["EmoClass"] for row in read_csv(joint / "submission_task1.csv")}
    assert categories[ids[3]] == LETTERS[int(np.argmax(item(3)["output"]["logits"]))]
    attributes = {row["FileName"]: row for row in read_csv(joint / "submission_task2.csv")}
    arousal, _, dominance = item(3)["output"]["attributes"]
    assert attributes[ids[3]]["EmoAct"] == pytest.approx(1 + 6 * arousal, abs=1e-4)
    assert attributes[ids[3]]["EmoDom"] == pytest.approx(1 + 6 * dominance, abs=1e-4)


def test_one_head_alone_gives_its_own_part_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = [item(k) for k in range(40)]
    category = run(tmp_path / "category", items, Oracle(("category",)))
    assert "arousal" not in (category / "items.csv").read_text()
    assert not (category / "submission_task2.csv").exists()
    assert "submission_task2.csv: not written" in (category / "index.html").read_text()
    attributes = run(tmp_path / "attributes", items, Oracle(("attributes",)))
    scores = json.loads((attributes / "details.json").read_text())["scores"]
    assert set(scores) == {m + end for m in ("ccc", "pearson", "rmse") for end in ("", *(f"_{a}" for a in ATTRIBUTES))}
    assert not (attributes / "confusion.png").exists()
    assert "Attributes, with 95 % intervals" in capsys.readouterr().out


def test_a_set_without_labels_gives_predictions_and_says_that_nothing_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report = run(tmp_path, [item(k, labelled=False) for k in range(20)])
    assert json.loads((report / "details.json").read_text())["scores"] == {}
    assert submission_defects(report / "submission_task1.csv") == []
    assert "nothing can be scored" in (report / "index.html").read_text()
    assert "nothing can be scored" in capsys.readouterr().out


def test_repeated_items_count_once_and_cached_features_have_no_sound(tmp_path: Path) -> None:
    items = [item(k, features=True) for k in range(30)]
    report = run(tmp_path, [*items, *items[:4]])
    assert len(EmotionTable.load(report / "predictions.npz")) == 30
    page = (report / "index.html").read_text()
    assert "4 repetitions" in page
    assert "<audio" not in page
    assert "does not say where the recording lies" in page


def test_outputs_that_are_no_numbers_leave_no_score_and_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    items = [item(k) for k in range(40)]
    items[5]["output"]["logits"] = np.full(8, np.nan)
    report = run(tmp_path, items)
    scores = json.loads((report / "details.json").read_text())["scores"]
    assert scores["macro_f1"]["value"] is None
    assert scores["nll"]["value"] is None
    assert scores["ccc"]["value"] > 0
    assert "no number for 1 of 40 items" in (report / "index.html").read_text()
    assert "no number for 1 of 40 items" in capsys.readouterr().out


def test_the_temperature_comes_from_the_validation_and_travels_with_the_checkpoint(tmp_path: Path) -> None:
    items = [item(k) for k in range(120)]
    report = EmotionReport(tmp_path / "run" / "report", n_bootstrap=10)
    trainer = trainer_of(report, max_epochs=1, enable_checkpointing=False, num_sanity_val_steps=1)
    trainer.fit(Oracle(sharpness=6.0), Corpus(items, [item(k) for k in range(200, 700)]))
    fitted = report.temperature
    assert fitted is not None
    assert fitted > 2.5
    path = tmp_path / "best.ckpt"
    trainer.save_checkpoint(path)
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "hydraudio_config": ""}, path)
    folder = run(tmp_path / "eval", items, Oracle(sharpness=6.0), checkpoint=str(path))
    found = json.loads((folder / "details.json").read_text())
    assert found["temperature"] == pytest.approx(fitted)
    assert found["scores"]["ece_scaled"]["value"] < found["scores"]["ece"]["value"]
    assert found["scores"]["nll_scaled"]["value"] < found["scores"]["nll"]["value"]
    restored = EmotionReport(tmp_path / "test", n_bootstrap=10)
    trainer_of(restored).test(
        Oracle(sharpness=6.0), Corpus(items), ckpt_path=str(path), verbose=False, weights_only=True
    )
    assert restored.temperature == pytest.approx(fitted)


def test_wrong_groups_are_refused_before_the_training() -> None:
    with pytest.raises(ValueError, match="mode='frequency'"):
        EmotionReport("report", groups={"mode": "frequency"})


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    items = [item(k) for k in range(48)]
    alone = EmotionTable.load(run(tmp_path / "one", items) / "predictions.npz")
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_callback import *

        report = EmotionReport({str(tmp_path / "two")!r}, n_bootstrap=50, min_items=20)
        trainer = trainer_of(report, devices=2, strategy="ddp", max_epochs=1, enable_checkpointing=False)
        trainer.fit(Oracle(), Corpus([item(k) for k in range(48)]))
        trainer.test(Oracle(), Corpus([item(k) for k in range(48)]), verbose=False)
        open({str(tmp_path)!r} + f"/rank{{trainer.global_rank}}", "w").write(str(report.temperature))
    """
    path = tmp_path / "two_processes.py"
    path.write_text(textwrap.dedent(script))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report:") == 1
    together = EmotionTable.load(tmp_path / "two" / "predictions.npz")
    assert together.ids.tolist() == alone.ids.tolist()
    np.testing.assert_allclose(together.probabilities, alone.probabilities)
    temperatures = [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)]
    assert temperatures[0] == temperatures[1] != "None"
