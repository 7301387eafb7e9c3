"""Separation of audio files and folders into WAV files.

Files are streamed, so their length is limited by the disk only. Outputs have the input's sample rate and
exactly its length, and mirror the folder tree: ``<stem>.wav`` for one source, ``<stem>_s1.wav``,
``<stem>_s2.wav`` for several.

Level. Outputs are 32-bit float WAV. Losses that leave the scale open (SI-SDR) train networks whose outputs have any
level and either polarity, so every source is scaled to what of it is in the recording, g = <x, s> / <s, s> over the
whole file (``level: input``). Only when a sample of any source then exceeds 1.0, which a player would clip, all sources
of that file are divided by their common peak, with a warning in the log. An output appears under its name when it is
complete, not before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from hydraudio.audio.files import FilePredictor, Job, OnProgress, read_blocks, resampled
from hydraudio.audio.io import BLOCK_FRAMES, open_audio
from hydraudio.audio.overlap_add import chunk_sizes, separate_blocks
from hydraudio.core.files import whole_path
from hydraudio.core.options import check_choice
from hydraudio.tasks.separation.task import SeparationTask

log = logging.getLogger(__name__)

WAV_LIMIT_BYTES = 4_000_000_000
"""WAV counts bytes in 32 bits; longer files are written as RF64, its 64-bit form."""


class SeparationPredictor(FilePredictor[SeparationTask]):
    """Separates a file, or every audio file below a folder.

    Args:
        chunk_s: length of the chunks that the network sees.
        overlap_s: overlap of neighbouring chunks, at most half a chunk.
        batch_size: chunks that go through the network together.
        channels: "mono" mixes the channels down first, and outputs are mono; "each" separates every channel
            by itself, and outputs have the input's channels.
        streaming: for causal networks: run through each file in one pass instead of in chunks
            (``task.require_causal``, ``task.predict_stream``).
        level: "input" scales every source to its part of the recording; "full_scale" then brings the loudest sample
            of each file to 1.0; "network" leaves what the network gives.
    """

    def __init__(
        self,
        chunk_s: float,
        overlap_s: float,
        batch_size: int = 1,
        channels: Literal["mono", "each"] = "mono",
        streaming: bool = False,
        level: Literal["input", "full_scale", "network"] = "input",
    ) -> None:
        super().__init__(batch_size)
        self.channels = check_choice("channels", channels, ("mono", "each"))
        self.level = check_choice("level", level, ("input", "full_scale", "network"))
        self.chunk_s, self.overlap_s, self.streaming = chunk_s, overlap_s, streaming

    def check(self, task: SeparationTask) -> None:
        chunk_sizes(task.sample_rate, self.chunk_s, self.overlap_s)
        if self.streaming:
            task.require_causal()

    def targets(self, task: SeparationTask, folder: Path, stem: str) -> tuple[Path, ...]:
        """One WAV path per source."""
        if task.n_sources == 1:
            return (folder / f"{stem}.wav",)
        return tuple(folder / f"{stem}_s{k + 1}.wav" for k in range(task.n_sources))

    def process(self, task: SeparationTask, job: Job, on_progress: OnProgress) -> None:
        mono = self.channels == "mono"
        with open_audio(job.source) as file:
            blocks = read_blocks(file, on_progress, mono=mono, sample_rate=task.sample_rate)
            parts = _Parts()
            pieces = parts.measured(self._separated(task, parts.remembered(blocks)))
            merged = (piece.transpose(0, 1).flatten(0, 1).numpy() for piece in pieces)
            n_channels = 1 if mono else file.n_channels
            with _SourceWriter(job.targets, file.sample_rate, n_channels, file.n_samples) as writer:
                for block in resampled(merged, task.sample_rate, file.sample_rate):
                    writer.write(block)
                gains = np.ones(task.n_sources) if self.level == "network" else parts.gains()
                writer.finish(gains, full_scale=self.level == "full_scale")

    def _separated(self, task: SeparationTask, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Blocks of (channels, time) to blocks of (channels, n_sources, time) on the CPU."""

        @torch.inference_mode()
        def function(waveform: Tensor) -> Tensor:
            return task.predict_waveform(waveform.to(task.device)).float().cpu()

        if self.streaming:
            stream = task.predict_stream(torch.from_numpy(block).to(task.device) for block in blocks)
            return (piece.cpu() for piece in stream)
        return separate_blocks(
            function,
            (torch.from_numpy(block) for block in blocks),
            sample_rate=task.sample_rate,
            chunk_s=self.chunk_s,
            overlap_s=self.overlap_s,
            batch_size=self.batch_size,
        )


