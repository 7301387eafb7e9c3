"""Prediction on files and folders with a tiny task that has no weights."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.audio.files import plan_jobs
from hydraudio.audio.io import resample
from hydraudio.losses.permutation import PermutationInvariant
from hydraudio.losses.sdr import SISDRLoss
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.tasks.separation.predict import SeparationPredictor
from hydraudio.tasks.separation.task import SeparationTask

OPTIONS = {"chunk_s": 0.5, "overlap_s": 0.1, "level": "network"}


class Gains(torch.nn.Module):
    """Source k is gain k times the mixture."""

    device = torch.device("cpu")

    def __init__(self, *gains, sample_rate=8000):
        super().__init__()
        self.gains = gains
        self.sample_rate = sample_rate
        self.n_sources = len(gains)

    def predict_waveform(self, waveform):
        assert not self.training
        return torch.stack([gain * waveform for gain in self.gains], dim=1)


def predict_folder(task, input, output, overwrite=False, **settings):
    return SeparationPredictor(**settings).run(task, input, output, overwrite=overwrite)


def tone(n_samples, rate_hz=8000, n_channels=1, level=0.3):
    time_s = np.arange(n_samples) / rate_hz
    channels = [level / (c + 1) * np.sin(2 * np.pi * (200 + 100 * c) * time_s) for c in range(n_channels)]
    return np.stack(channels, axis=1).astype(np.float32)


def write(path, frames, rate_hz=8000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, frames, rate_hz, **options)
    return path


def read(path):
    return soundfile.read(path, dtype="float32", always_2d=True)


def test_folder_tree_is_mirrored(tmp_path):
    frames = tone(7001)
    for name in ("a.wav", "b/c.flac", "b/d/e.ogg", "f.mp3"):
        write(tmp_path / "in" / name, frames)
    (tmp_path / "in" / "notes.txt").write_text("not audio")
    write(tmp_path / "in" / ".hidden.wav", frames)
    assert predict_folder(Gains(1.0, 0.5), tmp_path / "in", tmp_path / "out", **OPTIONS) == {}
    names = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert names == [
        *("a_s1.wav", "a_s2.wav", "b/c_s1.wav", "b/c_s2.wav", "b/d/e_s1.wav", "b/d/e_s2.wav"),
        *("f_s1.wav", "f_s2.wav"),
    ]
    for name in ("a.wav", "b/c.flac", "b/d/e.ogg", "f.mp3"):
        source, rate_hz = read(tmp_path / "in" / name)
        for k, gain in ((1, 1.0), (2, 0.5)):
            target, target_hz = read((tmp_path / "out" / name).with_name(f"{Path(name).stem}_s{k}.wav"))
            assert target_hz == rate_hz
            np.testing.assert_allclose(target, gain * source, atol=1e-6)


def test_single_source_keeps_the_stem(tmp_path):
    write(tmp_path / "x.wav", tone(5000))
    predict_folder(Gains(1.0), tmp_path / "x.wav", tmp_path / "out", **OPTIONS)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x.wav"]


@pytest.mark.parametrize(("rate_hz", "n_samples"), [(44100, 44101), (16000, 12345), (6000, 7777), (48000, 300)])
def test_any_rate_comes_back_at_its_rate_and_length(tmp_path, rate_hz, n_samples):
    frames = tone(n_samples, rate_hz)
    write(tmp_path / "x.wav", frames, rate_hz, subtype="FLOAT")
    predict_folder(Gains(1.0), tmp_path / "x.wav", tmp_path / "out", **OPTIONS)
    estimate, estimate_hz = read(tmp_path / "out" / "x.wav")
    assert (estimate_hz, estimate.shape) == (rate_hz, (n_samples, 1))
    expected = resample(resample(frames.T, rate_hz, 8000), 8000, rate_hz).T[:n_samples]
    n_shared = min(len(expected), n_samples) - 3
    np.testing.assert_allclose(estimate[:n_shared], expected[:n_shared], atol=1e-3)
    if n_samples > 5000:  # the tone itself, away from the edges
        np.testing.assert_allclose(estimate[1000:-1000], frames[1000:-1000], atol=1e-3)


def test_channels_one_by_one_or_mixed(tmp_path):
    frames = tone(16000, n_channels=3)
    write(tmp_path / "x.wav", frames, subtype="FLOAT")
    predict_folder(Gains(1.0, 0.5), tmp_path / "x.wav", tmp_path / "each", channels="each", **OPTIONS)
    predict_folder(Gains(1.0, 0.5), tmp_path / "x.wav", tmp_path / "mono", channels="mono", **OPTIONS)
    np.testing.assert_array_equal(read(tmp_path / "each" / "x_s2.wav")[0], 0.5 * frames)
    mixed = read(tmp_path / "mono" / "x_s2.wav")[0]
    np.testing.assert_allclose(mixed, 0.5 * frames.mean(axis=1, keepdims=True), atol=1e-7)


def test_batches_change_nothing(tmp_path):
    frames = tone(30000, 16000, n_channels=2)
    write(tmp_path / "x.wav", frames, 16000)
    for batch_size in (1, 4):
        out = tmp_path / str(batch_size)
        predict_folder(Gains(1.0, 0.7), tmp_path / "x.wav", out, channels="each", batch_size=batch_size, **OPTIONS)
    np.testing.assert_array_equal(read(tmp_path / "1" / "x_s2.wav")[0], read(tmp_path / "4" / "x_s2.wav")[0])


def test_nothing_clips_and_levels_stay_relative(tmp_path, caplog):
    frames = tone(150_000)
    write(tmp_path / "loud.wav", frames, subtype="FLOAT")
    with caplog.at_level(logging.WARNING, logger="hydraudio.audio"):
        predict_folder(Gains(10.0, 2.0), tmp_path / "loud.wav", tmp_path / "out", **OPTIONS)
    first, second = read(tmp_path / "out" / "loud_s1.wav")[0], read(tmp_path / "out" / "loud_s2.wav")[0]
    assert np.abs(first).max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(second, first / 5, atol=1e-6)
    np.testing.assert_allclose(first, frames / np.abs(frames).max(), atol=1e-6)
    assert "scaled" in caplog.text


class Split(torch.nn.Module):
    """Two tones apart by masks in time, at levels and with a polarity of the network's own."""

    device, sample_rate, n_sources = torch.device("cpu"), 8000, 2

    def predict_waveform(self, waveform):
        loud = (waveform.abs() > 0.15) | (torch.arange(waveform.shape[-1]) % 2 == 0)
        return torch.stack([-30.0 * waveform * loud, 0.01 * waveform * ~loud], dim=1)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, "mono"), (8000, "each")])
