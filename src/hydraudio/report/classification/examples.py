"""Items of a test of classes to look at and listen to: their sound and their cards."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hydraudio.audio.io import decode_audio, mixed_down, read_audio_channels, resample
from hydraudio.report.classification.predictions import PredictionTable
from hydraudio.report.media import Packed, common_gain, signals
from hydraudio.report.page import Bar, render
from hydraudio.report.tables import number

CATEGORY = "category"  # the group of examples that are chosen by their class
_MAX_BARS = 12
_AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")


@dataclass(frozen=True)
class ClassExample:
    """One item. sound: (time,), None where the test saw only features. score: minus NLL in nats, or of another group.
    silent: why there is nothing to hear."""

    group: str
    item_id: str
    score: float
    path: str
    sound: Packed | None = None
    silent: str = ""


def with_sound(example: ClassExample, sample_rate: int, max_s: float) -> ClassExample:
    """Return the example with its waveform read from its file; where that fails it says why."""
    if example.sound is not None:
        return example
    if not example.path:
        return replace(example, silent="the corpus does not say where the recording lies")
    try:
        waveform = read_recording(example.path, sample_rate)
    except (OSError, ValueError) as error:
        return replace(example, silent=f"not readable any more: {error}")
    return replace(example, sound=Packed.of(waveform[: int(max_s * sample_rate)]))


def read_recording(path: str, sample_rate: int) -> np.ndarray:
    """Return a file, or `shard.tar#key` a member of an archive, as mono (time,) float32 at sample_rate in Hz."""
    archive, separator, key = path.rpartition("#")
    if separator and archive.endswith(".tar"):
        channels, file_rate = _read_member(Path(archive), key)
    else:
        channels, file_rate = read_audio_channels(path)
    return resample(mixed_down(channels), file_rate, sample_rate)


def example_card(
    kind: str,
    example: ClassExample,
    sample_rate: int,
    heading: str,
    about: str,
    bars: Sequence[Sequence[Bar]],
    is_open: bool,
) -> Markup:
    """Return finished HTML of one example.

    Args:
        kind: worst, best or typical.
        example: with its sound.
        sample_rate: in Hz.
        heading: what the model made of it.
        about: what is known of it.
        bars: groups of what was predicted.
        is_open: whether one sees it without a click.
    """
    heard = None
    if example.sound is not None and example.sound.samples.size:
        waveform = example.sound.waveform
        waveform = common_gain([waveform]) * waveform
        (heard,) = signals([("Recording", waveform)], sample_rate)
    silent = example.silent or "No samples."
    return render("classification.html", "item", kind, heading, example.item_id, about, heard, silent, bars, is_open)


def class_heading(item: PredictionTable) -> str:
    """Say what the one item is, and what it was heard as."""
    names = item.class_names
    truth, guess = names[int(item.labels[0])], names[int(item.predicted[0])]
    found = f"{truth} → heard as {guess}" if truth != guess else f"{truth}, recognised"
    return f"{found} (NLL {number(float(item.nll[0]))})"


def probability_bars(item: PredictionTable, marks: NDArray[np.float64] | None = None) -> list[Bar]:
    """Return the largest probabilities of the one item and that of its class, in the order of the classes.

    marks: (n_classes,) what they should be, NaN where unknown.
    """
    found = []
    wanted = np.full(len(item.class_names), np.nan) if marks is None else marks
    likely = set(np.argsort(-item.probabilities[0], kind="stable")[:_MAX_BARS].tolist()) | {int(item.labels[0])}
    for k, name in enumerate(item.class_names):
        percent, mark = 100 * float(item.probabilities[0, k]), 100 * float(wanted[k])
        kind = "true" if k == item.labels[0] else ""
        if k in likely:
            found.append(Bar(name, percent, None if np.isnan(mark) else mark, f"{number(percent, 0)} %", kind))
    return found


def item_description(item: PredictionTable) -> Iterator[str]:
    """Yield what is known of the one item."""
    if item.split[0]:
        yield str(item.split[0])
    if not np.isnan(item.duration_s[0]):
        yield f"{number(float(item.duration_s[0]), 1)} s"


def _read_member(archive: Path, key: str) -> tuple[np.ndarray, int]:
    with tarfile.open(archive) as file:
        wanted = {f"{key}{suffix}" for suffix in _AUDIO_SUFFIXES} | {key}
        member = next((m for m in file if m.name.removeprefix("./") in wanted), None)
        content = file.extractfile(member) if member else None
        if content is None:
            raise FileNotFoundError(f"{archive}: no audio of {key}")
        return decode_audio(content.read(), f"{archive}#{key}")
