"""STFT and iSTFT: against torch's, short signals, padded batches, precision, gradients."""

import pytest
import torch
from torch import Tensor

from hydraudio.nn.frontends.stft import check_stft, istft, root_mean_square, stft

SIZES = [(16, 4), (16, 8), (18, 5), (256, 64)]


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def torch_stft(waveform: Tensor, n_fft: int, hop: int) -> Tensor:
    window = torch.hann_window(n_fft, dtype=waveform.dtype)
    spectrum = torch.stft(waveform, n_fft, hop, window=window, center=True, pad_mode="reflect", return_complex=True)
    return torch.view_as_real(spectrum).permute(0, 3, 2, 1)


def torch_istft(spectrum: Tensor, n_samples: int, n_fft: int, hop: int) -> Tensor:
    window = torch.hann_window(n_fft, dtype=spectrum.dtype)
    spectra = torch.complex(*spectrum.flatten(0, 1).unbind(1)).transpose(1, 2)
    return torch.istft(spectra, n_fft, hop, window=window, length=n_samples).unflatten(0, spectrum.shape[:2])


def naive_spectrum(waveform: list[float], n_fft: int, hop: int) -> Tensor:
    """One item by the definition: walk back and forth over the samples, multiply, sum."""
    n_samples = len(waveform)

    def sample(position: int) -> float:
        index, step = 0, 1 if position > 0 else -1
        direction = step
        for _ in range(abs(position)):
            if n_samples == 1:
                break
            if not 0 <= index + direction < n_samples:
                direction = -direction
            index += direction
        return waveform[index]

    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    frames = []
    for frame in range(n_samples // hop + 1):
        total = torch.zeros(n_fft // 2 + 1, dtype=torch.complex128)
        for k in range(n_fft):
            window = 0.5 - 0.5 * torch.cos(torch.tensor(2 * torch.pi * k / n_fft, dtype=torch.float64))
            total += sample(frame * hop + k - n_fft // 2) * window * torch.exp(-2j * torch.pi * k * bins / n_fft)
        frames.append(total)
    return torch.view_as_real(torch.stack(frames)).permute(2, 0, 1)


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@pytest.mark.parametrize("n_samples", [300, 301, 319])
def test_stft_equals_torch(n_fft: int, hop: int, n_samples: int) -> None:
    waveform = noise(3, n_samples)
    torch.testing.assert_close(stft(waveform, n_fft, hop), torch_stft(waveform, n_fft, hop))


@pytest.mark.parametrize("n_samples", [1, 2, 3, 5, 8, 9, 17])
def test_stft_of_short_signals_by_the_definition(n_samples: int) -> None:
    waveform = noise(1, n_samples)
    expected = naive_spectrum(waveform[0].tolist(), 16, 4)
    torch.testing.assert_close(stft(waveform, 16, 4)[0], expected)


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@pytest.mark.parametrize("n_samples", [300, 301, 319])
def test_istft_equals_torch(n_fft: int, hop: int, n_samples: int) -> None:
    spectrum = noise(2, 3, 2, n_samples // hop + 1, n_fft // 2 + 1)
    expected = torch_istft(spectrum, n_samples, n_fft, hop)
    torch.testing.assert_close(istft(spectrum, n_samples, n_fft, hop), expected)


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@pytest.mark.parametrize("n_samples", [1, 2, 7, 8, 9, 100, 303])
def test_inverse_restores_the_signal(n_fft: int, hop: int, n_samples: int) -> None:
    waveform = noise(2, n_samples)
    spectrum = stft(waveform, n_fft, hop)
    torch.testing.assert_close(istft(spectrum.unsqueeze(1), n_samples, n_fft, hop)[:, 0], waveform)


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
def test_padded_items_equal_single_items(n_fft: int, hop: int) -> None:
    lengths = torch.tensor([1, 5, 64, 150, 199, 200])
    waveform = noise(6, 200)  # what lies beyond an item's length is not silent, and must not matter
    spectrum = stft(waveform, n_fft, hop, lengths)
    estimate = noise(6, 2, *spectrum.shape[1:], seed=2)
    result = istft(estimate, 200, n_fft, hop, lengths)
    for i, n in enumerate(lengths.tolist()):
        n_frames = n // hop + 1
        torch.testing.assert_close(spectrum[i, :, :n_frames], stft(waveform[i : i + 1, :n], n_fft, hop)[0])
        assert not spectrum[i, :, n_frames:].any()
        alone = istft(estimate[i : i + 1, ..., :n_frames, :], n, n_fft, hop)
        torch.testing.assert_close(result[i, :, :n], alone[0])
        assert not result[i, :, n:].any()


def test_gradients() -> None:
    def both(waveform: Tensor) -> Tensor:
        spectrum = stft(waveform, 8, 3, lengths)
        return istft((spectrum * factor).unsqueeze(1), 13, 8, 3, lengths)

    lengths, factor = torch.tensor([13, 4]), noise(2, 2, 5, 5, seed=3)
    assert torch.autograd.gradcheck(both, (noise(2, 13).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_full_precision_under_autocast(dtype: torch.dtype) -> None:
    waveform = noise(2, 400, dtype=torch.float32)
    spectrum = stft(waveform, 16, 4)
    expected = istft(spectrum.unsqueeze(1), 400, 16, 4)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(stft(waveform, 16, 4), spectrum)
        assert torch.equal(istft(spectrum.unsqueeze(1), 400, 16, 4), expected)
    assert istft(spectrum.unsqueeze(1).to(dtype), 400, 16, 4).dtype == torch.float32


def test_root_mean_square() -> None:
    waveform = torch.tensor([[3.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    torch.testing.assert_close(root_mean_square(waveform), torch.tensor([[2.5], [1.0], [0.0]]))
    level = root_mean_square(waveform, torch.tensor([2, 4, 1]))
    torch.testing.assert_close(level, torch.tensor([[12.5**0.5], [1.0], [0.0]]))
    level.sum().backward()
    assert waveform.grad.isfinite().all()
    assert torch.equal(waveform.grad[2], torch.zeros(4))


@pytest.mark.parametrize(
    ("n_fft", "hop", "message"),
    [(15, 4, "n_fft=15 must be even"), (0, 1, "n_fft=0"), (16, 9, "hop=9 must be between 1 and"), (16, 0, "hop=0")],
)
def test_impossible_windows(n_fft: int, hop: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_stft(n_fft, hop)
