"""A file is read whole or refused with the remedy: compressed crops, streams without a length, cut-off files."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.audio.files import read_blocks
from hydraudio.audio.io import decode_audio, open_audio, read_audio, read_info

RATE = 16000


def _tones(seconds: float, rate: int = RATE) -> np.ndarray:
    """Bursts of noise over a tone: bit rates that vary, and no two places alike."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    return 0.1 * np.sin(2 * np.pi * 330 * time) + 0.1 * rng.standard_normal(len(time)) * (time % 1 < 0.3)


def _write(path: Path, samples: np.ndarray, rate: int = RATE, **options: object) -> Path:
    """Write in blocks of a second: libsndfile's Vorbis encoder cannot take more at once."""
    form = {".aifc": "AIFF"}.get(path.suffix, path.suffix[1:].upper())
    with soundfile.SoundFile(path, "w", rate, 1, format=form, **options) as file:
        for start in range(0, len(samples), rate):
            file.write(samples[start : start + rate])
    return path


def _without_tag(path: Path) -> Path:
    """Remove the first MPEG frame, which holds the Xing or Info tag."""
    data = path.read_bytes()
    at = data.index(data[:2], 4)
    while data[at + 2] & 0x0C != data[2] & 0x0C or (b"Info" not in data[:at] and b"Xing" not in data[:at]):
        at = data.index(data[:2], at + 1)
    path.write_bytes(data[at:])
    return path


def _in_blocks(path: Path) -> np.ndarray:
    with open_audio(path) as file:
        return np.concatenate(list(read_blocks(file, lambda seconds: None, mono=True, sample_rate=RATE)), axis=1)[0]


