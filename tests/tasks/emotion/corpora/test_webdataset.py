"""WebDataset shards hold the same bits and labels as the folder, and every damage is named."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import runpy
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.core.defects import or_raise
from hydraudio.report.classification.examples import read_recording
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import parse_consensus
from hydraudio.tasks.emotion.corpora.msp_podcast.votes import add_votes, parse_votes
from hydraudio.tasks.emotion.corpora.webdataset import reader as webdataset
from hydraudio.tasks.emotion.corpora.webdataset.reader import check_webdataset, is_webdataset, read_index, read_member
from hydraudio.tasks.emotion.corpora.webdataset.writer import write_index, write_webdataset


@pytest.fixture(scope="module")
def rows(msp_root):
    return add_votes(or_raise(parse_consensus(msp_root)), or_raise(parse_votes(msp_root)))


@pytest.fixture(scope="module")
def packed(rows, msp_root, tmp_path_factory) -> Path:
    """Shards of 20 turns. Do not write into it."""
    folder = tmp_path_factory.mktemp("packed")
    write_webdataset(rows, folder, "MSP-PODCAST", transcripts=msp_root / "Transcripts", samples_per_shard=20)
    return folder


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return shutil.copytree(packed, tmp_path / "copy")


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def sound(content: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, content, 16000, format=form, subtype="PCM_16")
    return buffer.getvalue()


def test_shards_are_named_and_filled_as_documented(packed, msp_root):
    files = sorted(path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file())
    shards = [f"test/test-samples-{number:03d}.tar" for number in range(2)]
    shards += [f"train/train-samples-{number:03d}.tar" for number in range(3)]
    assert files == ["index.json", *shards, "validation/validation-samples-000.tar"]
    with tarfile.open(packed / shards[2]) as archive:
        names = archive.getnames()
        stem = names[0].split(".")[0]
        assert names[:3] == [f"{stem}.flac", f"{stem}.json", f"{stem}.text"]
        assert len(names) == 60
        text = archive.extractfile(f"{stem}.text").read()
        metadata = json.load(archive.extractfile(f"{stem}.json"))
    assert text == (msp_root / "Transcripts" / f"{stem}.txt").read_bytes()
    emotions = ["angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"]
    assert sum(metadata[name] for name in emotions) == pytest.approx(1.0)
    assert {"EmoAct", "EmoVal", "EmoDom", "SpkrID", "gender", "split", "corpus", "dominant_emotion"} <= set(metadata)


def test_labels_come_back(packed, rows):
    back = {row.file_name: row for row in read_index(packed)}
    assert len(back) == len(rows) == 88
    for row in rows:
        other = back[row.file_name]
        assert other.n_samples == soundfile.info(row.path).frames
        assert dataclasses.replace(other, path=row.path, n_samples=None, sample_rate=None) == row
        assert other.sample_rate == 16000


def test_every_bit_comes_back_in_any_order(packed, rows):
    paths = {row.file_name: row.path for row in rows}
    for row in reversed(read_index(packed)):
        waveform, rate = read_member(row.path)
        assert waveform.dtype == np.float32
        assert rate == 16000
        np.testing.assert_array_equal(waveform * 32768, soundfile.read(paths[row.file_name], dtype="int16")[0])


def test_members_are_read_without_another_look_at_the_index(copy, monkeypatch):
    path = read_index(copy)[0].path
    monkeypatch.setattr(webdataset, "load_index", lambda _: pytest.fail("read again"))
    assert len(read_member(path)[0])


def test_the_same_rows_give_the_same_bytes(packed, rows, msp_root, tmp_path):
    again = tmp_path / "again"
    write_webdataset(rows, again, "MSP-PODCAST", transcripts=msp_root / "Transcripts", samples_per_shard=20)
    for path in packed.rglob("*.*"):
        assert (again / path.relative_to(packed)).read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="holds a finished WebDataset"):
        write_webdataset(rows, again, "MSP-PODCAST")


def test_shards_of_others_get_an_index(tmp_path):
    torch = pytest.importorskip("torch")
    tone = (0.3 * np.sin(np.arange(1600) / 5)).astype(np.float32)
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(tone)[None], buffer)
    (tmp_path / "validation").mkdir()
    soft = {"angry": 0.0, "sad": 0.6, "happy": 0.0, "surprise": 0.2, "fear": 0.2, "EmoAct": 3.5, "EmoVal": 2}
    with tarfile.open(tmp_path / "validation" / "validation-samples-000.tar", "w") as archive:
        add(archive, "MSP-PODCAST_0007_0001.audio", buffer.getvalue())
        add(archive, "MSP-PODCAST_0007_0001.json", json.dumps({**soft, "gender": "female", "SpkrID": 4}).encode())
        add(archive, "second.json", json.dumps({"dominant_emotion": "neutral", "split": "Test1"}).encode())
        add(archive, "second.wav", sound(np.stack([tone, -tone], axis=1), "WAV"))
    assert not is_webdataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="index the shards"):
        read_index(tmp_path)
    write_index(tmp_path, "MSP-PODCAST")
    first, second = read_index(tmp_path)
    assert (first.letter, first.split, first.speaker, first.gender) == ("S", "Development", "4", 0)
    assert first.podcast == "0007"
    assert first.votes == pytest.approx({"S": 0.6, "U": 0.2, "F": 0.2})
    assert first.attributes == {"arousal": 3.5, "valence": 2.0}
    np.testing.assert_array_equal(read_member(first.path)[0], tone)
    assert (second.letter, second.split, second.speaker) == ("N", "Test1", "Unknown")
    assert np.abs(read_member(second.path)[0]).max() < 1 / 32768  # channels are averaged
    assert check_webdataset(tmp_path) == []


def test_keys_have_their_folder_and_hidden_members_are_none(tmp_path):
    (tmp_path / "train").mkdir()
    with tarfile.open(tmp_path / "train" / "train-samples-000.tar", "w") as archive:
        for k in (1, 2):
            add(archive, f"./spk{k}/._utt.flac", b"\0\5\x16\7")
            add(archive, f"./spk{k}/utt.flac", sound(np.full(800, 0.1 * k), "FLAC"))
            add(archive, f"./spk{k}/utt.json", b'{"dominant_emotion": "happy"}')
    write_index(tmp_path, "x")
    rows = read_index(tmp_path)
    assert [row.file_name for row in rows] == ["spk1/utt.wav", "spk2/utt.wav"]
    for k, row in enumerate(rows, start=1):
        np.testing.assert_allclose(read_member(row.path)[0], 0.1 * k, atol=1e-4)
        np.testing.assert_allclose(read_recording(row.path, row.sample_rate), 0.1 * k, atol=1e-4)
    assert check_webdataset(tmp_path) == []


def test_an_utterance_in_two_shards_is_refused(copy):
    shutil.copy(copy / "train" / "train-samples-001.tar", copy / "test" / "test-samples-009.tar")
    with pytest.raises(
        ValueError, match=r"MSP-PODCAST_\w+ lies in train/train-samples-001\.tar and in test/test-samples"
    ):
        write_index(copy, "MSP-PODCAST")


# --- damage ---


def first_shard(folder: Path) -> Path:
    return folder / "train" / "train-samples-000.tar"


def kinds(folder: Path) -> list[str]:
    return [defect.kind for defect in check_webdataset(folder)]


def test_missing_shard(copy):
    path = read_index(copy)[0].path
    first_shard(copy).unlink()
    with pytest.raises(FileNotFoundError, match=r"train-samples-000\.tar: shard of the index is missing"):
        read_index(copy)
    with pytest.raises(FileNotFoundError, match="the shard is missing"):
        read_member(path)
    assert kinds(copy) == ["missing_file"]


def test_truncated_shard(copy):
    last = [row.path for row in read_index(copy) if "train-samples-000" in row.path][-1]
    content = first_shard(copy).read_bytes()
    first_shard(copy).write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(ValueError, match=r"train-samples-000\.tar: \d+ bytes, the index says \d+"):
        read_index(copy)
    with pytest.raises(ValueError, match="the shard ends inside this sample"):
        read_member(last)
    assert kinds(copy) == ["truncated_shard"]


def test_changed_bytes(copy):
    content = bytearray(first_shard(copy).read_bytes())
    content[3000] ^= 1  # inside the first audio
    first_shard(copy).write_bytes(content)
    assert len(read_index(copy)) == 88  # hashes are for the check
    assert kinds(copy) == ["changed_shard"]


def test_exchanged_shard_of_the_same_size(copy):
    index = json.loads((copy / "index.json").read_text())
    path = read_index(copy)[0].path
    shard = next(shard for shard in index["shards"] if shard["file"].endswith("train-samples-000.tar"))
    shard["count"] += 1
    shard["samples"][0]["n_samples"] += 1
    (copy / "index.json").write_text(json.dumps(index))
    assert kinds(copy) == ["other_samples"]
    with pytest.raises(ValueError, match=r"holds \d+ samples at 16000 Hz, the index says") as caught:
        read_member(path)
    assert "index the shards again" in str(caught.value)


@pytest.mark.parametrize("text", ["", '{"format": "other"}', "[1]", '{"format": "hydraudio-webdataset", "version": 9}'])
def test_damaged_index(copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json: not"):
        read_index(copy)
    assert kinds(copy) == ["bad_index"]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"dominant_emotion": "bliss"}, "bliss"),
        ({"EmoAct": 7.5}, "EmoAct is 7.5, outside 1..7"),
        ({"angry": -0.2}, "must be numbers of at least 0"),
        ({"gender": "robot"}, "robot"),
        (["neutral"], "holds a list, expected an object"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, metadata, words):
    (tmp_path / "train").mkdir()
    with tarfile.open(tmp_path / "train" / "train-samples-000.tar", "w") as archive:
        add(archive, "one.wav", sound(np.zeros(100), "WAV"))
        add(archive, "one.json", json.dumps(metadata).encode())
    with pytest.raises(ValueError, match=words) as caught:
        write_index(tmp_path, "x")
    assert "train-samples-000.tar#one" in str(caught.value)


def test_a_failed_write_leaves_no_shard(rows, tmp_path):
    gone = dataclasses.replace(rows[1], path=tmp_path / "gone.wav")
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        write_webdataset([rows[0], gone], tmp_path / "out", "x")
    assert not list((tmp_path / "out").rglob("*.*"))
    soundfile.write(tmp_path / "float.wav", np.zeros(99), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="FLOAT, which FLAC cannot hold"):
        write_webdataset([dataclasses.replace(rows[0], path=tmp_path / "float.wav")], tmp_path / "out", "x")
    with pytest.raises(ValueError, match="same file name"):
        write_webdataset([rows[0], rows[0]], tmp_path / "out", "x")


def test_the_script_packs_indexes_and_verifies(msp_root, repository, tmp_path, monkeypatch, capsys):
    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["write_webdataset.py", *arguments])
        return runpy.run_path(str(repository / "scripts" / "emotion" / "write_webdataset.py"))["main"]()

    folder = str(tmp_path / "shards")
    assert run(str(msp_root), "--output", folder, "--processes", "1") == 0
    assert "wrote 88 utterances" in capsys.readouterr().out
    assert run("--verify", folder) == 0
    before = (tmp_path / "shards" / "index.json").read_bytes()
    assert run("--index", folder) == 0
    assert (tmp_path / "shards" / "index.json").read_bytes() == before
    (tmp_path / "shards" / "train" / "train-samples-000.tar").unlink()
    capsys.readouterr()
    assert run("--verify", folder) == 1
    assert "train-samples-000.tar" in capsys.readouterr().out
    assert run(str(msp_root), "--output", folder) == 1
    assert "holds a finished WebDataset" in capsys.readouterr().err


def sample(index):
    return index["shards"][0]["samples"][0]


FORGED = {
    "a shard above": lambda index: index["shards"][0].update(file="../outside.tar"),
    "an absolute shard": lambda index: index["shards"][0].update(file="/outside.tar"),
    "a sample behind the end": lambda index: sample(index).update(offset=10**12),
    "a sample before the begin": lambda index: sample(index).update(offset=-1),
    "a large sample": lambda index: sample(index).update(n_bytes=10**12),
    "an empty sample": lambda index: sample(index).update(n_bytes=0),
    "a long sample": lambda index: sample(index).update(n_samples=10**12),
    "a short sample": lambda index: sample(index).update(n_samples=0),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_index_is_refused(copy, name):
    shutil.copy(next(copy.rglob("*.tar")), copy.parent / "outside.tar")
    index = json.loads((copy / "index.json").read_text())
    FORGED[name](index)
    (copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"cannot be|not below this folder"):
        read_index(copy)


WRONG = ("missing", None, math.nan, "x", [], -1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("shards", value) for value in ("missing", None, math.nan, "x", -1)),
        *(("samples", value) for value in ("missing", None, math.nan, "x", -1)),
        *((key, value) for key in ("n_bytes", "offset", "sample_rate", "suffix", "metadata") for value in WRONG),
        *((key, value) for key in ("count", "sha256") for value in ("missing", None, math.nan, [])),
    ],
)
def test_a_damaged_index_is_named(copy, key, value):
    index = json.loads((copy / "index.json").read_text())
    holder = next(part for part in (sample(index), index["shards"][0], index) if key in part)
    if value == "missing":
        del holder[key]
    else:
        holder[key] = value
    (copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: .*index the shards again"):
        read_index(copy)
    assert kinds(copy) == ["bad_index"]


def tensor_file(tensor, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensor, buffer, **options)
    return buffer.getvalue()


def test_a_tensor_says_no_more_samples_than_it_holds():
    content = tensor_file(torch.zeros(1).expand(1, 10**12))
    with pytest.raises(ValueError, match="holds fewer samples"):
        webdataset.decode_member(content, "audio", "x")


def test_a_compressed_tensor_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(webdataset, "MAX_VALUES", 1000)
    plain = io.BytesIO(tensor_file(torch.zeros(1, 5000)))
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert len(packed.getvalue()) < 5000
    with pytest.raises(ValueError, match="more than are read"):
        webdataset.decode_member(packed.getvalue(), "audio", "x")


def test_a_small_flac_of_long_silence_is_not_decoded(monkeypatch):
    monkeypatch.setattr("hydraudio.audio.io.MAX_VALUES", 10_000)
    content = sound(np.zeros(20_000), "FLAC")
    assert len(content) < 10_000
    with pytest.raises(ValueError, match="at once are more than"):
        webdataset.decode_member(content, "flac", "x")


def test_a_pipe_in_place_of_a_shard_or_an_index_is_refused(tmp_path, pipe):
    pipe(tmp_path / "train" / "train-samples-000.tar")
    with pytest.raises(ValueError, match=r"train-samples-000\.tar: no such file that can be read"):
        write_index(tmp_path, "msp_podcast")
    pipe(tmp_path / webdataset.INDEX)
    assert not is_webdataset(tmp_path)
    assert [defect.kind for defect in check_webdataset(tmp_path)] == ["missing_file"]
