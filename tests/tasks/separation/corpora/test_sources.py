"""Listing and splitting of source recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hydraudio.audio.io import write_audio
from hydraudio.tasks.separation.corpora.polsess.builder.sources import (
    list_classes,
    parse_assignments,
    read_matches,
    read_split_file,
    split_items,
    split_talkers,
)

SAMPLE_RATE = 8000


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _ramp(path: Path, n_samples: int, sample_rate: int = SAMPLE_RATE, start: float = 0.1) -> np.ndarray:
    """A file whose samples tell where they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = (start + np.arange(n_samples) * 1e-5).astype(np.float32)
    write_audio(path, waveform, sample_rate, subtype="FLOAT")
    return waveform


def _list(folder: Path):
    return list_classes(folder, folder)


def test_listing_reads_headers_in_sorted_order(tmp_path):
    _ramp(tmp_path / "speech" / "b" / "2.wav", 100)
    _ramp(tmp_path / "speech" / "b" / "deep" / "1.wav", 200, 16000)
    _ramp(tmp_path / "speech" / "a" / "3.wav", 300)
    (tmp_path / "speech" / "a" / "notes.txt").write_text("no audio")
    classes = _list(tmp_path / "speech")
    assert list(classes) == ["a", "b"]
    assert [recording.name for recording in classes["b"]] == ["speech/b/2.wav", "speech/b/deep/1.wav"]
    assert [(recording.n_samples, recording.sample_rate) for recording in classes["b"]] == [(100, 8000), (200, 16000)]


def test_hidden_folders_are_no_talkers_and_linked_ones_are(tmp_path):
    _ramp(tmp_path / "speech" / ".cache" / "1.wav", 100)
    _ramp(tmp_path / "speech" / "a" / "1.wav", 100)
    _ramp(tmp_path / "speech" / "a" / ".thumbnails" / "2.wav", 100)
    _ramp(tmp_path / "elsewhere" / "3.wav", 100)
    (tmp_path / "speech" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    classes = _list(tmp_path / "speech")
    assert [recording.name for recording in classes.pop("a")] == ["speech/a/1.wav", "speech/a/more/3.wav"]
    assert not classes
    (tmp_path / "speech" / "a" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    with pytest.raises(ValueError, match=r"gone\.wav: is no file that can be opened .*remove it"):
        _list(tmp_path / "speech")


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        _list(tmp_path / "nowhere")
    (tmp_path / "speech").mkdir()
    with pytest.raises(ValueError, match="speech: has no subfolders"):
        _list(tmp_path / "speech")
    (tmp_path / "speech" / "mute").mkdir()
    with pytest.raises(ValueError, match="mute: no audio files"):
        _list(tmp_path / "speech")
    (tmp_path / "speech" / "mute" / "x.wav").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"x\.wav: not readable"):
        _list(tmp_path / "speech")


@pytest.mark.parametrize("n_items", [1, 2, 3, 10, 57])
def test_items_are_split_without_overlap(n_items):
    fractions = {"train": 0.8, "val": 0.1, "test": 0.1}
    split = split_items(list(range(n_items)), fractions, _rng())
    assert sorted(item for part in split.values() for item in part) == list(range(n_items))
    sizes = [len(split[subset]) for subset in ("train", "val", "test")]
    assert sizes == {1: [1, 0, 0], 2: [1, 1, 0], 3: [1, 1, 1], 10: [8, 1, 1]}.get(n_items, sizes)
    assert abs(sizes[0] - 0.8 * n_items) <= 2
    assert split == split_items(list(range(n_items)), fractions, _rng())


def test_talkers_who_may_be_one_person_stay_together():
    talkers = [f"bass{number:02d}" for number in range(10)] + [f"reader{number}" for number in range(10)]
    fractions = {"train": 0.6, "val": 0.2, "test": 0.2}
    for seed in range(10):
        split = split_talkers(talkers, fractions, ("bass",), _rng(seed))
        assert sorted(talker for part in split.values() for talker in part) == sorted(talkers)
        assert [bool(set(part) & set(talkers[:10])) for part in split.values()].count(True) == 1
        assert [len(split[subset]) for subset in ("train", "val", "test")] == [12, 4, 4]


def test_split_file(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("kind,name,split\nspeech,a,train\nspeech,b,val\nscene,rain,\n")
    assert read_split_file(path, ["a", "b", "c"]) == {"train": ["a"], "val": ["b"], "test": []}
    with pytest.raises(ValueError, match="no speech folder for the talkers b"):
        read_split_file(path, ["a"])
    path.write_text("name,split\na,train\na,val\n")
    with pytest.raises(ValueError, match="a are named twice"):
        read_split_file(path, ["a"])
    path.write_text("name,split\na,dev\n")
    with pytest.raises(ValueError, match="talker a has split 'dev'; use train, val or test"):
        read_split_file(path, ["a"])
    path.write_text("talker,split\na,dev\n")
    with pytest.raises(ValueError, match=r"has no column name; it has talker, split"):
        read_split_file(path, ["a"])
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        read_split_file(tmp_path / "gone.csv", ["a"])


def test_match_file(tmp_path):
    path = tmp_path / "match.csv"
    path.write_text("scene,dog,door\npark,1,0\noffice,0,1\n")
    assert read_matches(path) == {"park": frozenset({"dog"}), "office": frozenset({"door"})}
    path.write_text("scene,dog,door\npark,1\n")
    with pytest.raises(ValueError, match="scene class 'park' must hold 2"):
        read_matches(path)


def test_assignments():
    assert parse_assignments(["train=a,b", "test=c"], "--talkers") == {"train": "a,b", "test": "c"}
    for words in (["dev=3"], ["train"], ["train=1", "train=2"]):
        with pytest.raises(ValueError, match="--rows"):
            parse_assignments(words, "--rows")
