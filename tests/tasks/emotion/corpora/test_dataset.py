"""Items and batches of utterances: what is read, how it is cut, and how labels become tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.tasks.emotion.corpora.audio import read_lengths, read_waveform
from hydraudio.tasks.emotion.corpora.dataset import EmotionDataset, Labelling, collate
from hydraudio.tasks.emotion.corpora.utterances import Utterance

RATE = 16000


def write(path: Path, seconds: float, rate: int = RATE, channels: int = 1, hz: float = 200.0) -> Path:
    time = np.arange(round(seconds * rate)) / rate
    waveform = np.stack([0.5 * np.sin(2 * np.pi * hz * time) * (channel + 1) / channels for channel in range(channels)])
    soundfile.write(path, waveform.T, rate, subtype="PCM_16")
    return path


def labelling(**options) -> Labelling:
    given = {"classes": 8, "attributes": ("valence", "arousal"), "targets": "hard", "merge_weights": (0.9, 0.1)}
    return Labelling.of(**{**given, "smoothing": 0.0, **options})


def make(paths: list[Path], tmp_path: Path, rows: list[dict] | None = None, **options) -> EmotionDataset:
    rows = rows or [{"letter": "H"} for _ in paths]
    utterances = [Utterance(file_name=path.name, path=path, **row) for path, row in zip(paths, rows, strict=True)]
    lengths = read_lengths(paths, [None] * len(paths), RATE, tmp_path / "cache")
    return EmotionDataset(utterances, lengths, options.pop("labelling", labelling()), sample_rate=RATE, **options)


def test_waveform_is_that_of_the_file(tmp_path):
    path = write(tmp_path / "a.wav", 0.5)
    item = make([path], tmp_path)[(0, 0)]
    np.testing.assert_array_equal(item["waveform"], soundfile.read(path, dtype="float32")[0])
    assert item["lengths"] == 8000


def test_other_rates_are_resampled_and_channels_averaged(tmp_path):
    path = write(tmp_path / "a.wav", 0.5, rate=48000, channels=2)
    dataset = make([path], tmp_path)
    item = dataset[(0, 0)]
    expected = 0.375 * np.sin(2 * np.pi * 200 * np.arange(8000) / RATE)  # mean of amplitudes .25 and .5
    assert len(item["waveform"]) == dataset.lengths[0] == 8000
    np.testing.assert_allclose(item["waveform"][800:-800], expected[800:-800], atol=2e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_lengths_from_headers_are_those_of_the_audio(tmp_path, rate):
    paths = [write(tmp_path / f"{n}.wav", n / rate, rate=rate) for n in (801, 3002, 7919)]
    lengths = read_lengths(paths, [None] * 3, RATE, tmp_path / "cache")
    assert lengths.tolist() == [len(read_waveform(path, RATE)) for path in paths]


def test_headers_are_read_once_and_again_after_a_change(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "a.wav", 0.5), tmp_path / "cache"
    assert read_lengths([path], [None], RATE, cache).tolist() == [8000]
    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "info", lambda path: pytest.fail("read again"))
        assert read_lengths([path], [None], RATE, cache).tolist() == [8000]
    write(path, 0.25)
    assert read_lengths([path], [None], RATE, cache).tolist() == [4000]


def test_a_damaged_cache_of_headers_is_named(tmp_path):
    path, cache = write(tmp_path / "a.wav", 0.5), tmp_path / "cache"
    read_lengths([path], [None], RATE, cache)
    file = next(cache.rglob("*.npy"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"{file.name}.*damaged.*delete it"):
        read_lengths([path], [None], RATE, cache)


def test_long_utterances_are_cut_to_their_beginning(tmp_path):
    path = write(tmp_path / "a.wav", 0.5)
    dataset = make([path, write(tmp_path / "b.wav", 0.1)], tmp_path, max_samples=3000)
    assert dataset.lengths.tolist() == [3000, 1600]
    item = dataset[(5, 0)]
    np.testing.assert_array_equal(item["waveform"], soundfile.read(path, dtype="float32")[0][:3000])
    assert item["metadata"]["duration_s"] == pytest.approx(0.5)


def test_random_crops_depend_on_seed_epoch_and_index_alone(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.wav"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 8000), RATE)
    whole = soundfile.read(path, dtype="float32")[0]
    dataset = make([path, path], tmp_path, max_samples=3000, random_crop=True, seed=3)
    crops = {key: dataset[key]["waveform"] for key in [(0, 0), (1, 0), (0, 1)]}
    starts = {key: np.flatnonzero(whole == crop[0])[0] for key, crop in crops.items()}
    assert len(set(starts.values())) == 3
    for key, crop in crops.items():
        np.testing.assert_array_equal(crop, whole[starts[key] : starts[key] + 3000])
        np.testing.assert_array_equal(dataset[key]["waveform"], crop)
    nearly = make([path], tmp_path, max_samples=7999, random_crop=True)  # the last place is one of them
    assert {nearly[(epoch, 0)]["waveform"][0] for epoch in range(12)} == {whole[0], whole[1]}
    other = make([path], tmp_path, max_samples=3000, random_crop=True, seed=4)[(0, 0)]["waveform"]
    assert not np.array_equal(other, crops[(0, 0)])


def test_a_file_that_changed_since_is_named(tmp_path):
    path = write(tmp_path / "a.wav", 0.5)
    dataset = make([path], tmp_path)
    write(path, 0.25)
    with pytest.raises(ValueError, match=r"a\.wav: has 4000 samples at 16000 Hz, its header or index says 8000"):
        dataset[(0, 0)]


def test_labels_become_tensors_in_the_order_of_the_options(tmp_path):
    paths = [write(tmp_path / f"{n}.wav", 0.1) for n in range(3)]
    votes = {"H": 0.4, "N": 0.4, "O": 0.2}
    rows = [
        {"letter": "H", "attributes": {"arousal": 7.0, "valence": 2.5}, "gender": 1, "votes": votes, "speaker": "12"},
        {"letter": "X", "attributes": {"arousal": 1.0}, "podcast": "0007", "split": "Test1"},
        {"letter": "N"},
    ]
    first, second, third = (make(paths, tmp_path, rows)[(0, row)] for row in range(3))
    assert [item["label"] for item in (first, second, third)] == [2, -1, 7]
    np.testing.assert_array_equal(first["target"], np.eye(8, dtype=np.float32)[2])
    np.testing.assert_array_equal(second["target"], np.zeros(8))
    np.testing.assert_allclose(first["votes"], [0, 0, 0.5, 0, 0, 0, 0, 0.5])
    assert np.isnan(third["votes"]).all()
    np.testing.assert_allclose(first["attributes"], [0.25, 1.0])
    np.testing.assert_allclose(second["attributes"], [np.nan, 0.0])
    assert [first["gender"], third["gender"]] == [1, 2]
    assert first["id"] == "0.wav"
    assert first["metadata"]["gender"] == "Male"
    assert (second["metadata"]["podcast"], first["metadata"]["podcast"]) == ("0007", None)
    assert second["metadata"]["letter"] == "X"


def test_targets_are_smoothed_in_training_only(tmp_path):
    paths = [write(tmp_path / "a.wav", 0.1)]
    options = {"labelling": labelling(smoothing=0.07)}
    trained = make(paths, tmp_path, training=True, **options)[(0, 0)]["target"]
    np.testing.assert_allclose(trained, np.where(np.arange(8) == 2, 0.93, 0.01), rtol=1e-6)
    np.testing.assert_array_equal(make(paths, tmp_path, **options)[(0, 0)]["target"], np.eye(8)[2])


def test_strata_fall_back_to_the_largest_share(tmp_path):
    paths = [write(tmp_path / f"{n}.wav", 0.1) for n in range(3)]
    rows = [{"letter": "A"}, {"letter": "X", "votes": {"S": 0.3, "N": 0.5, "O": 0.2}}, {"letter": "O"}]
    assert make(paths, tmp_path, rows).strata().tolist() == [0, -1, -1]
    assert make(paths, tmp_path, rows, labelling=labelling(targets="soft_p")).strata().tolist() == [0, 7, -1]


def test_batches_are_padded_with_zeros(tmp_path):
    paths = [write(tmp_path / "a.wav", 0.1), write(tmp_path / "b.wav", 0.3)]
    dataset = make(paths, tmp_path)
    batch = collate([dataset[(0, 0)], dataset[(0, 1)]])
    assert batch["waveform"].shape == (2, 4800)
    assert batch["waveform"].dtype == torch.float32
    assert batch["lengths"].tolist() == [1600, 4800]
    assert batch["lengths"].dtype == batch["label"].dtype == batch["gender"].dtype == torch.int64
    assert batch["padded"] is True
    assert not batch["waveform"][0, 1600:].any()
    np.testing.assert_array_equal(batch["waveform"][0, :1600], dataset[(0, 0)]["waveform"])
    assert batch["id"] == ["a.wav", "b.wav"]
    assert [each["path"] for each in batch["metadata"]] == [str(path) for path in paths]
    assert {batch[name].dtype for name in ("target", "votes", "attributes")} == {torch.float32}
    assert collate([dataset[(0, 0)]])["padded"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attributes": ("arousal", "arousal")}, "each at most once"),
        ({"attributes": ("anger",)}, "arousal, valence, dominance"),
        ({"targets": "soft"}, "hard, soft_p, soft_s, merged"),
        ({"merge_weights": (1.0,)}, "two weights"),
        ({"smoothing": 1.0}, "below 1"),
        ({"classes": 7}, "no set of classes"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        labelling(**options)