def test_sources_are_as_loud_as_in_the_recording(tmp_path, rate_hz, channels):
    frames = tone(20_000, rate_hz, n_channels=2)
    write(tmp_path / "x.wav", frames, rate_hz, subtype="FLOAT")
    options = {"chunk_s": 30, "overlap_s": 0.1, "channels": channels}
    predict_folder(Split(), tmp_path / "x.wav", tmp_path / "out", **options)
    parts = [read(tmp_path / "out" / f"x_s{k}.wav")[0] for k in (1, 2)]
    given = frames if channels == "each" else frames.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(sum(parts), given, atol=1e-6)
    predict_folder(Split(), tmp_path / "x.wav", tmp_path / "full", level="full_scale", **options)
    full = [read(tmp_path / "full" / f"x_s{k}.wav")[0] for k in (1, 2)]
    assert max(np.abs(part).max() for part in full) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(sum(full), given / max(np.abs(part).max() for part in parts), atol=1e-5)


def test_level_does_not_depend_on_chunks_and_rates(tmp_path):
    frames = tone(30_000, 44100, level=0.05)
    write(tmp_path / "x.wav", frames, 44100, subtype="FLOAT")
    predict_folder(Gains(-12.0), tmp_path / "x.wav", tmp_path / "out", chunk_s=0.5, overlap_s=0.1)
    np.testing.assert_allclose(read(tmp_path / "out" / "x.wav")[0][1000:-1000], frames[1000:-1000], atol=1e-3)


def test_a_silent_recording_stays_silent(tmp_path):
    write(tmp_path / "x.wav", np.zeros((4000, 1)))
    for level in ("input", "full_scale"):
        predict_folder(Gains(2.0, 3.0), tmp_path / "x.wav", tmp_path / level, chunk_s=0.5, overlap_s=0.1, level=level)
        assert not read(tmp_path / level / "x_s2.wav")[0].any()


