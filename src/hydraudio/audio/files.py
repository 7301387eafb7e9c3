"""What all predictors share: finding audio files, planning outputs, reading in blocks, going on after a bad file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import soxr
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import nn

from hydraudio.audio.io import FFMPEG_SUFFIXES, SUFFIXES, AudioFile, channels_cancel, read_info

log = logging.getLogger(__name__)

Task = TypeVar("Task", bound=nn.Module)
OnProgress = Callable[[float], None]
"""Told how many further seconds of audio were read."""


@dataclass(frozen=True)
class Job:
    """One file to process.

    Attributes:
        source: the file.
        name: its path below the input folder, with `/`; the file's name where the input is a file.
        targets: the files that its results go to.
    """

    source: Path
    name: str
    targets: tuple[Path, ...]


class FilePredictor(Generic[Task]):
    """Processes a file, or every audio file below a folder, with a task's network; subclasses say how.

    Args:
        batch_size: pieces of a file that go through the network together.
    """

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size

    def run(
        self,
        task: Task,
        input: str | Path,
        output: str | Path,
        *,
        device: str | torch.device = "cpu",
        overwrite: bool = False,
    ) -> dict[Path, str]:
        """Processes a file or a folder.

        Args:
            task: it is moved to `device` and put into evaluation mode.
            input: file, or folder that is searched as `audio_files` does.
            output: folder, made if needed; must not be the input folder.
            device: where the network runs.
            overwrite: replace existing results; otherwise a file is skipped when all its results exist.

        Returns:
            The input files that failed, with the reasons, which are also logged; all others are done.

        Raises:
            FileNotFoundError: no such input.
            ValueError: nothing to do, an output would overwrite an input, or the settings do not fit the network.
        """
        self.check(task)
        jobs, failed = plan_jobs(input, output, lambda folder, stem: self.targets(task, folder, stem))
        task.to(device).eval()
        failed |= process_files(jobs, lambda job, on_progress: self.process(task, job, on_progress), overwrite)
        failed |= self.summarise(task, [job for job in jobs if job.source not in failed], Path(output))
        if failed:
            reasons = [text if text.startswith(str(path)) else f"{path}: {text}" for path, text in failed.items()]
            log.error("%d files failed:\n  %s", len(failed), "\n  ".join(map(printable, reasons)))
        return failed

    def check(self, task: Task) -> None:
        """Raises ValueError for settings that do not fit the network."""

    def targets(self, task: Task, folder: Path, stem: str) -> tuple[Path, ...]:
        """The results of `<stem>.*`, the last of which is written last."""
        raise NotImplementedError

    def process(self, task: Task, job: Job, on_progress: OnProgress) -> None:
        """Does one job; what it raises of ValueError and OSError fails that file only."""
        raise NotImplementedError

    def summarise(self, task: Task, jobs: list[Job], output: Path) -> dict[Path, str]:
        """Called at the end with the jobs that are done; gives those that fail here, with the reasons."""
        return {}


def plan_jobs(
    input: str | Path, output: str | Path, targets: Callable[[Path, str], tuple[Path, ...]]
) -> tuple[list[Job], dict[Path, str]]:
    """List which files are read and written, in a fixed order.

    Args:
        input: file, or folder that is searched as `audio_files` does.
        output: folder in which the tree of the input is mirrored; must not be the input folder.
        targets: (folder, stem of the input file) -> its outputs.

    Returns:
        The jobs whose outputs are theirs alone, and the input files of the others with the reasons.

    Raises:
        FileNotFoundError: no such input.
        ValueError: nothing to do, or an output would overwrite an input.
    """
    input, output = Path(input), Path(output)
    if input.is_dir():
        if output.resolve() == input.resolve():
            raise ValueError(f"output={output} is the input folder; choose another, a folder inside it will do")
        root = input
        sources, failed = audio_files(input, leave_out=output)
    elif input.is_file():
        root, sources, failed = input.parent, [input], {}
    else:
        raise FileNotFoundError(f"{input}: no such file or folder; check input=")
    if not sources and not failed:
        raise ValueError(f"{input}: holds no audio files ({' '.join(SUFFIXES)})")
    jobs = []
    for source in sources:
        if printable(str(source)) != str(source):
            failed[source] = "its name is not UTF-8, which results could not be named after; rename it"
            continue
        place = source.relative_to(root)
        jobs.append(Job(source, place.as_posix(), targets(output / place.parent, source.stem)))
    _protect_inputs(jobs)
    kept, collided = _without_collisions(jobs)
    return kept, failed | collided


def printable(text: str) -> str:
    """Write bytes of a file's name that are not UTF-8 as \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def process_files(jobs: list[Job], process: Callable[[Job, OnProgress], None], overwrite: bool) -> dict[Path, str]:
    """Do the jobs one after the other with a progress bar; a file that fails does not keep the others waiting.

    Args:
        jobs: what to do.
        process: does one job; what it raises of ValueError and OSError fails that file only.
        overwrite: also do jobs whose outputs all exist, which are skipped otherwise.

    Returns:
        The files that failed with the reasons.
    """
    todo = [job for job in jobs if overwrite or not all(target.exists() for target in job.targets)]
    failed: dict[Path, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("predict", total=sum(_duration_s(job.source) for job in todo))
        for job in todo:
            progress.update(bar, description=job.source.name)
            try:
                process(job, lambda seconds: progress.advance(bar, seconds))
            except (ValueError, OSError) as error:
                failed[job.source] = str(error)
    log.info("%d files given, %d skipped because their outputs exist", len(jobs), len(jobs) - len(todo))
    return failed


def read_blocks(file: AudioFile, on_progress: OnProgress, *, mono: bool, sample_rate: int) -> Iterator[np.ndarray]:
    """Read an open file in blocks of (channels, time) float32 at `sample_rate`, checked.

    Args:
        file: of `open_audio`, at its beginning.
        on_progress: told about each block.
        mono: mix the channels down to one.
        sample_rate: in Hz; the blocks are resampled to it.

    Raises:
        ValueError: cut off, or NaN or infinite samples.
    """
    return resampled(_decoded(file, on_progress, mono), file.sample_rate, sample_rate)


def _decoded(file: AudioFile, on_progress: OnProgress, mono: bool) -> Iterator[np.ndarray]:
    power = power_mixed = 0.0
    for frames in file.blocks():
        if mono and file.n_channels > 1:
            power += float(np.square(frames, dtype=np.float64).mean(axis=1).sum())
            frames = frames.mean(axis=1, keepdims=True)
            power_mixed += float(np.square(frames, dtype=np.float64).sum())
        on_progress(len(frames) / file.sample_rate)
        yield np.ascontiguousarray(frames.T)
    if channels_cancel(power, power_mixed):
        log.warning(
            "%s: its %d channels cancel each other, and little or nothing is left of them in their mix; give one "
            "channel of the file (or channels=each, where there is such an option)",
            file.where,
            file.n_channels,
        )


def resampled(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    """Resample a stream of (channels, time) blocks without delay."""
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


def audio_files(root: Path, *, leave_out: Path | None = None) -> tuple[list[Path], dict[Path, str]]:
    """Find the audio files below a folder at any depth; links are followed, names that begin with a dot left out.

    Args:
        root: the folder.
        leave_out: a folder that is not searched.

    Returns:
        The files in a fixed order, and with the reasons what looks like one and cannot be read, folders that cannot be
        opened, and links to folders that are searched already.
    """
    found: list[Path] = []
    failed: dict[Path, str] = {}
    searched = {root.resolve()} | ({leave_out.resolve()} if leave_out is not None else set())
    left_out = None if leave_out is None else leave_out.resolve()

    def unreadable(error: OSError) -> None:
        failed[Path(error.filename)] = f"the folder cannot be opened ({error.strerror}); change its permissions"

    for folder, names, files in os.walk(root, followlinks=True, onerror=unreadable):
        descend = []
        for path in sorted((Path(folder) / name for name in names), key=lambda path: (path.is_symlink(), path.name)):
            target = path.resolve()
            if path.name.startswith(".") or target == left_out:
                continue
            if target in searched:
                failed[path] = "is a link to a folder that is searched already; remove the link"
                continue
            searched.add(target)
            descend.append(path.name)
        names[:] = descend
        for path in (Path(folder) / name for name in files):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            if path.is_file():
                found.append(path)
            else:
                failed[path] = "is no file that can be opened (a pipe, a device, or a link to nothing); remove it"
    return sorted(found), failed


def _protect_inputs(jobs: list[Job]) -> None:
    inputs = {job.source.resolve() for job in jobs}
    for job in jobs:
        for target in job.targets:
            if target.resolve() in inputs:
                raise ValueError(f"{target} is an input and would be overwritten; choose another output folder")


def _without_collisions(jobs: list[Job]) -> tuple[list[Job], dict[Path, str]]:
    kept: dict[Path, Job] = {}
    failed: dict[Path, str] = {}
    for job in jobs:
        first = kept.setdefault(job.targets[0], job)
        if first is not job:
            failed[job.source] = f"its output would replace that of {first.source.name}; rename one of them"
    return list(kept.values()), failed


def _duration_s(path: Path) -> float:
    """Length as the header says; 0 for a file that would have to be decoded or cannot be opened."""
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        return 0.0
    try:
        info = read_info(path)
    except (ValueError, OSError):
        return 0.0
    return info.n_samples / info.sample_rate
