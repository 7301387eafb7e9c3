"""What the check says of audio files, and of splits; whole corpora are in tests/integration/test_corrupt_emotion.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.tasks.emotion.corpora.check import audio_defects, split_defects
from hydraudio.tasks.emotion.corpora.utterances import Utterance

RATE = 16000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)


def rows(*paths: Path | str, **fields) -> list[Utterance]:
    return [Utterance(file_name=Path(path).name, path=path, **fields) for path in paths]


def kinds(folder: Path, *names: str) -> list[tuple[str, str]]:
    return [
        (each.kind, each.severity) for each in audio_defects(rows(*(folder / name for name in names)), sample_rate=RATE)
    ]


def wav(path: Path, waveform: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, waveform, rate, subtype="PCM_16")
    return path


def test_sound_files_have_no_defects(tmp_path):
    peak = NOISE / np.abs(NOISE).max()  # scaled to its peak: one sample at full scale
    for number, waveform in enumerate((NOISE, peak, NOISE[:100], 1e-4 * NOISE)):
        wav(tmp_path / f"{number}.wav", waveform)
    soundfile.write(tmp_path / "4.flac", NOISE[::-1], RATE)
    assert kinds(tmp_path, "0.wav", "1.wav", "2.wav", "3.wav", "4.flac") == []


@pytest.mark.parametrize(
    ("waveform", "rate", "expected"),
    [
        (np.zeros(4000), RATE, ("silent", "error")),
        (np.clip(8 * NOISE, -1, 1), RATE, ("clipping", "warning")),
        (NOISE, 48000, ("other_rate", "warning")),
        (np.stack([NOISE, NOISE], 1), RATE, ("channels", "warning")),
        (NOISE[:0], RATE, ("bad_audio", "error")),
    ],
)
def test_each_defect_is_named(tmp_path, waveform, rate, expected):
    wav(tmp_path / "a.wav", waveform, rate)
    assert kinds(tmp_path, "a.wav") == [expected]


def test_channels_that_cancel_are_named(tmp_path):
    wav(tmp_path / "a.wav", np.stack([NOISE, -NOISE], 1))
    assert ("cancelled", "error") in kinds(tmp_path, "a.wav")


@pytest.mark.parametrize("n_bytes", [1, 2, 500, 7000])
def test_a_file_that_is_cut_off_is_named(tmp_path, n_bytes):
    path = wav(tmp_path / "a.wav", NOISE)
    path.write_bytes(path.read_bytes()[:-n_bytes])
    (defect,) = audio_defects(rows(path), sample_rate=RATE)
    assert defect.kind == "bad_audio"
    assert f"is cut off: {8044 - n_bytes} of 8044 bytes" in defect.message


def test_a_stream_of_unknown_length_is_sound(tmp_path):
    content = bytearray(wav(tmp_path / "a.wav", NOISE).read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(bytes(content))
    assert kinds(tmp_path, "a.wav") == []


def test_missing_copied_and_unreferenced_files(tmp_path):
    for name in ("a.wav", "b.wav", "d.wav"):
        wav(tmp_path / name, NOISE)
    (tmp_path / "notes.txt").touch()
    defects = audio_defects(rows(*(tmp_path / name for name in ("a.wav", "b.wav", "c.wav"))), sample_rate=RATE)
    assert [each.kind for each in defects] == ["missing_file", "duplicate_audio", "unreferenced_file"]
    assert "c.wav: no such audio file" in defects[0].message
    assert "a.wav, " in defects[1].message
    assert "d.wav" in defects[2].message


def test_speakers_of_two_uses_are_counted_without_the_unknown(tmp_path):
    heard = [
        *rows("a", "b", split="Train", speaker="1"),
        *rows("c", split="Train"),
        *rows("d", "e", split="Test1", speaker="1"),
        *rows("f", split="Test1", speaker="2"),
        *rows("g", split="Test2", speaker="2"),
        *rows("h", split="Development"),
    ]
    splits = {"train": ["Train"], "val": ["Development"], "test": ["Test1", "Test2"]}
    (defect,) = split_defects(tmp_path, heard, splits)
    assert (defect.kind, defect.severity) == ("shared_speaker", "warning")
    assert "train and test share 1 speaker (1; 2 of 4 utterances of test)" in defect.message
    splits["test"] = ["Test1", "Test3"]
    absent = split_defects(tmp_path, heard, splits)[0]
    assert absent.kind == "missing_split"
    assert "no split 'Test3'; it has Development, Test1, Test2, Train" in absent.message
