"""The spectrogram that reports, listening pages and loggers show."""

import numpy as np
import scipy.signal


def log_spectrogram_db(waveform: np.ndarray, sample_rate: int, n_columns: int = 300) -> np.ndarray:
    """Compute the magnitude spectrogram in dB re a full-scale sine, (frequency, time), lowest frequency first.

    Hann window of at least 32 ms (a power of two of samples); the hop follows from the wanted number of
    columns and is at most half a window.
    """
    n_fft = 2 ** int(np.ceil(np.log2(0.032 * sample_rate)))
    hop = int(np.clip(np.ceil(len(waveform) / n_columns), 1, n_fft // 2))
    padded = np.pad(waveform.astype(np.float32), n_fft // 2)
    window = scipy.signal.get_window("hann", n_fft).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)).T * (2 / window.sum())
    return 20 * np.log10(magnitude + 1e-9)
