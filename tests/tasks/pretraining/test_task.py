"""Masked-autoencoder pretraining: statistics, crops, seeded masks, scores, embeddings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.tasks.pretraining.encoding import crops, tiled
from hydraudio.tasks.pretraining.predict import EmbeddingPredictor, embed_recording
from hydraudio.tasks.pretraining.reconstruction import reconstruct, stacked
from hydraudio.tasks.pretraining.task import MAETask
from hydraudio.testing import assert_predicts, compose, make_data, make_task, noise


@pytest.fixture
def configured(esc50_root, tmp_path, monkeypatch, repository):
    """The quick experiment on a tiny corpus, with further overrides."""
    monkeypatch.chdir(repository)

    def make(*overrides: str):
        given = [f"data.root={esc50_root}", "data.num_workers=0", f"paths.data_dir={tmp_path}", *overrides]
        return compose(["experiment=pretraining/esc50_quick", *given], tmp_path)

    return make


@pytest.fixture
def task(configured) -> MAETask:
    return make_task(configured())


@pytest.fixture
def batch(configured) -> dict:
    data = make_data(configured(), eval_batch_size=4)
    data.prepare_data()
    data.setup("validate")
    return next(iter(data.val_dataloader()))


def counting(n_frames: int, *lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms whose values are the numbers of their frames, padded with -1."""
    spectrogram = torch.arange(n_frames).float()[None, None, :, None].expand(len(lengths), 1, -1, 3).clone()
    for item, length in enumerate(lengths):
        spectrogram[item, :, length:] = -1
    return spectrogram, torch.tensor(lengths)


def test_a_crop_is_a_run_of_frames_inside_the_item():
    spectrogram, counts = counting(30, 30, 12, 10)
    found = crops(spectrogram, 10, counts, torch.Generator().manual_seed(0))[:, 0, :, 0]
    assert found.shape == (3, 10)
    assert (found.diff(dim=1) == 1).all()
    assert (found[2] == torch.arange(10)).all()
    assert found[1].max() < 12


def test_every_place_of_a_crop_is_drawn():
    spectrogram, _ = counting(12, *[12] * 300)
    starts = crops(spectrogram, 10, None, torch.Generator().manual_seed(0))[:, 0, 0, 0]
    assert sorted(set(starts.tolist())) == [0, 1, 2]
    assert torch.bincount(starts.long()).min() > 60


def test_a_short_item_is_repeated_from_the_drawn_place_on():
    spectrogram, counts = counting(10, 4)
    found = crops(spectrogram, 9, counts, torch.Generator().manual_seed(0))[0, 0, :, 0]
    assert (found.diff() % 4 == 1).all()
    assert set(found.tolist()) == {0, 1, 2, 3}


