"""The check of a corpus lists every defect once, in the words with which training stops at the first."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hydraudio.audio.io import write_audio
from hydraudio.core.files import read_csv, write_bytes, write_csv
from hydraudio.tasks.pretraining.corpora.esc50 import COLUMNS, FILE_RATE, FILE_SAMPLES, ESC50DataModule
from hydraudio.tasks.pretraining.corpora.folder import AudioFolderDataModule


@pytest.fixture
def esc50(esc50_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(esc50_root, tmp_path / "corpus"))


def kinds(defects) -> Counter[str]:
    return Counter(defect.kind for defect in defects)


def test_whole_corpus(esc50_root, tmp_path):
    assert ESC50DataModule(root=str(esc50_root), cache_dir=str(tmp_path)).check() == []


def test_every_defect_of_esc50(esc50, tmp_path):
    rows = read_csv(esc50 / "meta" / "esc50.csv")
    names = [esc50 / "audio" / row["filename"] for row in rows]
    rows[0]["fold"] = "7"  # contradicts the name, too
    names[1].unlink()
    write_bytes(names[2], b"RIFF")
    write_audio(names[3], np.zeros(FILE_SAMPLES), FILE_RATE)
    write_audio(names[4], np.full(100, 0.5), FILE_RATE)
    shutil.copy(names[5], names[6])
    loud = np.clip(np.random.default_rng(0).normal(0, 1, FILE_SAMPLES), -1, 32767 / 32768)
    write_audio(names[7], loud, FILE_RATE)
    shutil.copy(names[8], esc50 / "audio" / "another.wav")
    write_csv(esc50 / "meta" / "esc50.csv", COLUMNS, rows)
    defects = ESC50DataModule(root=str(esc50), cache_dir=str(tmp_path / "cache")).check()
    assert kinds(defects) == {
        "bad_row": 2,
        "missing_file": 1,
        "bad_audio": 1,
        "silent": 1,
        "bad_form": 1,
        "duplicate_audio": 1,
        "clipping": 1,
        "unreferenced_file": 2,  # that of the row that cannot be used, and the other one
    }
    assert len({defect.message for defect in defects}) == len(defects)
    assert not any((esc50 / "meta").glob("*.npy"))


def test_every_defect_of_a_folder(tmp_path):
    root = tmp_path / "sounds"
    rng = np.random.default_rng(0)
    for name, rate in (("a.wav", 8000), ("b.wav", 44100), ("c.flac", 16000)):
        write_audio(root / name, rng.uniform(-0.5, 0.5, rate), rate)
    write_audio(root / "opposed.wav", np.stack([rng.uniform(-0.5, 0.5, 8000)] * 2) * [[1], [-1]], 8000)
    cells = [
        {"path": "a.wav", "label": "x", "start": 0.0, "duration": 0.5},
        {"path": "a.wav", "label": "y", "start": 0.6, "duration": 0.5},
        {"path": "b.wav", "label": "x", "start": 0.0, "duration": 0.5},
        {"path": "missing.wav", "label": "x", "start": 0.0, "duration": 0.5},
        {"path": "c.flac", "label": "x", "start": "soon", "duration": 0.5},
        {"path": "opposed.wav", "label": "y", "start": 0.0, "duration": 0.5},
    ]
    write_csv(root / "t.csv", list(cells[0]), cells)
    data = AudioFolderDataModule(root=str(root), table="t.csv", cache_dir=str(tmp_path / "cache"))
    assert kinds(data.check()) == {
        "bad_row": 1,
        "missing_file": 1,
        "bad_span": 1,
        "cancelled": 1,
        "channels": 1,
        "unreferenced_file": 1,
    }


def test_unusable_options_are_a_defect(tmp_path):
    (tmp_path / "sounds").mkdir()
    (defect,) = AudioFolderDataModule(root=str(tmp_path / "sounds"), table="t.csv", class_table="no.csv").check()
    assert "no.csv" in defect.message
    (defect,) = ESC50DataModule(root=str(tmp_path / "nowhere")).check()
    assert defect.kind == "missing_root"
