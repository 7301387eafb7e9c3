"""Sound and pictures, read back by other decoders."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

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


def test_png_is_what_pillow_reads() -> None:
    indices = np.random.default_rng(1).integers(0, 256, (7, 13), dtype=np.uint8)
    image = Image.open(io.BytesIO(media.png_bytes(indices, media.colormap())))
    assert image.size == (13, 7)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), media.colormap()[indices])


def test_colormap_gets_lighter_at_every_step() -> None:
    linear = (media.colormap() / 255.0) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(np.convolve(luminance, np.ones(4) / 4, "valid")) > 0)
    assert luminance[0] < 0.01
    assert luminance[-1] > 0.8


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
    assert ElementTree.fromstring(media.waveform_svg(waveform)).tag == "svg"


def test_the_waveform_shows_its_loudest_place() -> None:
    waveform = np.zeros(1000, np.float32)
    waveform[500] = 1.0
    points = re.findall(r"(\d+),(-?\d+)", media.waveform_svg(waveform, n_columns=100))
    assert min(points, key=lambda point: int(point[1])) == ("50", "2")


def test_gains() -> None:
    loud, soft = np.array([0.0, -2.0]), np.array([0.5, 0.1])
    assert media.common_gain([loud, soft]) == pytest.approx(media.PEAK / 2)
    assert media.common_gain([np.zeros(3)]) == 1.0
    assert media.level_gain(soft, 3 * soft) == pytest.approx(3.0)
    assert media.level_gain(np.zeros(2), soft) == 1.0
