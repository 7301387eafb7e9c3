"""Tables of emotions from files and folders, with a task that has no weights."""

import csv
import json
import logging

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.tasks.emotion.predict import EmotionPredictor

RATE_HZ = 8000


class Loudness(torch.nn.Module):
    """Two classes by the mean square; arousal is its root."""

    sample_rate, class_names, attribute_names, device = RATE_HZ, ["Calm", "Wütend"], ["arousal"], torch.device("cpu")

    def predict_waveform(self, waveform, lengths=None):
        assert not self.training
        power = waveform.square().mean(1, keepdim=True)
        return {
            "probabilities": torch.cat([1 - power, power], dim=1),
            "attributes": power.sqrt(),
            "embedding": torch.cat([power, 2 * power, 3 * power], dim=1),
        }


class Attributes(Loudness):
    class_names = []

    def predict_waveform(self, waveform, lengths=None):
        return {name: value for name, value in super().predict_waveform(waveform).items() if name != "probabilities"}


class Broken(Loudness):
    def predict_waveform(self, waveform, lengths=None):
        return {name: value * float("nan") for name, value in super().predict_waveform(waveform).items()}


def write(path, level, duration_s=0.5, rate_hz=RATE_HZ, n_channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((round(duration_s * rate_hz), n_channels), level, dtype=np.float32)
    soundfile.write(path, frames, rate_hz, subtype="PCM_24")
    return path


def rows(folder):
    with (folder / "emotions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_table_and_a_file_for_each_recording(tmp_path):
    write(tmp_path / "in" / "soft.wav", 0.3)
    write(tmp_path / "in" / "deep" / "loud.flac", 0.9, duration_s=1.25, n_channels=2)
    write(tmp_path / "in" / ".hidden.wav", 0.1)
    predictor = EmotionPredictor(window_s=1.0, hop_s=0.5)
    assert predictor.run(Loudness().train(), tmp_path / "in", tmp_path / "out") == {}
    assert files(tmp_path / "out") == ["deep/loud.json", "emotions.csv", "soft.json"]
    loud, soft = rows(tmp_path / "out")
    assert list(loud) == ["file", "duration_s", "emotion", "probability", "Calm", "Wütend", "arousal"]
    assert (loud["file"], loud["duration_s"], loud["emotion"]) == ("deep/loud.flac", "1.25", "Wütend")
    assert (soft["file"], soft["emotion"]) == ("soft.wav", "Calm")
    assert float(loud["probability"]) == float(loud["Wütend"]) == pytest.approx(0.81, abs=1e-5)
    assert float(loud["arousal"]) == pytest.approx(1 + 6 * 0.9, abs=1e-5)
    result = json.loads((tmp_path / "out" / "deep" / "loud.json").read_text(encoding="utf-8"))
    assert [(part["start_s"], part["end_s"]) for part in result["windows"]] == [(0, 1), (0.25, 1.25)]
    assert result["windows"][1]["probabilities"]["Wütend"] == pytest.approx(0.81, abs=1e-5)
    assert result["file"] == "deep/loud.flac"


def test_any_rate(tmp_path):
    time_s = np.arange(44100) / 44100
    soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 440 * time_s), 44100)
    EmotionPredictor().run(Loudness(), tmp_path / "x.wav", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert row["duration_s"] == "1.0"
    assert float(row["Wütend"]) == pytest.approx(0.125, abs=1e-3)


def test_embedding_of_every_file(tmp_path):
    write(tmp_path / "x.wav", 0.5)
    EmotionPredictor().run(Loudness(), tmp_path / "x.wav", tmp_path / "out")
    EmotionPredictor(embedding=True).run(Loudness(), tmp_path / "x.wav", tmp_path / "out")
    embedding = np.load(tmp_path / "out" / "x.npy")
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, [0.25, 0.5, 0.75], atol=1e-6)


