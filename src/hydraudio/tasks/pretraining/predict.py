"""Embeddings of audio files of any length, as .npy files beside which a table lists them.

A file is read, mixed to mono, resampled and encoded in windows of the encoder's grid, like the clips of a test.
``<stem>.npy`` holds (channels,) float32, ``<stem>.steps.npy`` (steps, channels) float32 where it is wanted, and
``embeddings.csv`` a row per file: ``file``, ``embedding`` (the file that holds it) and ``channels``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hydraudio.audio.files import FilePredictor, Job, OnProgress, read_blocks
from hydraudio.audio.io import open_audio
from hydraudio.core.files import csv_text, inert_cell, whole_file, write_text

if TYPE_CHECKING:
    from hydraudio.tasks.pretraining.encoding import EncoderTask
    from hydraudio.tasks.pretraining.networks.encoder import Pooling
    from hydraudio.tasks.pretraining.task import MAETask

TABLE = "embeddings.csv"


class EmbeddingPredictor(FilePredictor["MAETask"]):
    """Embeds a file, or every audio file below a folder.

    Args:
        steps: also write the embedding of every time step.
        batch_size: windows of a file that go through the network together.
    """

    def __init__(self, steps: bool = False, batch_size: int = 16) -> None:
        super().__init__(batch_size)
        self.steps = steps

    def targets(self, task: MAETask, folder: Path, stem: str) -> tuple[Path, ...]:
        steps = (folder / f"{stem}.steps.npy",) if self.steps else ()
        return (*steps, folder / f"{stem}.npy")

    def process(self, task: MAETask, job: Job, on_progress: OnProgress) -> None:
        embedding, steps = embed_recording(task, read_recording(task, job, on_progress), task.pooling, self.batch_size)
        if self.steps:
            _save(job.targets[0], steps)
        _save(job.targets[-1], embedding)

    def summarise(self, task: MAETask, jobs: list[Job], output: Path) -> dict[Path, str]:
        """Writes the table, also of results that were there already."""
        rows, failed = [], {}
        for job in jobs:
            try:
                shape = np.load(job.targets[-1], mmap_mode="r", allow_pickle=False).shape
            except (ValueError, OSError) as error:
                failed[job.source] = f"{job.targets[-1]}: not a result of this program ({error}); say overwrite=true"
                continue
            rows.append([inert_cell(job.name), inert_cell(job.targets[-1].relative_to(output).as_posix()), shape[0]])
        write_text(output / TABLE, csv_text(["file", "embedding", "channels"], rows))
        return failed


def read_recording(task: EncoderTask, job: Job, on_progress: OnProgress) -> torch.Tensor:
    """Read a file as (1, time) float32 at the sample rate of the task, on its device.

    Raises:
        ValueError: it holds no sample.
    """
    with open_audio(job.source) as file:
        blocks = list(read_blocks(file, on_progress, mono=True, sample_rate=task.sample_rate))
    if not sum(block.shape[1] for block in blocks):
        raise ValueError(f"holds less than one sample at {task.sample_rate} Hz")
    return torch.from_numpy(np.concatenate(blocks, axis=1)).to(task.device)


@torch.inference_mode()
def embed_recording(
    task: EncoderTask, waveform: torch.Tensor, pooling: Pooling, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed a recording of any length, a few windows at a time.

    Args:
        task: in evaluation mode.
        waveform: (1, time) at the sample rate of the task, on its device.
        pooling: of the whole.
        batch_size: windows that go through the network together.

    Returns:
        (channels,), what the task predicts of the whole; (steps, channels), of each time step: step i begins at frame
        i times the frames of a patch, and bands stand side by side.
    """
    spectrogram, grid = task.spectrogram(waveform), task.net.encoder.grid
    parts = spectrogram.split(batch_size * grid.n_frames, dim=2)
    steps = [task.net.encoder.embed_steps(part)[0] for part in parts]
    weights = torch.tensor([len(part) for part in steps], device=spectrogram.device) / sum(map(len, steps))
    whole = torch.cat([task.net.encoder.embed(part, pooling) for part in parts])
    return weights @ whole, torch.cat(steps)


def _save(path: Path, values: torch.Tensor) -> None:
    with whole_file(path) as file:
        np.save(file, values.float().cpu().numpy())
