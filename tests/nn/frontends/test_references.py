"""Front-ends against Kaldi's features by two packages, and against librosa's pictures.

`references.json` holds numbers of packages that the tests do not need: kaldi-native-fbank 1.23.0 (Hann window, 126 bins
from 20 Hz, no dither; it refuses 128), and librosa 0.11.0 with Pillow 13.0.0 (mel spectrogram of 128 bins in dB, scaled
to [0, 1], resized to 224 x 224 in floating point) at some places of the picture.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.nn.frontends.kaldi import KaldiFbank
from hydraudio.nn.frontends.librosa_db import IMAGENET_MEAN, IMAGENET_STD, LibrosaDb
from hydraudio.nn.frontends.mel import FLOAT32_EPS
from hydraudio.nn.frontends.standardize import Standardize, Statistics

REFERENCES = json.loads((Path(__file__).parent / "references.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def torchaudio_kaldi():
    install_torchaudio_standin()
    return pytest.importorskip("torchaudio.compliance.kaldi")


def noise_and_tone() -> np.ndarray:
    time_s = np.arange(16000) / 16000
    noise = 0.1 * np.random.default_rng(8).standard_normal(16000)
    return (noise + 0.2 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)


def sweep_and_noise() -> np.ndarray:
    time_s = np.arange(5 * 22050) / 22050
    noise = np.random.default_rng(7).standard_normal(len(time_s))
    sweep = np.sin(2 * np.pi * (300 + 200 * time_s) * time_s)
    return (0.3 * sweep * (time_s < 3) + 0.05 * noise * (time_s > 1)).astype(np.float32)


@pytest.mark.parametrize("n_bins", [126, 128, 80])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_torchaudio(torchaudio_kaldi, n_bins, offset):
    waveform = torch.from_numpy(noise_and_tone())[None] + offset
    waveform[0, 8000:] *= 1e-3
    expected = torchaudio_kaldi.fbank(
        waveform, htk_compat=True, sample_frequency=16000, use_energy=False, window_type="hanning", num_mel_bins=n_bins
    )
    found = KaldiFbank(n_bins=n_bins)(waveform)[0, 0]
    assert found.shape == expected.shape == (98, n_bins)
    assert (found - expected).abs().max() < 1e-3


def test_kaldi_native_fbank():
    reference = REFERENCES["kaldi_native_fbank"]
    found = KaldiFbank(n_bins=126)(torch.from_numpy(noise_and_tone())[None])[0, 0, reference["rows"]]
    assert (found - torch.tensor(reference["values"])).abs().max() < 1e-3


def test_an_empty_bin_stays_at_the_floor_and_out_of_the_statistics():
    features = KaldiFbank()(torch.randn(4, 16000, generator=torch.Generator().manual_seed(0)))
    assert (features[..., 3] == torch.tensor(FLOAT32_EPS).log()).all()
    statistics = Statistics()
    statistics.add(features)
    standardize = Standardize("corpus", n_bins=128, per_bin=True)
    standardize.fit(statistics)
    found = standardize(features)
    assert (found[..., 3] == 0).all()
    deviations = found.std((0, 1, 2), correction=0)
    assert (deviations[[k for k in range(128) if k != 3]] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["five", "long", "short"])
def test_librosa(name):
    five = sweep_and_noise()
    waveform = {"five": five, "long": np.tile(five, 3), "short": five[:9000]}[name]
    places = REFERENCES["librosa"]["places"]
    expected = torch.tensor(REFERENCES["librosa"][name])
    found = LibrosaDb(n_channels=1)(torch.from_numpy(waveform)[None])[0, 0][places][:, places]
    assert (found - expected).abs().max() < 2e-3  # of the 80 dB: 0.16 dB
    pictures = LibrosaDb()(torch.from_numpy(waveform)[None])[0]
    for picture, mean, std in zip(pictures, IMAGENET_MEAN, IMAGENET_STD, strict=True):
        torch.testing.assert_close(picture[places][:, places] * std + mean, found, atol=1e-5, rtol=0)