def test_priors_reach_table_and_windows(tmp_path):
    write(tmp_path / "x.wav", 0.5)
    EmotionPredictor(priors={"Wütend": 0.9, "Calm": 0.1}).run(Loudness(), tmp_path / "x.wav", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert (row["emotion"], float(row["Wütend"])) == ("Wütend", pytest.approx(0.75, abs=1e-5))  # odds 1:3 times 9:1
    (window,) = json.loads((tmp_path / "out" / "x.json").read_text(encoding="utf-8"))["windows"]
    assert window["probabilities"]["Calm"] == pytest.approx(0.25, abs=1e-5)


def test_network_without_classes(tmp_path):
    write(tmp_path / "x.wav", 0.5)
    EmotionPredictor().run(Attributes(), tmp_path / "x.wav", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert list(row) == ["file", "duration_s", "arousal"]
    assert "emotion" not in json.loads((tmp_path / "out" / "x.json").read_text())


def test_bad_files_are_listed_and_the_others_done(tmp_path, caplog):
    source = tmp_path / "in"
    write(source / "good.wav", 0.2)
    write(source / "silence.wav", 0.0)
    write(source / "one_sample.wav", 0.2, duration_s=1 / RATE_HZ)
    write(source / "empty.wav", 0.2, duration_s=0)
    write(source / "sliver.wav", 0.2, duration_s=1 / 48000, rate_hz=48000)
    (source / "text.wav").write_text("hello")
    with caplog.at_level(logging.INFO, logger="hydraudio"):
        failures = EmotionPredictor().run(Loudness(), source, tmp_path / "out")
    failed = {path.name: reason for path, reason in failures.items()}
    assert sorted(failed) == ["empty.wav", "sliver.wav", "text.wav"]
    assert "no samples" in failed["empty.wav"]
    assert "less than one sample at 8000 Hz" in failed["sliver.wav"]
    assert [row["file"] for row in rows(tmp_path / "out")] == ["good.wav", "one_sample.wav", "silence.wav"]
    assert files(tmp_path / "out") == ["emotions.csv", "good.json", "one_sample.json", "silence.json"]
    assert "emotions.csv has 3 files: Calm 3" in caplog.text
    assert "3 files failed" in caplog.text


def test_network_that_gives_nan_fails_that_file(tmp_path):
    write(tmp_path / "x.wav", 0.2)
    failures = EmotionPredictor().run(Broken(), tmp_path / "x.wav", tmp_path / "out")
    assert "network gave NaN" in failures[tmp_path / "x.wav"]
    assert rows(tmp_path / "out") == []


class Counting(Loudness):
    n_calls = 0

    def predict_waveform(self, waveform, lengths=None):
        self.n_calls += 1
        return super().predict_waveform(waveform)


def test_existing_results_are_kept_and_stay_in_the_table(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.wav", 0.2)
    EmotionPredictor().run(Loudness(), tmp_path / "in", tmp_path / "out")
    before = rows(tmp_path / "out")
    (tmp_path / "out" / "b.json").unlink()
    task = Counting()
    assert EmotionPredictor().run(task, tmp_path / "in", tmp_path / "out") == {}
    assert task.n_calls == 1
    assert rows(tmp_path / "out") == before
    EmotionPredictor().run(task, tmp_path / "in", tmp_path / "out", overwrite=True)
    assert task.n_calls == 3


def test_results_of_another_network_are_not_mixed_in(tmp_path):
    write(tmp_path / "in" / "a.wav", 0.2)
    write(tmp_path / "in" / "b.wav", 0.2)
    EmotionPredictor().run(Attributes(), tmp_path / "in" / "a.wav", tmp_path / "out")
    failures = EmotionPredictor().run(Loudness(), tmp_path / "in", tmp_path / "out")
    assert "other classes or attributes; say overwrite=true" in failures[tmp_path / "in" / "a.wav"]
    assert [row["file"] for row in rows(tmp_path / "out")] == ["b.wav"]
    (tmp_path / "out" / "b.json").write_text("{")
    failures = EmotionPredictor().run(Loudness(), tmp_path / "in" / "b.wav", tmp_path / "out")
    assert "not a result of this program" in failures[tmp_path / "in" / "b.wav"]
    assert EmotionPredictor().run(Loudness(), tmp_path / "in", tmp_path / "out", overwrite=True) == {}


def test_wrong_settings_are_refused_at_once(tmp_path):
    write(tmp_path / "x.wav", 0.2)
    with pytest.raises(ValueError, match="batch_size"):
        EmotionPredictor(batch_size=0)
    with pytest.raises(ValueError, match="hop_s=2"):
        EmotionPredictor(window_s=1, hop_s=2).run(Loudness(), tmp_path / "x.wav", tmp_path / "out")
    with pytest.raises(ValueError, match="no frequency for Wütend"):
        EmotionPredictor(priors={"Calm": 1.0}).run(Loudness(), tmp_path / "x.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()
