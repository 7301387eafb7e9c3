"""Clips of any length and rate: packed and from their files, cropped, repeated, the same in every process."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from hydraudio.audio.io import read_mono, write_audio
from hydraudio.tasks.pretraining.corpora import clips as module
from hydraudio.tasks.pretraining.corpora.clips import Clip, FileSamples, clip_lengths, packed, read_spans
from hydraudio.tasks.pretraining.corpora.dataset import ClipDataset, collate

RATE = 16000


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Files of unlike lengths, rates and channels, and two clips of one file."""
    rng = np.random.default_rng(0)
    made = []
    for number, (n_samples, rate, n_channels) in enumerate([(700, RATE, 1), (5000, 44100, 2), (33000, RATE, 1)]):
        path = write_audio(tmp_path / f"{number}.wav", rng.uniform(-0.9, 0.9, (n_channels, n_samples)), rate)
        made.append(Clip(id=str(number), path=path, labels=(number,)))
    made.append(Clip(id="part", path=made[2].path, start_s=0.5, duration_s=0.25, labels=(0, 2)))
    return made


def dataset(samples, lengths, clips, crop=None, random_crop=True, seed=0) -> ClipDataset:
    rows = np.arange(len(clips))
    return ClipDataset(clips, rows, samples, lengths, n_classes=3, crop=crop, random_crop=random_crop, seed=seed)


def test_pack_holds_what_the_files_hold(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 4096)  # so that clips lie in several blocks and shards
    monkeypatch.setattr(module, "BLOCKS_PER_SHARD", 2)
    spans, defects = read_spans(clips, tmp_path / "cache")
    assert not defects
    lengths = clip_lengths(spans, RATE)
    assert lengths.tolist() == [700, 1814, 33000, 4000]
    pack, files = packed(clips, spans, RATE, tmp_path / "cache"), FileSamples(clips, spans, RATE)
    whole = [read_mono(clip.path, RATE) for clip in clips[:3]]
    whole.append(whole[2][8000:12000])
    for row, expected in enumerate(whole):
        for start, n_samples in ((0, None), (0, 100), (650, 40), (300, None)):
            part = expected[start:][:n_samples]
            np.testing.assert_allclose(files.read(row, start, n_samples), part, atol=1e-7)
            np.testing.assert_allclose(pack.read(row, start, n_samples), part, atol=0.51 / 32768)
    again = packed(clips, spans, RATE, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "packed").glob("*/manifest.json"))) == 1
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).read(2, 5, 9000), pack.read(2, 5, 9000))


def test_a_changed_file_is_packed_anew(clips, tmp_path):
    spans, _ = read_spans(clips, tmp_path / "cache")
    packed(clips, spans, RATE, tmp_path / "cache")
    write_audio(clips[0].path, np.zeros(700), RATE, subtype="FLOAT")
    assert not packed(clips, spans, RATE, tmp_path / "cache").read(0).any()


def test_overshoot_is_cut_at_full_scale(tmp_path):
    square = np.sign(np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)) * 0.999
    clip = Clip(id="a", path=write_audio(tmp_path / "a.wav", square, 44100))
    spans, _ = read_spans([clip], tmp_path)
    resampled = FileSamples([clip], spans, RATE).read(0)
    assert np.abs(resampled).max() > 1.0
    np.testing.assert_allclose(packed([clip], spans, RATE, tmp_path).read(0), resampled.clip(-1, 1), atol=1 / 32768)


@pytest.mark.parametrize(("start_s", "duration_s"), [(2.1, None), (1.0, 1.2), (0.0, 2.1)])
def test_clips_beyond_their_file(clips, tmp_path, start_s, duration_s):
    clip = Clip(id="x", path=clips[2].path, where="t.csv: line 2", start_s=start_s, duration_s=duration_s)
    _, (defect,) = read_spans([clip], tmp_path)
    assert defect.message.startswith(f"t.csv: line 2: {clip.path}: has 2.0625 s, but {start_s:g} s to ")


def test_crops(clips, tmp_path):
    spans, _ = read_spans(clips, tmp_path)
    lengths, samples = clip_lengths(spans, RATE), FileSamples(clips, spans, RATE)
    items = dataset(samples, lengths, clips, crop=2000)
    assert items.lengths.tolist() == [2000] * 4
    long, short = items[3, 2]["waveform"], items[3, 0]["waveform"]
    whole = [samples.read(row) for row in range(4)]
    starts = [start for start in range(31001) if np.array_equal(whole[2][start : start + 2000], long)]
    assert len(starts) == 1
    np.testing.assert_array_equal(short[:700], short[700:1400])  # repeated, not padded
    assert np.array_equal(np.sort(short[:700]), np.sort(whole[0]))
    np.testing.assert_array_equal(items[3, 2]["waveform"], long)
    assert not np.array_equal(items[4, 2]["waveform"], long)
    assert not np.array_equal(dataset(samples, lengths, clips, crop=2000, seed=1)[3, 2]["waveform"], long)
    middle = dataset(samples, lengths, clips, crop=2000, random_crop=False)
    np.testing.assert_array_equal(middle[0, 2]["waveform"], whole[2][15500:17500])
    assert len(set(middle.identities())) == 4
    with pytest.raises(ValueError, match=r"data\.crop_s=null"):
        items.identities()


def test_batches_are_padded_with_zeros(clips, tmp_path):
    spans, _ = read_spans(clips, tmp_path)
    items = dataset(FileSamples(clips, spans, RATE), clip_lengths(spans, RATE), clips)
    batch = collate([items[0, number] for number in range(4)])
    assert batch["lengths"].tolist() == [700, 1814, 33000, 4000]
    assert batch["waveform"].shape == (4, 33000)
    assert not batch["waveform"][0, 700:].any()
    assert batch["label"].tolist() == [0, 1, 2, -1] == items.labels.tolist()
    assert batch["target"].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert batch["id"] == ["0", "1", "2", "part"] == items.items


def test_one_sample_is_a_clip(tmp_path):
    clip = Clip(id="a", path=write_audio(tmp_path / "a.wav", np.array([0.5]), 44100))
    spans, _ = read_spans([clip], tmp_path)
    assert clip_lengths(spans, RATE).tolist() == [1]
    for samples in (FileSamples([clip], spans, RATE), packed([clip], spans, RATE, tmp_path)):
        assert samples.read(0).shape == (1,)
