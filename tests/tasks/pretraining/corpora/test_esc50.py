"""ESC-50: its table, its folds, its files, its miniature."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hydraudio.audio.io import read_audio, write_audio
from hydraudio.core.defects import raise_first
from hydraudio.core.files import read_csv, write_csv
from hydraudio.tasks.pretraining.corpora.esc50 import (
    CLASSES,
    COLUMNS,
    ESC10,
    FILE_RATE,
    FILE_SAMPLES,
    EmbeddedESC50,
    ESC50DataModule,
    parse_index,
    spanning_sources,
)


def row(fold=1, src_file=100032, take="A", target=0, **changed) -> dict[str, object]:
    name = f"{fold}-{src_file}-{take}-{target}.wav"
    values = name, fold, target, CLASSES[target], target in ESC10, src_file, take
    return dict(zip(COLUMNS, values, strict=True)) | changed


def write_table(root: Path, *rows: dict[str, object], columns=COLUMNS) -> Path:
    return write_csv(root / "meta" / "esc50.csv", columns, [{name: each[name] for name in columns} for each in rows])


def defects_of(root: Path, *rows: dict[str, object]) -> list[str]:
    write_table(root, *rows)
    return [defect.message for defect in parse_index(root, range(50)).defects]


def make(root: Path, tmp_path: Path, **options) -> ESC50DataModule:
    return ESC50DataModule(root=str(root), cache_dir=str(tmp_path / "cache"), **options)


def test_a_published_row(tmp_path):
    write_table(tmp_path, row(), row(fold=3, src_file=17, take="C", target=49), row(fold=2, src_file=5, target=10))
    parsed = parse_index(tmp_path, range(50))
    assert parsed.class_names == ["dog", "rain", "hand_saw"]
    assert [clip.labels for clip in parsed.clips] == [(0,), (2,), (1,)]
    assert parsed.clips[0].path == tmp_path / "audio" / "1-100032-A-0.wav"
    assert [(clip.group, clip.part) for clip in parsed.clips] == [("100032", "1"), ("17", "3"), ("5", "2")]
    assert not parsed.defects
    assert parse_index(tmp_path, ESC10).class_names == ["dog", "rain"]


def test_published_order():
    assert len(CLASSES) == len(set(CLASSES)) == 50
    expected = "dog rooster rain sea_waves crackling_fire crying_baby sneezing clock_tick helicopter chainsaw"
    assert " ".join(CLASSES[target] for target in sorted(ESC10)) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(fold=6), "fold is '6', expected 1 to 5"),
        (row(target=1, category="dog"), "target 1 is rooster, but category is 'dog'"),
        (row() | {"target": 50}, "target is '50', expected 0 to 49"),
        (row(esc10=False), "esc10 is 'False', expected True for target 0"),
        (row(filename="dog.wav"), "not named <fold>-<src_file>-<take>-<target>.wav"),
        (row(filename="2-100032-A-0.wav"), "the name says fold 2, the column '1'"),
        (row(filename="1-100032-B-0.wav"), "the name says take B, the column 'A'"),
        (row(src_file=7, filename="1-100032-A-0.wav"), "the name says src_file 100032, the column '7'"),
    ],
)
def test_contradictions_name_line_and_remedy(tmp_path, wrong, message):
    found = defects_of(tmp_path, row(src_file=1), wrong)
    assert any("esc50.csv: line 3" in text and message in text for text in found), found


def test_missing_column(tmp_path):
    write_table(tmp_path, row(), columns=[name for name in COLUMNS if name != "category"])
    with pytest.raises(ValueError, match=r"esc50\.csv: column category is missing; the table has filename"):
        raise_first(parse_index(tmp_path, range(50)).defects)


def test_missing_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"esc50\.csv"):
        make(tmp_path, tmp_path).setup("fit")


def test_repeated_rows(tmp_path):
    assert "stands in line 2, too" in defects_of(tmp_path, row(), row())[0]


def test_recordings_in_several_folds_are_one_warning(tmp_path, esc50_root, caplog):
    write_table(tmp_path, row(), row(fold=2, take="B"), row(src_file=9, fold=4), row(src_file=9, fold=5, take="B"))
    parsed = parse_index(tmp_path, range(50))
    assert spanning_sources(parsed.clips) == ["9", "100032"]
    (defect,) = parsed.defects
    assert defect.severity == "warning"
    assert "recordings 9, 100032 have clips in several folds" in defect.message
    data = make(tmp_path, tmp_path)
    assert len(data.parsed.clips) == 4
    assert data._warnings() == [defect.message]


@pytest.mark.parametrize("test_fold", [1, 5])
def test_folds(esc50_root, tmp_path, test_fold):
    nested = make(esc50_root, tmp_path, test_fold=test_fold)
    classic = make(esc50_root, tmp_path, test_fold=test_fold, protocol="classic")
    for data, expected in ((nested, [27, 9, 9]), (classic, [36, 0, 9])):
        data.setup()
        clips = {split: data.datasets[split].clips for split in data.datasets}
        assert [len(clips.get(split, [])) for split in ("train", "val", "test")] == expected
        assert {clip.part for clip in clips["test"]} == {str(test_fold)}
        assert str(test_fold) not in {clip.part for clip in clips["train"]}
    assert {clip.part for clip in nested.datasets["val"].clips} == {str(test_fold % 5 + 1)}
    assert classic.val_dataloader() == []
    assert len(nested.val_dataloader()) == 3


def test_batches(esc50_root, tmp_path):
    data = make(esc50_root, tmp_path, crop_s=1.0, batch_size=4)
    assert (data.class_names, data.n_classes, data.multilabel) == (["dog", "rain", "footsteps"], 3, False)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["waveform"].shape == (4, 16000)
    assert batch["waveform"].dtype == torch.float32
    assert batch["lengths"].tolist() == [16000] * 4
    assert batch["target"].argmax(1).tolist() == batch["label"].tolist()
    assert batch["target"].sum(1).tolist() == [1.0] * 4
    whole = next(iter(data.test_dataloader()))
    assert whole["waveform"].shape == (4, 80000)


@pytest.mark.parametrize("esc10", [False, True])
def test_esc10(esc50_root, tmp_path, esc10):
    assert make(esc50_root, tmp_path, esc10=esc10).class_names == ["dog", "rain"] + ["footsteps"] * (not esc10)


@pytest.mark.parametrize(("sample_rate", "n_samples"), [(16000, FILE_SAMPLES), (FILE_RATE, 100)])
def test_other_forms_are_refused(esc50_root, tmp_path, sample_rate, n_samples):
    root = tmp_path / "corpus"
    shutil.copytree(esc50_root, root)
    name = read_csv(root / "meta" / "esc50.csv")[4]["filename"]
    write_audio(root / "audio" / name, np.full(n_samples, 0.1), sample_rate)
    with pytest.raises(ValueError, match=rf"line 6: .*{name}: has {n_samples} samples at {sample_rate} Hz, but every"):
        make(root, tmp_path).setup("fit")
    (root / "audio" / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"line 6: .*{name}: no such audio file"):
        make(root, tmp_path).setup("fit")


def test_miniature_has_the_form_of_the_corpus(esc50_root, tmp_path):
    parsed = parse_index(esc50_root, range(50))
    assert not parsed.defects
    assert len(parsed.clips) == 45
    assert not spanning_sources(parsed.clips)
    assert len({clip.group for clip in parsed.clips}) == 30
    for clip in parsed.clips:
        waveform = read_audio(clip.path, sample_rate=FILE_RATE)
        assert len(waveform) == FILE_SAMPLES
        assert 0.05 < np.abs(waveform).max() < 1.0
    again = EmbeddedESC50(n_classes=3, n_per_fold=3, n_processes=1)(tmp_path / "again")
    for name in ("meta/esc50.csv", f"audio/{parsed.clips[7].path.name}"):
        assert (again / name).read_bytes() == (esc50_root / name).read_bytes()


@pytest.mark.parametrize("options", [{"n_classes": 17}, {"n_classes": 0}, {"n_per_fold": 9}])
def test_impossible_miniatures(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EmbeddedESC50(**options)


def test_unknown_options(tmp_path):
    with pytest.raises(ValueError, match="test_fold=6"):
        make(tmp_path, tmp_path, test_fold=6)
    with pytest.raises(ValueError, match="protocol='five'"):
        make(tmp_path, tmp_path, protocol="five")