@pytest.mark.parametrize(
    ("name", "rate", "options"),
    [
        ("x.ogg", 44100, {}),
        ("x.mp3", 44100, {"bitrate_mode": "VARIABLE", "compression_level": 0.9}),
        ("x.mp3", 8000, {"bitrate_mode": "CONSTANT", "compression_level": 0.99}),
    ],
)
def test_a_part_of_a_compressed_file_is_the_slice_of_the_whole(tmp_path, capfd, name, rate, options):
    path = _write(tmp_path / name, _tones(6, rate), rate, **options)
    whole = read_audio(path)
    for start in (*range(0, len(whole) - 1000, len(whole) // 9), len(whole) - 2500, len(whole) - 1000):
        np.testing.assert_allclose(
            read_audio(path, start=start, n_samples=1000), whole[start : start + 1000], atol=1e-6
        )
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [RATE, 44100])
def test_an_mp3_file_without_a_tag_is_read_whole(tmp_path, capfd, mode, rate):
    samples = np.concatenate([0.3 * np.random.default_rng(0).standard_normal(rate), 3e-4 * _tones(6, rate)])
    path = _write(tmp_path / "x.mp3", samples, rate, bitrate_mode=mode, compression_level=0.7)
    tagged = read_audio(path)
    untagged = read_audio(_without_tag(path))
    assert 0 <= len(untagged) - len(samples) < 4 * 1152
    assert read_info(path).n_samples == len(untagged)
    lag = int(np.argmax(np.abs(np.correlate(untagged[:8000], tagged[:4000]))))
    np.testing.assert_allclose(untagged[lag:][: rate * 6], tagged[: rate * 6], atol=1e-4)
    np.testing.assert_array_equal(decode_audio(path.read_bytes(), "member")[0][0], untagged)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("n_left", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("tagged", [False, True])
def test_an_mp3_file_that_ends_inside_a_frame_is_refused(tmp_path, tagged, n_left):
    path = _write(tmp_path / "x.mp3", _tones(3), bitrate_mode="CONSTANT", compression_level=0.7)
    whole = path if tagged else _without_tag(path)
    content = whole.read_bytes()
    size = content.index(content[:4], 4)  # frames of one size, with the same header
    path.write_bytes(content[: len(content) // size * size // 2 // size * size + n_left])
    for read in (read_audio, read_info):
        with pytest.raises(ValueError, match=r"x\.mp3: is cut off inside its last frame; fetch it again.*ffmpeg -i"):
            read(path)


def test_a_format_in_which_nothing_can_be_sought_is_read(tmp_path):
    path = _write(tmp_path / "x.wav", _tones(1), subtype="GSM610")
    samples = read_audio(path)
    assert np.corrcoef(samples[:RATE], _tones(1))[0, 1] > 0.8
    np.testing.assert_array_equal(_in_blocks(path), samples)


def test_a_streamed_w64_file_is_read_whole(tmp_path):
    path = _write(tmp_path / "x.w64", _tones(1))
    expected = read_audio(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[16:24], content[at + 16 : at + 24] = b"\xff" * 8, b"\xff" * 7 + b"\x7f"  # as ffmpeg writes into a pipe
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path), expected)


@pytest.mark.parametrize(("suffix", "chunk", "at"), [("w64", b"fmt ", 16), ("caf", b"free", 4), ("rf64", b"ds64", 16)])
def test_sizes_that_no_file_has_are_refused(tmp_path, suffix, chunk, at):
    path = _write(tmp_path / f"x.{suffix}", _tones(1))
    content = bytearray(path.read_bytes())
    place = content.index(chunk) + at
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.{suffix}: .*again"):
        read_audio(path)


def test_mp3_files_one_after_the_other_are_read_to_the_end(tmp_path):
    path = _write(tmp_path / "x.mp3", _tones(2))
    path.write_bytes(path.read_bytes() + _write(tmp_path / "y.mp3", _tones(3)).read_bytes())
    assert read_info(path).n_samples >= 5 * RATE
    assert len(read_audio(path)) == read_info(path).n_samples


def test_mp3_of_two_rates_in_one_file_is_refused(tmp_path):
    path = _write(tmp_path / "x.mp3", _tones(2))
    path.write_bytes(path.read_bytes() + _write(tmp_path / "y.mp3", _tones(3, 44100), 44100).read_bytes())
    with pytest.raises(ValueError, match=r"x\.mp3: .*no MP3 frame of the same rate.*ffmpeg -i"):
        read_audio(path)


@pytest.mark.parametrize(("riff", "data"), [(0, 0), (2**32 - 1, 2**32 - 1), (2**32 - 1, 0), (0x7FFFF024, 0x7FFFF000)])
def test_a_streamed_wav_file_is_read_whole(tmp_path, riff, data):
    path = _write(tmp_path / "x.wav", _tones(1))
    expected = read_audio(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[4:8], content[at + 4 : at + 8] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path), expected)
    np.testing.assert_array_equal(_in_blocks(path), expected.astype(np.float32))
    np.testing.assert_array_equal(decode_audio(bytes(content), "member")[0][0], expected)
    np.testing.assert_array_equal(read_audio(path, start=9000, n_samples=500), expected[9000:9500])


def test_a_streamed_flac_file_is_read_whole(tmp_path):
    path = _write(tmp_path / "x.flac", _tones(5))
    expected = read_audio(path)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert read_info(path) == (5 * RATE, RATE)
    np.testing.assert_array_equal(decode_audio(bytes(content), "member")[0][0], expected)
    np.testing.assert_array_equal(read_audio(path), expected)
    np.testing.assert_array_equal(_in_blocks(path), expected)
    np.testing.assert_array_equal(read_audio(path, start=70_000, n_samples=500), expected[70_000:70_500])


def _streamed_flac(samples: np.ndarray) -> bytes:
    """As it comes out of a pipe: without the number of samples and the checksum of all."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC")
    content = bytearray(buffer.getvalue())
    content[21] &= 0xF0
    content[22:42] = bytes(20)
    return bytes(content)


@pytest.mark.parametrize("n_lost", [1, 2, 100, 5000, "a frame"])
def test_a_streamed_flac_file_that_was_cut_off_is_refused(tmp_path, n_lost):
    content = _streamed_flac(_tones(5))
    last_frame = content.rindex(bytes([0xFF, 0xF8]))  # of 80,000 samples, 2,176 are in a frame that is not full
    path = tmp_path / "x.flac"
    path.write_bytes(content[: last_frame if n_lost == "a frame" else -n_lost])
    for read in (read_audio, read_info, _in_blocks):
        with pytest.raises(ValueError, match=r"x\.flac: .*cut off.*fetch it again.*ffmpeg -i"):
            read(path)


@pytest.mark.parametrize("kind", ["noise", "silence"])
@pytest.mark.parametrize("n_samples", [100, 4095, 4097, 80_000])
def test_the_last_frame_of_a_streamed_flac_file_is_found(kind, n_samples):
    samples = np.zeros(n_samples) if kind == "silence" else 0.1 * np.random.default_rng(0).standard_normal(n_samples)
    assert decode_audio(_streamed_flac(samples), "member")[0].shape == (1, n_samples)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "w64", "rf64", "au", "caf", "flac", "ogg"])
@pytest.mark.parametrize("n_samples", [RATE, RATE + 1])
def test_recordings_one_after_the_other_are_refused(tmp_path, suffix, n_samples):
    first = _write(tmp_path / f"x.{suffix}", _tones(2)[:n_samples]).read_bytes()
    path = _write(tmp_path / f"x.{suffix}", _tones(1))
    path.write_bytes(first + path.read_bytes())
    with pytest.raises(ValueError, match=rf"x\.{suffix}: holds several recordings.*(each to a file|ffmpeg -i)"):
        read_audio(path)
    with pytest.raises(ValueError, match=rf"x\.{suffix}: holds several recordings"):
        read_info(path)


def test_a_flac_file_behind_a_tag_is_looked_at_too(tmp_path):
    path = _write(tmp_path / "x.flac", _tones(1))
    content = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + path.read_bytes()
    path.write_bytes(content)
    assert len(read_audio(path)) == RATE
    path.write_bytes(content + content)
    with pytest.raises(ValueError, match="holds several recordings"):
        read_audio(path)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "w64", "rf64", "au", "caf", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_cut_off_file_is_refused(tmp_path, suffix, share):
    path = _write(tmp_path / f"x.{suffix}", _tones(3))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"x\.{suffix}: .*(cut off|damaged).*(again)"):
        read_audio(path)
    with pytest.raises(ValueError, match=rf"x\.{suffix}: .*(cut off|damaged).*(again)"):
        _in_blocks(path)


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    assert stat.S_ISFIFO((tmp_path / "x.wav").stat().st_mode)
    with pytest.raises(FileNotFoundError, match=r"x\.wav"):
        read_audio(tmp_path / "x.wav")


def test_without_ffmpeg_its_formats_are_refused_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "phone.m4a").write_bytes(b"anything")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"phone\.m4a: \.m4a is read through ffmpeg.*install ffmpeg.*convert"):
        read_audio(tmp_path / "phone.m4a")


def _stand_in(folder: Path, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_ffmpeg_decodes_what_libsndfile_does_not_know(tmp_path, monkeypatch):
    decoded = _write(tmp_path / "decoded.w64", _tones(2), subtype="FLOAT")
    (tmp_path / "phone.m4a").write_bytes(b"anything")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _stand_in(tmp_path, f'for last; do :; done; cp {decoded} "$last"')
    np.testing.assert_array_equal(read_audio(tmp_path / "phone.m4a", start=100), read_audio(decoded)[100:])
    _stand_in(tmp_path, f'for last; do :; done; cp {decoded} "$last"; echo "partial file" >&2')
    with pytest.raises(ValueError, match=r"phone\.m4a: ffmpeg cannot read it whole \(partial file\)"):
        read_audio(tmp_path / "phone.m4a")


@pytest.mark.parametrize(
    "begin", [b"\0\0\0\x20ftypM4A ", bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")], ids=["m4a", "wma"]
)
def test_what_ffmpeg_passes_over_is_refused(tmp_path, monkeypatch, begin):
    decoded = _write(tmp_path / "decoded.w64", _tones(1), subtype="FLOAT")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _stand_in(tmp_path, f'for last; do :; done; cp {decoded} "$last"')
    path = tmp_path / "phone.m4a"
    path.write_bytes(begin.ljust(2**20, b"a"))
    assert len(read_audio(path)) == RATE
    path.write_bytes((begin.ljust(2**20 + 7, b"a")) * 2)
    with pytest.raises(ValueError, match=r"phone\.m4a: holds several recordings.*each to a file"):
        read_audio(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on the PATH")
def test_real_ffmpeg_reads_what_it_encodes(tmp_path):
    import subprocess

    source = _write(tmp_path / "x.wav", _tones(2))
    path = tmp_path / "x.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(source), "-b:a", "96k", str(path)], check=True)
    samples = read_audio(path)
    assert len(samples) >= 2 * RATE
    assert np.corrcoef(samples[: 2 * RATE], read_audio(source))[0, 1] > 0.9
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match="ffmpeg cannot read it whole"):
        read_audio(path)


def test_a_mended_stream_is_read_in_place(tmp_path):
    """The bytes of a shard's member are mended as a file's are."""
    buffer = io.BytesIO()
    soundfile.write(buffer, _tones(1), RATE, format="AIFF")
    with pytest.raises(ValueError, match="member: is cut off"):
        decode_audio(buffer.getvalue()[:-500], "member")
