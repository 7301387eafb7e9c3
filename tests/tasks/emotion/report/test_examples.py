"""Recordings that one can listen to."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.report.classification.examples import CATEGORY, ClassExample, read_recording, with_sound
from hydraudio.tasks.emotion.report.examples import example_card
from hydraudio.tasks.emotion.report.predictions import EmotionTable

Make = Callable[..., EmotionTable]


def test_recordings_are_read_from_files_and_from_shards(tmp_path: Path, make_predictions: Make) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(8000) / 8000).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, tone], axis=1), 8000)
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(tmp_path / "a.flac", "MSP-PODCAST_0001.flac")
    for path in (f"{tmp_path}/a.flac", f"{tmp_path}/shard.tar#MSP-PODCAST_0001"):
        waveform = read_recording(path, 16000)
        assert waveform.shape == (16000,)
        assert np.abs(waveform).max() == pytest.approx(0.5, abs=0.01)
    item = make_predictions(1)
    heard = with_sound(ClassExample(CATEGORY, "a", -1.0, f"{tmp_path}/a.flac"), 16000, 0.5)
    assert heard.sound is not None
    assert len(heard.sound.waveform) == 8000
    assert "<audio" in example_card("worst", heard, item, 16000)
    gone = with_sound(ClassExample(CATEGORY, "a", -1.0, f"{tmp_path}/gone.wav"), 16000, 0.5)
    card = example_card("worst", gone, item, 16000)
    assert "<audio" not in card
    assert "gone.wav" in card
    missing = with_sound(ClassExample(CATEGORY, "a", -1.0, f"{tmp_path}/shard.tar#none"), 16000, 0.5)
    assert "no audio of none" in missing.silent
