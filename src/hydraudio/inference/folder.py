"""Separation of audio files and folders into WAV files.

Files are streamed, so their length is limited by the disk only. Outputs have the input's sample rate and
exactly its length, and mirror the folder tree: ``<stem>.wav`` for one source, ``<stem>_s1.wav``,
``<stem>_s2.wav`` for several.

Level. Outputs are 32-bit float WAV and keep the level that the network gives. Only when a sample of any
source exceeds 1.0, which a player would clip, all sources of that file are divided by their common peak, with
a warning in the log; so their relative levels always stay. An output appears under its name when it is
complete, not before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from hydraudio.inference.overlap_add import chunk_sizes, separate_blocks

log = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64")
"""Files of a folder that are taken; a file that is named itself may have any suffix."""

BLOCK_FRAMES = 65536
WAV_LIMIT_BYTES = 4_000_000_000
"""WAV counts bytes in 32 bits; longer files are written as RF64, its 64-bit form."""


@dataclass(frozen=True)
class Job:
    """One file to separate and the files that its sources go to."""

    source: Path
    targets: tuple[Path, ...]


@dataclass(frozen=True)
class _Settings:
    chunk_s: float
    overlap_s: float
    batch_size: int
    device: torch.device
    channels: Literal["mono", "each"]
    streaming: bool


def predict_folder(
    task: Any,
    input: str | Path,
    output: str | Path,
    *,
    chunk_s: float,
    overlap_s: float,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    channels: Literal["mono", "each"] = "mono",
    streaming: bool = False,
    overwrite: bool = False,
) -> dict[Path, str]:
    """Separates a file, or every audio file below a folder (names that begin with a dot excepted).

    Args:
        task: a module with ``predict_waveform`` (batch, time) -> (batch, n_sources, time), ``sample_rate``
            (Hz) and ``n_sources``; it is moved to `device` and put into evaluation mode.
        input: file or folder.
        output: folder, made if needed; must not be the input folder.
        chunk_s: length of the chunks that the network sees.
        overlap_s: overlap of neighbouring chunks, at most half a chunk.
        batch_size: chunks that go through the network together.
        device: where the network runs.
        channels: "mono" mixes the channels down first, and outputs are mono; "each" separates every channel
            by itself, and outputs have the input's channels.
        streaming: for causal networks: run through each file in one pass instead of in chunks
            (``task.require_causal``, ``task.predict_stream``).
        overwrite: replace existing outputs; otherwise an input is skipped when all its outputs exist.

    Returns:
        The input files that failed, with the reasons, which are also logged; all others are done.

    Raises:
        FileNotFoundError: no such input.
        ValueError: nothing to do, or an output would overwrite an input.
    """
    if channels not in ("mono", "each"):
        raise ValueError(f"channels must be mono or each, not {channels!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    chunk_sizes(task.sample_rate, chunk_s, overlap_s)
    if streaming:
        task.require_causal()
    settings = _Settings(chunk_s, overlap_s, batch_size, torch.device(device), channels, streaming)
    jobs, failed = _without_collisions(plan_jobs(Path(input), Path(output), task.n_sources))
    todo = [job for job in jobs if overwrite or not all(target.exists() for target in job.targets)]
    task.to(settings.device).eval()
    with _progress_bar() as progress:
        bar = progress.add_task("predict", total=sum(_duration_s(job.source) for job in todo))
        for job in todo:
            progress.update(bar, description=job.source.name)
            try:
                _separate_file(task, job, settings, lambda seconds: progress.advance(bar, seconds))
            except (ValueError, OSError, soundfile.LibsndfileError) as error:
                failed[job.source] = str(error)
    _report(len(todo), len(jobs) - len(todo), failed)
    return failed


def _report(n_tried: int, n_skipped: int, failed: dict[Path, str]) -> None:
    log.info("%d files given, %d skipped because their outputs exist", n_tried + n_skipped, n_skipped)
    if failed:
        reasons = "\n".join(f"  {path}: {reason}" for path, reason in failed.items())
        log.error("%d files failed:\n%s", len(failed), reasons)


def plan_jobs(input: Path, output: Path, n_sources: int) -> list[Job]:
    """Which files are read and written, in a fixed order."""
    if input.is_dir():
        root, sources = input, _audio_files(input, output)
    elif input.is_file():
        root, sources = input.parent, [input]
    else:
        raise FileNotFoundError(f"{input}: no such file or folder; check input=")
    if not sources:
        raise ValueError(f"{input}: holds no audio files ({' '.join(SUFFIXES)})")
    jobs = [
        Job(source, output_paths(output / source.relative_to(root).parent, source.stem, n_sources))
        for source in sources
    ]
    inputs = {source.resolve() for source in sources}
    for job in jobs:
        for target in job.targets:
            if target.resolve() in inputs:
                raise ValueError(f"{target} is an input and would be overwritten; choose another output folder")
    return jobs


def output_paths(folder: Path, stem: str, n_sources: int) -> tuple[Path, ...]:
    """One WAV path per source."""
    if n_sources == 1:
        return (folder / f"{stem}.wav",)
    return tuple(folder / f"{stem}_s{k + 1}.wav" for k in range(n_sources))


def _audio_files(root: Path, output: Path) -> list[Path]:
    """Audio files below root, without hidden ones and without what lies in the output folder."""
    if output.resolve() == root.resolve():
        raise ValueError(f"output={output} is the input folder; choose another, a folder inside it will do")
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and output.resolve() not in path.resolve().parents
    )


def _without_collisions(jobs: list[Job]) -> tuple[list[Job], dict[Path, str]]:
    """The jobs whose outputs are theirs alone, and the input files of the others with the reason."""
    kept: dict[Path, Job] = {}
    failed: dict[Path, str] = {}
    for job in jobs:
        first = kept.setdefault(job.targets[0], job)
        if first is not job:
            failed[job.source] = f"its output would replace that of {first.source.name}; rename one of them"
    return list(kept.values()), failed


def _duration_s(path: Path) -> float:
    """Length as the header says; 0 for a file that cannot be opened, which fails later."""
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError:
        return 0.0


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _separate_file(task: Any, job: Job, settings: _Settings, on_progress: Callable[[float], None]) -> None:
    with soundfile.SoundFile(job.source) as file:
        if file.frames == 0:
            raise ValueError("holds no samples")
        n_channels = file.channels if settings.channels == "each" else 1
        blocks = _read_blocks(file, settings.channels, on_progress)
        pieces = _separated(task, _resampled(blocks, file.samplerate, task.sample_rate), settings)
        merged = (piece.transpose(0, 1).flatten(0, 1).numpy() for piece in pieces)
        with _SourceWriter(job.targets, file.samplerate, n_channels, file.frames) as writer:
            for block in _resampled(merged, task.sample_rate, file.samplerate):
                writer.write(block)
            writer.finish()


def _separated(task: Any, blocks: Iterable[np.ndarray], settings: _Settings) -> Iterator[Tensor]:
    """Blocks of (channels, time) to blocks of (channels, n_sources, time) on the CPU."""

    @torch.inference_mode()
    def function(waveform: Tensor) -> Tensor:
        return task.predict_waveform(waveform.to(settings.device)).float().cpu()

    if settings.streaming:
        stream = task.predict_stream(torch.from_numpy(block).to(settings.device) for block in blocks)
        return (piece.cpu() for piece in stream)
    return separate_blocks(
        function,
        (torch.from_numpy(block) for block in blocks),
        sample_rate=task.sample_rate,
        chunk_s=settings.chunk_s,
        overlap_s=settings.overlap_s,
        batch_size=settings.batch_size,
    )


def _read_blocks(
    file: soundfile.SoundFile, channels: str, on_progress: Callable[[float], None]
) -> Iterator[np.ndarray]:
    """Blocks of (channels, time) float32, checked."""
    n_read = 0
    while n_read < file.frames:
        frames = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        if len(frames) == 0:
            raise ValueError(f"only {n_read} of {file.frames} samples decode; the file is cut off")
        if not np.isfinite(frames).all():
            raise ValueError("holds NaN or infinite samples")
        if channels == "mono":
            frames = frames.mean(axis=1, keepdims=True)
        n_read += len(frames)
        on_progress(len(frames) / file.samplerate)
        yield np.ascontiguousarray(frames.T)


def _resampled(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    """Resamples a stream of (channels, time) blocks without delay."""
    if from_hz == to_hz:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    n_channels = 0
    for block in blocks:
        if stream is None:
            n_channels = len(block)
            stream = soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32", quality="HQ")
        yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(block.T)).T)
    if stream is not None:
        rest = stream.resample_chunk(np.zeros((0, n_channels), dtype=np.float32), last=True)
        yield np.ascontiguousarray(rest.T)


class _SourceWriter:
    """Writes the sources of one file progressively and gives them their names if all went well."""

    def __init__(self, targets: tuple[Path, ...], sample_rate: int, n_channels: int, n_frames: int) -> None:
        self.targets, self.n_channels, self.n_frames = targets, n_channels, n_frames
        self.n_written, self.peak = 0, 0.0
        self.partials = [path.with_name(f".{path.stem}.{os.getpid()}.partial") for path in targets]
        for path in targets:
            path.parent.mkdir(parents=True, exist_ok=True)
        form = "RF64" if 4 * n_channels * n_frames > WAV_LIMIT_BYTES else "WAV"
        self.files = [
            soundfile.SoundFile(path, "w+", sample_rate, n_channels, subtype="FLOAT", format=form)
            for path in self.partials
        ]

    def __enter__(self) -> _SourceWriter:
        return self

    def __exit__(self, *error: object) -> None:
        for file, partial in zip(self.files, self.partials, strict=True):
            file.close()
            partial.unlink(missing_ok=True)

    def write(self, block: np.ndarray) -> None:
        """Appends (n_sources * channels, time); what exceeds the input's length is resampling residue."""
        block = block[:, : self.n_frames - self.n_written]
        if not np.isfinite(block).all():
            raise ValueError("the network gave NaN or infinite samples")
        self.n_written += block.shape[1]
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        for file, source in zip(self.files, np.split(block, len(self.files)), strict=True):
            file.write(source.T)

    def finish(self) -> None:
        missing = self.n_frames - self.n_written
        if missing:  # a sample or two, lost to rounding of the length in both resamplings
            self.write(np.zeros((len(self.files) * self.n_channels, missing), dtype=np.float32))
        if self.peak > 1.0:
            log.warning("%s: peak %.2f, all sources are scaled by 1/peak", self.targets[0].name, self.peak)
            for file in self.files:
                _scale(file, 1.0 / self.peak)
        for file, partial, target in zip(self.files, self.partials, self.targets, strict=True):
            file.close()
            os.replace(partial, target)


def _scale(file: soundfile.SoundFile, gain: float) -> None:
    """Multiplies all samples of an open float file, in place."""
    for position in range(0, file.frames, BLOCK_FRAMES):
        file.seek(position)
        frames = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        file.seek(position)
        file.write(np.clip(frames * np.float32(gain), -1.0, 1.0))