class _Parts:
    """Measures on the way how much of each source is in the recording."""

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._shared: np.ndarray = np.zeros(0)
        self._power: np.ndarray = np.zeros(0)

    def remembered(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass (channels, time) on to the network and keep them until their sources come."""
        for block in blocks:
            self._waiting.append(block)
            yield block

    def measured(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass (channels, n_sources, time) on and compare them with the recording."""
        for piece in pieces:
            sources = piece.numpy().astype(np.float64)
            if self._shared.size == 0:
                self._shared, self._power = np.zeros((2, sources.shape[1]))
            recording = self._take(sources.shape[-1])
            self._shared += np.einsum("ct,cst->s", recording, sources[..., : recording.shape[-1]])
            self._power += np.square(sources).sum((0, 2))
            yield piece

    def _take(self, n_samples: int) -> np.ndarray:
        held = np.concatenate(self._waiting, axis=-1)
        self._waiting = [held[:, n_samples:]]
        return held[:, :n_samples]

    def gains(self) -> np.ndarray:
        """Return (n_sources,) factors."""
        return input_gains(self._shared, self._power)


def input_gains(shared: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return (n_sources,) factors that bring sources to their part of the recording; a silent source has 1.

    Args:
        shared: (n_sources,) inner products of recording and source, <x, s>.
        power: (n_sources,) of the sources, <s, s>.
    """
    return np.divide(shared, power, out=np.ones_like(power), where=power > 0)


class _SourceWriter(AbstractContextManager):
    """Writes the sources of one file progressively; they get their names at the end of the block if all went well."""

    def __init__(self, targets: tuple[Path, ...], sample_rate: int, n_channels: int, n_frames: int) -> None:
        self.targets, self.n_channels, self.n_frames = targets, n_channels, n_frames
        self.n_written, self.peaks = 0, np.zeros(len(targets))
        self._opened = ExitStack()
        partials = [self._opened.enter_context(whole_path(path)) for path in targets]
        form = "RF64" if 4 * n_channels * n_frames > WAV_LIMIT_BYTES else "WAV"
        self.files = [
            self._opened.enter_context(
                soundfile.SoundFile(path, "w+", sample_rate, n_channels, subtype="FLOAT", format=form)
            )
            for path in partials
        ]

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def write(self, block: np.ndarray) -> None:
        """Appends (n_sources * channels, time); what exceeds the input's length is resampling residue."""
        block = block[:, : self.n_frames - self.n_written]
        if not np.isfinite(block).all():
            raise ValueError("the network gave NaN or infinite samples")
        self.n_written += block.shape[1]
        sources = np.split(block, len(self.files))
        self.peaks = np.maximum(self.peaks, [np.abs(source).max(initial=0.0) for source in sources])
        for file, source in zip(self.files, sources, strict=True):
            file.write(source.T)

    def finish(self, gains: np.ndarray, *, full_scale: bool) -> None:
        """Multiply by (n_sources,) gains, and all together so that the peak is 1 (`full_scale`) or not above 1."""
        missing = self.n_frames - self.n_written
        if missing:  # a sample or two, lost to rounding of the length in both resamplings
            self.write(np.zeros((len(self.files) * self.n_channels, missing), dtype=np.float32))
        peak = float((np.abs(gains) * self.peaks).max())
        if peak > 1.0 and not full_scale:
            log.warning("%s: peak %.2f, all sources are scaled by 1/peak", self.targets[0].name, peak)
        if peak > 1.0 or (full_scale and peak > 0.0):
            gains = gains / peak
        for file, gain in zip(self.files, gains, strict=True):
            if gain != 1.0:
                _scale(file, gain)


def _scale(file: soundfile.SoundFile, gain: float) -> None:
    """Multiplies all samples of an open float file, in place."""
    for position in range(0, file.frames, BLOCK_FRAMES):
        file.seek(position)
        frames = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        file.seek(position)
        file.write(np.clip(frames * np.float32(gain), -1.0, 1.0))