def test_tiling_repeats_the_whole():
    spectrogram, _ = counting(4, 4)
    assert tiled(spectrogram[0], 10)[0, :, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert tiled(spectrogram[0], 3).shape[1] == 4


def test_windows_are_those_of_each_clip_alone(task, batch):
    batch = {**batch, "lengths": batch["lengths"].clone()}
    batch["lengths"][1], batch["lengths"][2] = 20000, 70000
    for item in (1, 2):
        batch["waveform"][item, batch["lengths"][item] :] = 0.3  # what lies behind a clip does not matter
    windows, owners = task.windows(batch)
    assert owners.tolist() == [0, 0, 1, 2, 2, 3, 3]  # of 5 s, 1.25 s, 4.4 s and 5 s, two seconds each
    alone = {"waveform": batch["waveform"][2:3, :70000], "lengths": batch["lengths"][2:3]}
    assert torch.allclose(windows[owners == 2], task.windows(alone)[0], atol=1e-5)


def test_statistics_are_those_of_the_training_clips_and_are_kept(configured, tmp_path):
    cfg = configured()
    found = []
    for _ in range(2):
        task, data = make_task(cfg), make_data(cfg)
        data.prepare_data()
        data.setup("fit")
        task._trainer = SimpleNamespace(datamodule=data)
        task._fit_statistics()
        found.append(task.spectrogram.standardize)
    frames = torch.cat(
        [
            found[0].undo(one, found[0].moments(one))
            for batch in data.clip_loader("train")
            for one in [task.spectrogram(batch["waveform"])]
        ]
    )
    assert float(found[0].mean) == pytest.approx(float(frames.mean()), abs=1e-3)
    assert float(found[0].std) == pytest.approx(float(frames.std(correction=0)), abs=1e-3)
    assert torch.equal(found[0].std, found[1].std)
    (kept,) = (tmp_path / "cache" / "statistics").glob("*.npy")
    assert np.load(kept).shape == (3, 80)


def test_masks_of_a_test_depend_on_the_clips_alone(task, batch):
    first, again = (task.eval().evaluate_batch(batch) for _ in range(2))
    assert torch.equal(first["item_loss"], again["item_loss"])
    other = task.evaluate_batch({**batch, "id": ["x", *batch["id"][1:]]})
    assert not torch.equal(first["item_loss"], other["item_loss"])


def test_losses_of_clips_have_the_mean_loss(task, batch):
    found = task.eval().evaluate_batch(batch)
    assert float(found["item_loss"].mean()) == pytest.approx(float(found["loss"]), rel=1e-5)  # all have two windows
    assert int(found["n_windows"]) == 2 * len(batch["id"])


def test_draws_of_steps_are_pure_and_differ(task):
    drawn = {
        numbers: task.generator(*numbers).initial_seed() for numbers in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)]
    }
    assert len(set(drawn.values())) == 4
    assert task.generator(0, 1, 0).initial_seed() == drawn[(0, 1, 0)]


def test_the_learning_rate_grows_with_the_items_of_a_step(configured):
    cfg = configured("model.optimizer.lr=1e-3", "model.reference_batch=256", "data.batch_size=16")
    task = make_task(cfg)
    task._trainer = SimpleNamespace(datamodule=make_data(cfg), world_size=2, accumulate_grad_batches=4)
    assert task.learning_rate() == pytest.approx(1e-3 * 16 * 2 * 4 / 256)
    assert make_task(configured("model.reference_batch=null", "model.optimizer.lr=1e-3")).learning_rate() == 1e-3


def test_vectors_have_no_weight_decay(configured):
    cfg = configured("model.reference_batch=null")
    task = make_task(cfg)
    decayed, exempt = task.optimizer_groups()
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in exempt["params"])
    assert exempt["weight_decay"] == 0
    assert len(decayed["params"]) + len(exempt["params"]) == len(list(task.net.parameters()))


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean", "frequency"])
def test_predicts_what_the_specification_says(configured, batch, pooling):
    task = make_task(configured(f"model.pooling={pooling}"))
    assert_predicts(task, batch)
    embedding = task.predict(batch)["embedding"]
    assert embedding.shape[1] == task.net.embedding_dim(pooling)
    assert torch.equal(embedding, task.predict(batch)["embedding"])


def test_an_embedding_does_not_depend_on_the_padding(task, batch):
    lengths = torch.tensor([80000, 50000])
    together = task.eval().predict({"waveform": batch["waveform"][:2], "lengths": lengths})["embedding"][1]
    alone = task.predict_waveform(batch["waveform"][1:2, :50000])["embedding"][0]
    assert torch.allclose(together, alone, atol=1e-4)


def test_what_a_task_logs_is_what_it_names(configured):
    names = make_task(configured()).metric_names("val")
    assert names == [
        f"val/{n}" for n in ("loss", "baseline_loss", "visible_loss", "relative_loss", "rankme", "knn_accuracy")
    ]
    without = make_task(configured("model.probe_every_n_epochs=null"))
    assert "val/rankme" not in without.metric_names("val")
    assert "test/knn_accuracy" in without.metric_names("test")


