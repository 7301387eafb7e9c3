"""Clips per second from files to log-mel of crops: python scripts/pretraining/benchmark_data.py [--device cuda]

Compares, in one run and on a generated ESC-50 (5 s at 44.1 kHz), ways to a crop of 2 s at 16 kHz as (200, 80) log-mel:
each clip decoded, resampled and transformed as a whole, then cut, as loaders with a transform per item do it, with
three resamplers; our clips without and with a pack, transformed in batches on the device. One process, one thread of
the CPU; files are in the page cache. On the CPU the time is that of the process. The last line is what is left for the
CPU where an accelerator transforms.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rootutils
import scipy.signal
import soundfile
import soxr
import torch

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from hydraudio.core.torchaudio_standin import install_torchaudio_standin  # noqa: E402
from hydraudio.nn.frontends.mel import FLOAT32_EPS, LogMel  # noqa: E402
from hydraudio.tasks.pretraining.corpora.dataset import ClipDataset, collate  # noqa: E402
from hydraudio.tasks.pretraining.corpora.esc50 import FILE_RATE, EmbeddedESC50, ESC50DataModule  # noqa: E402

SAMPLE_RATE = 16000
N_FRAMES = 200
BATCH_SIZE = 16

Resample = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="of the batched transform (cpu)")
    parser.add_argument("--repeats", type=int, default=7, help="passes over the corpus per figure (7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = EmbeddedESC50(n_classes=8, n_per_fold=4, n_processes=1)(Path(folder) / "esc50")
        packed, unpacked = (_dataset(root, Path(folder) / "cache", pack) for pack in (True, False))
        ways = _per_item_ways(packed) | {
            "ours without a pack": _batches(unpacked, arguments.device),
            "ours, packed": _batches(packed, arguments.device),
            "the same, batches only": _batches(packed, None),
        }
        Console(width=120).print(_table(ways, len(packed), arguments.repeats, arguments.device))


def _dataset(root: Path, cache: Path, pack: bool) -> ClipDataset:
    data = ESC50DataModule(root=str(root), cache_dir=str(cache), pack=pack)
    data.setup("fit")
    return data.datasets["train"]


def _per_item_ways(dataset: ClipDataset) -> dict[str, Callable[[], object]]:
    ways = {
        "per item, soxr": _per_item(dataset, lambda x: soxr.resample(x, FILE_RATE, SAMPLE_RATE)),
        "per item, scipy's polyphase": _per_item(dataset, lambda x: scipy.signal.resample_poly(x, 160, 441)),
    }
    install_torchaudio_standin()
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError):
        return ways
    ways["per item, torchaudio"] = _per_item(
        dataset, lambda x: resample(torch.from_numpy(x), FILE_RATE, SAMPLE_RATE).numpy()
    )
    return ways


def _per_item(dataset: ClipDataset, resample: Resample) -> Callable[[], object]:
    """Decode, resample and transform each whole clip, then cut the spectrogram."""
    front_end, rng = LogMel(), np.random.default_rng(0)
    window, filters = torch.hann_window(front_end.n_fft), front_end.filters

    def item(path: Path) -> torch.Tensor:
        waveform = torch.from_numpy(resample(soundfile.read(path, dtype="float32")[0]))
        spectrum = torch.stft(
            waveform, front_end.n_fft, front_end.hop_samples, window=window, pad_mode="reflect", return_complex=True
        )
        spectrogram = (spectrum.abs().square().T @ filters + FLOAT32_EPS).log()
        start = int(rng.integers(len(spectrogram) - N_FRAMES))
        return spectrogram[start : start + N_FRAMES]

    def step() -> None:
        for first in range(0, len(dataset), BATCH_SIZE):
            torch.stack([item(clip.path) for clip in dataset.clips[first : first + BATCH_SIZE]])

    return step


def _batches(dataset: ClipDataset, device: str | None) -> Callable[[], object]:
    """Make all batches of an epoch, another epoch with every call; transform them on the device, if there is one."""
    front_end, epochs = LogMel().to(device), iter(range(10**9))

    def step() -> None:
        epoch = next(epochs)
        for first in range(0, len(dataset), BATCH_SIZE):
            numbers = range(first, min(first + BATCH_SIZE, len(dataset)))
            waveform = collate([dataset[epoch, number] for number in numbers])["waveform"]
            if device is not None:
                found = front_end(waveform.to(device))
        if device is not None:
            float(found.sum())  # waits for it

    return step


def _table(ways: dict[str, Callable[[], object]], n_items: int, repeats: int, device: str) -> Table:
    """Interleave the ways, so that a slow moment of the machine meets all of them."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, step in ways.items():
            begin = clock()
            step()
            if repeat:  # the first pass fills the page cache
                seconds[name].append(clock() - begin)
    table = Table("way", "clips/s", "slowest", "fastest", "packed is faster by", title=f"crops to log-mel, {device}")
    packed = statistics.median(seconds["ours, packed"])
    for name, times in seconds.items():
        median = statistics.median(times)
        figures = [n_items / median, n_items / max(times), n_items / min(times)]
        table.add_row(name, *(f"{figure:.0f}" for figure in figures), f"{median / packed:.1f}x")
    return table


if __name__ == "__main__":
    main()
