"""Items of an emotion test to look at and listen to: their sound and their cards."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from hydraudio.audio.io import decode_audio, mixed_down, read_audio_channels, resample
from hydraudio.report.media import Packed, common_gain, signals
from hydraudio.report.page import Bar, render
from hydraudio.report.tables import number
from hydraudio.tasks.emotion.report.predictions import GENDERS, PredictionTable, to_rating

CATEGORY, ATTRIBUTES = "category", "attributes"  # groups of examples
_AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")


@dataclass(frozen=True)
class EmotionExample:
    """One item. sound: (time,), None where the test saw only features. score: minus NLL in nats, or minus the largest
    error of an attribute on the scale from 1 to 7. silent: why there is nothing to hear."""

    group: str
    item_id: str
    score: float
    path: str
    sound: Packed | None = None
    silent: str = ""


def with_sound(example: EmotionExample, sample_rate: int, max_s: float) -> EmotionExample:
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
    kind: str, example: EmotionExample, item: PredictionTable, sample_rate: int, is_open: bool = False
) -> Markup:
    """Return finished HTML of one example; kind is "worst", "best" or "typical", item its predictions (one item)."""
    heading = _category_heading(item) if example.group == CATEGORY else _attribute_heading(item)
    heard = None
    if example.sound is not None and example.sound.samples.size:
        waveform = example.sound.waveform
        waveform = common_gain([waveform]) * waveform
        (heard,) = signals([("Recording", waveform)], sample_rate)
    about, silent = " · ".join(_description(item)), example.silent or "No samples."
    values = _probabilities(item), _ratings(item)
    template = f"{__package__}/page.html"
    return render(template, "item", kind, heading, example.item_id, about, heard, silent, *values, is_open)


def _read_member(archive: Path, key: str) -> tuple[np.ndarray, int]:
    with tarfile.open(archive) as file:
        wanted = {f"{key}{suffix}" for suffix in _AUDIO_SUFFIXES} | {key}
        member = next((m for m in file if m.name.removeprefix("./") in wanted), None)
        content = file.extractfile(member) if member else None
        if content is None:
            raise FileNotFoundError(f"{archive}: no audio of {key}")
        return decode_audio(content.read(), f"{archive}#{key}")


def _category_heading(item: PredictionTable) -> str:
    names = item.class_names
    truth, guess = names[int(item.labels[0])], names[int(item.predicted[0])]
    found = f"{truth} → heard as {guess}" if truth != guess else f"{truth}, recognised"
    return f"{found} (NLL {number(float(item.nll[0]))})"


def _attribute_heading(item: PredictionTable) -> str:
    errors = to_rating(item.attributes[0]) - to_rating(item.attribute_targets[0])
    worst = int(np.nanargmax(np.abs(errors)))
    sign = "+" if errors[worst] > 0 else ""
    return f"{item.attribute_names[worst].capitalize()} {sign}{number(float(errors[worst]), 1)}"


def _probabilities(item: PredictionTable) -> list[Bar]:
    found = []
    for k, name in enumerate(item.class_names):
        percent, votes = 100 * float(item.probabilities[0, k]), 100 * float(item.votes[0, k])
        kind = "true" if k == item.labels[0] else ""
        found.append(Bar(name, percent, None if np.isnan(votes) else votes, f"{number(percent, 0)} %", kind))
    return found


def _ratings(item: PredictionTable) -> list[Bar]:
    """A line from 1 to 7 per attribute, with the true and the predicted rating."""
    found = []
    predicted, true = to_rating(item.attributes[0]).tolist(), to_rating(item.attribute_targets[0]).tolist()
    for name, guess, truth in zip(item.attribute_names, predicted, true, strict=True):
        mark = None if np.isnan(truth) else 100 * (truth - 1) / 6
        text = number(guess, 1) + ("" if mark is None else f" ({number(truth, 1)})")
        found.append(Bar(name.capitalize(), 100 * (guess - 1) / 6, mark, text, "dot"))
    return found


def _description(item: PredictionTable) -> Iterator[str]:
    if item.split[0]:
        yield str(item.split[0])
    yield f"speaker {item.speaker[0]}" if item.speaker[0] else "speaker unknown"
    yield GENDERS[int(item.gender[0])].lower()
    if not np.isnan(item.duration_s[0]):
        yield f"{number(float(item.duration_s[0]), 1)} s"
    if not np.isnan(item.vote_entropy[0]):
        yield f"entropy of the votes {number(float(item.vote_entropy[0]))}"