def test_wrong_options_are_answered(configured):
    with pytest.raises(Exception, match="probe_items=0"):
        make_task(configured("model.probe_items=0"))
    with pytest.raises(Exception, match="pooling=cls"):
        make_task(configured("model.pooling=cls", "model.net.encoder.cls=false"))


def test_a_reconstruction_shows_the_input_where_it_was_seen(task, batch):
    found = reconstruct(task.eval(), batch, 0)
    hidden = np.isnan(found.masked)
    assert hidden.mean() == pytest.approx(0.8)
    assert np.array_equal(found.composite[~hidden], found.input[~hidden])
    assert np.array_equal(found.composite[hidden], found.prediction[hidden])
    frontend = task.spectrogram.frontend
    whole = frontend(batch["waveform"][:1, : int(batch["lengths"][0])])[0, 0]
    assert np.allclose(found.input, whole[:200].numpy(), atol=1e-4)
    assert set(found.sounds) == {"input", "prediction", "composite"}
    assert all(np.abs(sound).max() <= 1 for sound in found.sounds.values())
    image = stacked(found)
    assert image.shape == (1, 4 * 80 + 3 * 2, 200)
    assert 0 <= image.min() <= image.max() <= 1


def test_a_normalised_target_is_shown_in_the_units_of_the_input(configured, batch):
    task = make_task(configured("model.net.target=patch_normalized")).eval()
    found = reconstruct(task, batch, 0)
    patches = found.input.reshape(25, 8, 5, 16)
    guess = found.prediction.reshape(25, 8, 5, 16)
    # an untrained decoder gives about nothing, which stands for the mean of each patch
    assert np.abs(guess.mean((1, 3)) - patches.mean((1, 3))).mean() < 0.5 * np.abs(patches.mean((1, 3))).std()


def test_sound_of_the_front_end_is_the_sound_again(task):
    time_s = torch.arange(32000) / 16000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * time_s)[None]
    frontend = task.spectrogram.frontend
    heard = frontend.invert(frontend(tone))[0]
    assert heard.shape == (32000,)
    spectrum = torch.fft.rfft(heard * torch.hann_window(32000)).abs()
    assert abs(int(spectrum.argmax()) / 2 - 440) < 20
    assert float(heard[4000:-4000].square().mean().sqrt()) == pytest.approx(0.3 / 2**0.5, rel=0.3)


def test_a_long_recording_is_embedded_in_parts(task):
    waveform = noise(1, 16000 * 7 + 123, amplitude=0.1)
    whole, steps = embed_recording(task.eval(), waveform, task.pooling, batch_size=1)
    assert torch.allclose(whole, task.predict_waveform(waveform)["embedding"][0], atol=1e-4)
    assert steps.shape == (-(-(waveform.shape[1] // 160) // 8), 5 * 96)
    again, _ = embed_recording(task, waveform, task.pooling, batch_size=16)
    assert torch.allclose(whole, again, atol=1e-5)


def test_files_get_embeddings_and_a_table(task, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    soundfile.write(folder / "stereo.wav", 0.1 * rng.standard_normal((100000, 2)), 44100)
    soundfile.write(folder / "short.flac", 0.1 * rng.standard_normal(300), 8000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    failed = EmbeddingPredictor(steps=True).run(task, folder, tmp_path / "out")
    assert [path.name for path in failed] == ["broken.wav"]
    assert np.load(tmp_path / "out" / "stereo.npy").shape == (480,)
    assert np.load(tmp_path / "out" / "stereo.steps.npy").shape[1] == 5 * 96
    assert np.isfinite(np.load(tmp_path / "out" / "short.npy")).all()
    assert (tmp_path / "out" / "embeddings.csv").read_text().splitlines() == [
        "file,embedding,channels",
        "short.flac,short.npy,480",
        "stereo.wav,stereo.npy,480",
    ]