def test_bad_files_are_listed_at_the_end_and_the_others_processed(tmp_path, caplog):
    source = tmp_path / "in"
    write(source / "good.wav", tone(5000))
    write(source / "zz.flac", tone(5000))
    (source / "text.wav").write_text("hello")
    write(source / "empty.wav", np.zeros((0, 1), dtype=np.float32))
    nan = tone(5000)
    nan[4000] = np.nan
    write(source / "nan.wav", nan, subtype="FLOAT")
    write(source / "good.flac", tone(5000))
    whole = write(source / "cut.flac", tone(80000)).read_bytes()
    (source / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.INFO, logger="hydraudio.audio"):
        failures = predict_folder(Gains(1.0), source, tmp_path / "out", **OPTIONS)
    failed = {path.name: reason for path, reason in failures.items()}
    assert sorted(failed) == ["cut.flac", "empty.wav", "good.wav", "nan.wav", "text.wav"]
    assert "no samples" in failed["empty.wav"]
    assert "NaN" in failed["nan.wav"]
    assert "good.flac" in failed["good.wav"]
    assert all(name in caplog.records[-1].getMessage() for name in failed)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.wav", "zz.wav"]  # nothing half done


def test_a_file_that_cannot_be_opened_fails_alone(tmp_path, caplog):
    source = tmp_path / "in"
    write(source / "good.wav", tone(5000))
    write(tmp_path / "y.wav", tone(5000)).rename(os.fsdecode(os.fsencode(source) + b"/caf\xe9.wav"))
    (source / "phone.m4a").write_bytes(b"anything")
    os.mkfifo(source / "pipe.wav")
    (source / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    with caplog.at_level(logging.INFO, logger="hydraudio.audio"):
        failures = predict_folder(Gains(1.0), source, tmp_path / "out", **OPTIONS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]
    assert len(failures) == 4
    assert "not UTF-8" in failures[Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9.wav"))]
    assert "ffmpeg" in failures[source / "phone.m4a"]
    assert "a pipe" in failures[source / "pipe.wav"]
    assert "a link to nothing" in failures[source / "gone.wav"]
    assert "caf\\xe9.wav" in caplog.records[-1].getMessage()


def test_linked_folders_are_searched_once(tmp_path):
    write(tmp_path / "in" / "a.wav", tone(5000))
    write(tmp_path / "elsewhere" / "b.wav", tone(5000))
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "link2").symlink_to(tmp_path / "elsewhere")
    failures = predict_folder(Gains(1.0), tmp_path / "in", tmp_path / "out", **OPTIONS)
    assert (tmp_path / "out" / "link" / "b.wav").is_file()
    assert sorted(path.name for path in failures) == ["link2", "loop"]
    assert all("searched already" in reason for reason in failures.values())


def test_channels_that_cancel_are_said(tmp_path, caplog):
    frames = np.concatenate([tone(9000), -tone(9000)], axis=1)
    write(tmp_path / "x.wav", frames, subtype="FLOAT")
    predict_folder(Gains(1.0), tmp_path / "x.wav", tmp_path / "mono", channels="mono", **OPTIONS)
    assert "x.wav: its 2 channels cancel each other" in caplog.text
    caplog.clear()
    predict_folder(Gains(1.0), tmp_path / "x.wav", tmp_path / "each", channels="each", **OPTIONS)
    write(tmp_path / "y.wav", tone(9000, n_channels=3), subtype="FLOAT")
    predict_folder(Gains(1.0), tmp_path / "y.wav", tmp_path / "mono", channels="mono", **OPTIONS)
    assert "cancel" not in caplog.text


def test_network_that_gives_nan_fails_that_file(tmp_path):
    write(tmp_path / "x.wav", tone(5000))
    failures = predict_folder(Gains(float("nan")), tmp_path / "x.wav", tmp_path / "out", **OPTIONS)
    assert "network gave NaN" in failures[tmp_path / "x.wav"]
    assert list((tmp_path / "out").iterdir()) == []


def test_existing_outputs_stay_unless_overwrite(tmp_path):
    write(tmp_path / "x.wav", tone(5000))
    predict_folder(Gains(1.0, 0.5), tmp_path / "x.wav", tmp_path / "out", **OPTIONS)
    before = (tmp_path / "out" / "x_s1.wav").read_bytes()
    assert predict_folder(Gains(0.1, 0.2), tmp_path / "x.wav", tmp_path / "out", **OPTIONS) == {}
    assert (tmp_path / "out" / "x_s1.wav").read_bytes() == before
    predict_folder(Gains(0.1, 0.2), tmp_path / "x.wav", tmp_path / "out", overwrite=True, **OPTIONS)
    assert np.abs(read(tmp_path / "out" / "x_s1.wav")[0]).max() < 0.05


def test_half_of_the_outputs_is_not_skipped(tmp_path):
    write(tmp_path / "x.wav", tone(5000))
    predict_folder(Gains(1.0, 0.5), tmp_path / "x.wav", tmp_path / "out", **OPTIONS)
    (tmp_path / "out" / "x_s2.wav").unlink()
    predict_folder(Gains(1.0, 0.5), tmp_path / "x.wav", tmp_path / "out", **OPTIONS)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_inputs_are_never_overwritten(tmp_path):
    path = write(tmp_path / "x.wav", tone(5000))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="would be overwritten"):
        predict_folder(Gains(1.0), path, tmp_path, overwrite=True, **OPTIONS)
    with pytest.raises(ValueError, match="is the input folder"):
        predict_folder(Gains(1.0, 1.0), tmp_path, tmp_path, overwrite=True, **OPTIONS)
    assert path.read_bytes() == before


