"""IEMOCAP, CREMA-D and RAVDESS as data modules: folds, classes, and the audio of their miniatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.crema_d import CREMADDataModule
from hydraudio.tasks.emotion.corpora.iemocap import IEMOCAPDataModule
from hydraudio.tasks.emotion.corpora.ravdess import RAVDESSDataModule

SHORT = {"min_s": 0.5, "max_s": 0.6, "n_processes": 1}
CORPORA = {
    "iemocap": (IEMOCAPDataModule, {"n_turns": 10, **SHORT}, 4, 5),
    "crema_d": (CREMADDataModule, {"n_actors": 5, "n_sentences": 2, **SHORT}, 6, 5),
    "ravdess": (RAVDESSDataModule, SHORT, 8, 6),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("siblings")


def make(folder: Path, name: str, **options: Any) -> EmotionDataModule:
    kind, embedded, _, _ = CORPORA[name]
    return kind(embedded=embedded, data_dir=str(folder), cache_dir=str(folder / "cache"), **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_folds_test_every_speaker_once_and_share_none(folder, name):
    _, _, n_classes, n_folds = CORPORA[name]
    tested: list[str] = []
    for fold in range(1, n_folds + 1):
        data = make(folder, name, fold=fold)
        speakers = {use: {row.speaker for row in data.chosen(use)} for use in ("train", "val", "test")}
        assert not speakers["train"] & speakers["val"] | speakers["train"] & speakers["test"]
        assert not speakers["val"] & speakers["test"]
        tested += speakers["test"]
        assert len(data.class_counts) == data.n_classes == n_classes
    assert len(tested) == len(set(tested)) == len({row.speaker for row in data.utterances})
    with pytest.raises(ValueError, match=f"folds 1 to {n_folds}"):
        make(folder, name, fold=n_folds + 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_batches_of_the_miniature_and_no_defects(folder, name):
    data = make(folder, name, batch_size=4)
    assert data.check() == []
    data.setup()
    batches = list(data.test_dataloader())
    assert sum(len(batch["id"]) for batch in batches) == len(data.chosen("test"))
    for batch in batches:
        assert batch["target"].sum(1).tolist() == [1.0] * len(batch["id"])
        assert batch["attributes"].shape[1] == len(data.attribute_names)
        assert max(batch["lengths"]) / 16000 < 0.9
    assert bool(data.attribute_names) == (name == "iemocap")
    if name == "iemocap":
        assert not any(torch.isnan(batch["attributes"]).any() for batch in batches)


@pytest.mark.slow
def test_clips_at_48_khz_are_resampled(folder):
    data = make(folder, "ravdess")
    data.setup("test")
    item = data.datasets["test"][(0, 0)]
    raw, rate = soundfile.read(data.chosen("test")[0].path)
    assert rate == 48000
    assert len(item["waveform"]) == data.datasets["test"].lengths[0] == round(len(raw) / 3)
    assert item["waveform"].std() == pytest.approx(raw.std(), rel=0.1)
    assert np.corrcoef(item["waveform"][: len(raw) // 3], raw[::3][: len(raw) // 3])[0, 1] > 0.9


@pytest.mark.slow
def test_classes_of_another_corpus_may_be_asked_for(folder):
    data = make(folder, "iemocap", classes=4)
    assert data.class_names == ["Angry", "Sad", "Happy", "Neutral"]
    assert set(data.class_counts) != {0}
