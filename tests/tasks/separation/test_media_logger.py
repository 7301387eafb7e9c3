"""Audio and spectrograms of validation items, in TensorBoard and as files."""

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from hydraudio.core.callbacks.media_logger import MediaLogger, spectrogram_image
from hydraudio.core.task import Task
from hydraudio.tasks.separation.spec import SPEC

RATE_HZ = 8000
LENGTHS = [4000, 3000, 4000, 3500, 4000]


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        target = 0.1 * torch.randn(2, 4000, generator=generator)
        target[:, LENGTHS[index] :] = 0
        return {
            "mixture": target.sum(0),
            "target": target,
            "lengths": LENGTHS[index],
            "id": f"{index}.wav",
            "variant": "SER",
        }


class Tiny(Task):
    """Its estimate of both sources is the mixture, 30 times too loud."""

    spec = SPEC

    def __init__(self):
        super().__init__(torch.nn.Linear(1, 1), torch.optim.SGD, sample_rate=RATE_HZ)

    def training_step(self, batch):
        return self.net.weight.square().sum()

    def validation_step(self, batch):
        pass

    def evaluate_batch(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        return {"estimate": batch["mixture"][:, None].repeat(1, 2, 1) * torch.tensor([30.0, 15.0])[:, None]}


def fit(folder, logger, **options):
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=logger,
        callbacks=[MediaLogger(str(folder), n_items=3, **options)],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(Items(), batch_size=2)
    trainer.fit(Tiny(), loader, loader)


def test_files_are_written_where_no_logger_takes_audio(tmp_path):
    fit(tmp_path, False, every_n_epochs=2)
    files = sorted(str(path.relative_to(tmp_path / "audio")) for path in (tmp_path / "audio").rglob("*.wav"))
    items = [f"{index}_SER" for index in range(3)]
    expected = [f"{item}_{name}.wav" for item in items for name in ("mixture", "s1_target", "s2_target")]
    for epoch in (0, 2):
        expected += [f"epoch_{epoch:04d}/{item}_s{k}_estimate.wav" for item in items for k in (1, 2)]
    assert files == sorted(expected)
    item = Items()[1]
    mixture, rate_hz = soundfile.read(tmp_path / "audio" / "1_SER_mixture.wav", dtype="float32")
    assert (rate_hz, len(mixture)) == (RATE_HZ, LENGTHS[1])
    np.testing.assert_allclose(mixture, item["mixture"][: LENGTHS[1]], atol=1e-4)
    first, _ = soundfile.read(tmp_path / "audio" / "epoch_0002" / "1_SER_s1_estimate.wav", dtype="float32")
    second, _ = soundfile.read(tmp_path / "audio" / "epoch_0002" / "1_SER_s2_estimate.wav", dtype="float32")
    np.testing.assert_allclose(first, mixture, atol=1e-4)  # the mixture's peak
    np.testing.assert_allclose(second, mixture / 2, atol=1e-4)  # one gain for both


def test_tensorboard_gets_audio_and_spectrograms(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(tmp_path, TensorBoardLogger(tmp_path, name="", version=""))
    events = event_accumulator.EventAccumulator(str(tmp_path), size_guidance={"audio": 0, "images": 0}).Reload()
    tags = events.Tags()
    assert len(tags["audio"]) == len(tags["images"]) == 3 * 5
    assert [event.step for event in events.Audio("audio/2_SER/s2_estimate")] == [3, 6, 9]
    assert [event.step for event in events.Audio("audio/2_SER/mixture")] == [3]
    audio = events.Audio("audio/1_SER/mixture")[0]
    assert audio.sample_rate == RATE_HZ
    assert audio.length_frames == LENGTHS[1]
    assert [event.step for event in events.Images("spectrogram/0_SER/s1_estimate")] == [3, 6, 9]
    assert not (tmp_path / "audio").exists()


def test_spectrogram_shows_a_tone_at_its_frequency():
    time_s = torch.arange(8000) / RATE_HZ
    image = spectrogram_image(0.01 * torch.sin(2 * torch.pi * 1000 * time_s), RATE_HZ)
    assert image.shape == (1, 129, 8000 // 27 + 1)  # a hop of 27 samples gives at most 300 columns
    assert torch.all(image[0].argmax(0) == 129 - 1 - 1000 * 256 // RATE_HZ)  # low frequencies are at the bottom
    assert image.max() == 1
    assert image.min() == 0


def test_silence_and_short_waveforms_have_a_spectrogram():
    assert spectrogram_image(torch.zeros(100), RATE_HZ).isfinite().all()


@pytest.mark.parametrize("options", [{"n_items": 0}, {"every_n_epochs": 0}])
def test_wrong_arguments_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="at least 1"):
        MediaLogger(str(tmp_path), **options)