def test_output_inside_the_input_folder_is_not_read_again(tmp_path):
    write(tmp_path / "x.wav", tone(5000))
    for _ in range(2):
        predict_folder(Gains(1.0), tmp_path, tmp_path / "out", overwrite=True, **OPTIONS)
    jobs, failed = plan_jobs(tmp_path, tmp_path / "out", lambda folder, stem: (folder / f"{stem}.wav",))
    assert ([job.name for job in jobs], failed) == (["x.wav"], {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": "missing"}, "no such file or folder"),
        ({"input": "."}, "holds no audio files"),
        ({"channels": "stereo"}, "choose one of mono, each"),
        ({"chunk_s": 0.1, "overlap_s": 0.1}, "half a chunk"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_arguments_are_refused_at_once(tmp_path, options, message):
    write(tmp_path / "one" / "x.wav", tone(500))
    (tmp_path / "none").mkdir()
    arguments = {"input": "one", **OPTIONS, **options}
    folder = tmp_path / ("none" if arguments["input"] == "." else arguments["input"])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        predict_folder(Gains(1.0), **{**arguments, "input": folder}, output=tmp_path / "out")


@pytest.mark.slow
def test_an_hour_of_audio_takes_little_memory(tmp_path):
    import resource

    with soundfile.SoundFile(tmp_path / "hour.flac", "w", 16000, 1) as file:
        block = tone(16000, 16000)
        for _ in range(3600):
            file.write(block)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predict_folder(Gains(1.0, 0.5), tmp_path / "hour.flac", tmp_path / "out", chunk_s=10, overlap_s=2, batch_size=4)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert soundfile.info(tmp_path / "out" / "hour_s2.wav").frames == 3600 * 16000
    assert grown_mib < 100  # the file alone has 220 MiB as float32


def separation_task(causal):
    net = ConvTasNet(
        n_sources=2,
        n_filters=16,
        bottleneck_channels=8,
        hidden_channels=16,
        n_blocks=3,
        n_repeats=2,
        norm="cLN",
        causal=causal,
    )
    return SeparationTask(net, PermutationInvariant(SISDRLoss()), optimizer=torch.optim.Adam, sample_rate=8000)


def test_streaming_equals_the_network_on_the_whole_file(tmp_path):
    torch.manual_seed(0)
    task, n_samples = separation_task(causal=True), 150_001  # two blocks and a bit
    frames = tone(n_samples, n_channels=2)
    write(tmp_path / "in" / "a.flac", frames)
    options = {**OPTIONS, "streaming": True, "channels": "each"}
    assert predict_folder(task, tmp_path / "in", tmp_path / "out", **options) == {}
    expected = task.predict_waveform(torch.from_numpy(read(tmp_path / "in" / "a.flac")[0].T.copy()))
    for k in range(2):
        found, _ = read(tmp_path / "out" / f"a_s{k + 1}.wav")
        np.testing.assert_allclose(found.T, expected[:, k].numpy(), atol=1e-5)


def test_streaming_needs_a_causal_network(tmp_path):
    write(tmp_path / "in" / "a.wav", tone(800))
    with pytest.raises(ValueError, match="ConvTasNet is not causal as it is configured; leave streaming=false"):
        predict_folder(separation_task(causal=False), tmp_path / "in", tmp_path / "out", streaming=True, **OPTIONS)
