"""Log-mel spectrograms against torchaudio's, and under everything that a batch may hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.nn.frontends.mel import FLOAT32_EPS, LogMel, hz_to_mel, mel_to_hz

install_torchaudio_standin()
torchaudio = pytest.importorskip("torchaudio")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("options", [{}, {"n_fft": 512, "hop_samples": 128, "n_bins": 64, "f_min_hz": 0.0}])
def test_torchaudio(options):
    front_end = LogMel(**options)
    reference = torchaudio.transforms.MelSpectrogram(
        16000,
        front_end.n_fft,
        hop_length=front_end.hop_samples,
        n_mels=front_end.n_bins,
        f_min=options.get("f_min_hz", 50.0),
        f_max=8000,
    )
    waveform = noise(2, 32000)
    expected = (reference(waveform) + FLOAT32_EPS).log().transpose(1, 2)[:, :-1]
    found = front_end(waveform)
    assert found.shape == (2, 1, 32000 // front_end.hop_samples, front_end.n_bins)
    torch.testing.assert_close(found[:, 0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", ["htk", "kaldi", "slaney"])
def test_scales_are_inverted(scale):
    frequency_hz = np.array([0.0, 20.0, 999.0, 1000.0, 1001.0, 8000.0])
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(frequency_hz, scale), scale), frequency_hz, atol=1e-9)
    assert hz_to_mel(1000.0, scale) == pytest.approx(15.0 if scale == "slaney" else 1000.0, abs=0.02)


def test_impossible_range():
    with pytest.raises(ValueError, match="f_max_hz=9000"):
        LogMel(f_max_hz=9000.0)


@pytest.mark.slow
def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    front_end, path = LogMel().eval(), tmp_path / "log_mel.onnx"
    time = {1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(front_end, (noise(1, 16000),), dynamo=True, dynamic_shapes=(time,), verbose=False).save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for waveform in (noise(1, 16000), noise(1, 7777), noise(1, 16000) * 1e-4, torch.zeros(1, 8000)):
        (found,) = session.run(None, {session.get_inputs()[0].name: waveform.numpy()})
        assert np.abs(found - front_end(waveform).numpy()).max() < 1e-4
