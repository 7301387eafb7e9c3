"""Sound and pictures, read back by other decoders."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from hydraudio.audio.spectrogram import log_spectrogram_db
from hydraudio.report import media


def test_wav_keeps_samples_within_half_a_step_and_clips_beyond_full_scale() -> None:
    waveform = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    waveform[:2] = [1.5, -1.5]
    decoded, sample_rate = soundfile.read(io.BytesIO(media.wav_bytes(waveform, 8000)), dtype="int16")
    assert sample_rate == 8000
    assert list(decoded[:2]) == [32767, -32768]
    np.testing.assert_allclose(decoded[2:] / 32768, waveform[2:], atol=0.51 / 32768)


def test_data_uri_decodes_to_its_content() -> None:
    address = media.data_uri(b"\x00\xffabc", "audio/wav")
    assert address.startswith("data:audio/wav;base64,")
    assert base64.b64decode(address.split(",")[1]) == b"\x00\xffabc"


def test_the_loudest_bin_is_the_brightest_and_low_frequencies_are_at_the_bottom() -> None:
    spectrogram = np.full((7, 13), -50.0)
    spectrogram[0, 4] = 0.0
    spectrogram[6, 9] = -90.0
    image = np.asarray(Image.open(io.BytesIO(media.spectrogram_png(spectrogram, top_db=0.0))).convert("L"))
    assert image.shape == (7, 13)
    assert np.unravel_index(image.argmax(), image.shape) == (6, 4)
    assert np.unravel_index(image.argmin(), image.shape) == (0, 9)


def test_signals_share_the_scale_of_the_loudest() -> None:
    noise = 0.05 * np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    loud, soft = media.signals(
        [("A b", noise), ("c", 0.1 * noise)], 8000, address=lambda name, wav: f"{name}:{len(wav)}"
    )
    assert (loud.sound, loud.duration_s, loud.top_khz) == ("a_b:16044", 1.0, 4.0)
    brightest = [indices(signal.spectrogram).max() for signal in (loud, soft)]
    assert brightest[0] == 255
    assert brightest[1] == pytest.approx(255 - 255 * 20 / media.RANGE_DB, abs=1.5)


def indices(address: str) -> np.ndarray:
    """Palette entries of a picture in a page."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def test_a_full_scale_sine_is_at_0_db_in_its_bin() -> None:
    time_s = np.arange(16000) / 8000
    spectrogram_db = log_spectrogram_db(np.sin(2 * np.pi * 1000 * time_s), 8000, n_columns=200)
    middle = spectrogram_db[:, spectrogram_db.shape[1] // 2]
    assert np.argmax(middle) * 8000 / 256 == 1000
    assert middle.max() == pytest.approx(0.0, abs=0.05)
    assert abs(spectrogram_db.shape[1] - 200) <= 1


@pytest.mark.parametrize("n_samples", [1, 5, 300, 200_000])
def test_pictures_of_any_length(n_samples: int) -> None:
    waveform = np.random.default_rng(2).uniform(-1, 1, n_samples).astype(np.float32)
    png = media.spectrogram_png(log_spectrogram_db(waveform, 8000), top_db=0.0)
    assert Image.open(io.BytesIO(png)).width <= 300
    assert Image.open(io.BytesIO(media.wave_png(waveform))).width == min(n_samples, 480)


def test_the_waveform_shows_its_loudest_place() -> None:
    waveform = np.zeros(1000, np.float32)
    waveform[500] = 1.0
    opaque = np.asarray(Image.open(io.BytesIO(media.wave_png(waveform, n_columns=100))).convert("RGBA"))[..., 3] > 0
    assert opaque[: len(opaque) // 2].any(axis=0).nonzero()[0].tolist() == [50]
    assert opaque[0, 50]
    assert opaque[len(opaque) // 2].all()


def test_packed_waveforms_keep_their_level_and_16_bits() -> None:
    waveform = np.random.default_rng(3).normal(0, 40, (2, 500)).astype(np.float32)
    packed = media.Packed.of(waveform)
    assert packed.samples.nbytes == waveform.nbytes / 2
    np.testing.assert_allclose(packed.waveform, waveform, atol=np.abs(waveform).max() / 60_000)
    assert not media.Packed.of(np.array([0.0, np.nan])).waveform.any()


def test_gains() -> None:
    loud, soft = np.array([0.0, -2.0]), np.array([0.5, 0.1])
    assert media.common_gain([loud, soft]) == pytest.approx(media.PEAK / 2)
    assert media.common_gain([np.zeros(3)]) == 1.0
    assert media.level_gain(soft, 3 * soft) == pytest.approx(3.0)
    assert media.level_gain(np.zeros(2), soft) == 1.0
