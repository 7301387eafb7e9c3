"""Items of an emotion test to look at and listen to: their sound and their cards."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np

from hydraudio.audio.io import decode_audio, mixed_down, read_audio_channels, resample
from hydraudio.report.media import common_gain, player
from hydraudio.report.tables import number
from hydraudio.tasks.emotion.report.predictions import GENDERS, PredictionTable, to_rating

CATEGORY, ATTRIBUTES = "category", "attributes"  # groups of examples
_AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")


@dataclass(frozen=True)
class EmotionExample:
    """One item. waveform: (time,) float32, None where the test saw only features. score: minus NLL in nats, or minus
    the largest error of an attribute on the scale from 1 to 7. silent: why there is nothing to hear."""

    group: str
    item_id: str
    score: float
    path: str
    waveform: np.ndarray | None = None
    silent: str = ""


def with_sound(example: EmotionExample, sample_rate: int, max_s: float) -> EmotionExample:
    """The example with its waveform read from its file; where that fails it says why."""
    if example.waveform is not None:
        return example
    if not example.path:
        return replace(example, silent="the corpus does not say where the recording lies")
    try:
        waveform = read_recording(example.path, sample_rate)
    except (OSError, ValueError) as error:
        return replace(example, silent=f"not readable any more: {error}")
    return replace(example, waveform=waveform[: int(max_s * sample_rate)])


def read_recording(path: str, sample_rate: int) -> np.ndarray:
    """A file, or `shard.tar#key` a member of an archive, as mono (time,) float32 at sample_rate in Hz."""
    archive, separator, key = path.rpartition("#")
    if separator and archive.endswith(".tar"):
        channels, file_rate = _read_member(Path(archive), key)
    else:
        channels, file_rate = read_audio_channels(path)
    return resample(mixed_down(channels), file_rate, sample_rate)


def example_card(kind: str, example: EmotionExample, item: PredictionTable, sample_rate: int) -> str:
    """Finished HTML of one example; kind is "worst", "best" or "typical", item its predictions (one item)."""
    heading = _category_heading(item) if example.group == CATEGORY else _attribute_heading(item)
    bars = (_probability_bars(item) if item.class_names else "") + "".join(_attribute_scales(item))
    return (
        f'<div class="card item"><h3><span class="tag {escape(kind)}">{escape(kind)}</span>'
        f"<span>{heading}</span><code>{escape(example.item_id)}</code></h3>"
        f'<p class="chips">{escape(" · ".join(_description(item)))}</p>'
        f'<div class="signals wide">{_sound(example, sample_rate)}<div class="signal">{bars}</div></div></div>'
    )


def _read_member(archive: Path, key: str) -> tuple[np.ndarray, int]:
    with tarfile.open(archive) as file:
        wanted = {f"{key}{suffix}" for suffix in _AUDIO_SUFFIXES} | {key}
        member = next((m for m in file if m.name in wanted), None)
        content = file.extractfile(member) if member else None
        if content is None:
            raise FileNotFoundError(f"{archive}: no audio of {key}")
        return decode_audio(content.read(), f"{archive}#{key}")


def _sound(example: EmotionExample, sample_rate: int) -> str:
    if example.waveform is None or not example.waveform.size:
        return f'<div class="signal"><p class="note">{escape(example.silent or "No samples.")}</p></div>'
    waveform = common_gain([example.waveform]) * example.waveform
    return f'<div class="signal">{player(waveform, sample_rate)}</div>'


def _category_heading(item: PredictionTable) -> str:
    names = item.class_names
    truth, guess = names[int(item.labels[0])], names[int(item.predicted[0])]
    found = f"{escape(truth)} → heard as {escape(guess)}" if truth != guess else f"{escape(truth)}, recognised"
    return f"{found} (NLL {number(float(item.nll[0]))})"


def _attribute_heading(item: PredictionTable) -> str:
    errors = to_rating(item.attributes[0]) - to_rating(item.attribute_targets[0])
    worst = int(np.nanargmax(np.abs(errors)))
    sign = "+" if errors[worst] > 0 else ""
    return f"{escape(item.attribute_names[worst].capitalize())} {sign}{number(float(errors[worst]), 1)}"


def _probability_bars(item: PredictionTable) -> str:
    rows = []
    for k, name in enumerate(item.class_names):
        share, votes = float(item.probabilities[0, k]), float(item.votes[0, k])
        is_true = k == item.labels[0]
        mark = "" if np.isnan(votes) else f'<i style="left:{100 * votes:.1f}%"></i>'
        rows.append(
            f'<div class="prob{" true" if is_true else ""}"><span>{escape(name)}</span>'
            f'<div><b style="width:{100 * share:.1f}%"></b>{mark}</div><span>{number(100 * share, 0)} %</span></div>'
        )
    return f'<div class="probs">{"".join(rows)}</div>'


def _attribute_scales(item: PredictionTable) -> Iterator[str]:
    """A line from 1 to 7 per attribute, with the true and the predicted rating."""
    predicted, true = to_rating(item.attributes[0]), to_rating(item.attribute_targets[0])
    for name, guess, truth in zip(item.attribute_names, predicted, true, strict=True):
        mark = "" if np.isnan(truth) else f'<i style="left:{_percent(truth)}"></i>'
        text = f"{number(float(guess), 1)}" + ("" if np.isnan(truth) else f" ({number(float(truth), 1)})")
        yield (
            f'<div class="prob rating"><span>{escape(name.capitalize())}</span>'
            f'<div><b style="left:{_percent(guess)}"></b>{mark}</div><span>{text}</span></div>'
        )


def _percent(rating: float) -> str:
    return f"{100 * (rating - 1) / 6:.1f}%"


def _description(item: PredictionTable) -> Iterator[str]:
    if item.split[0]:
        yield str(item.split[0])
    yield f"speaker {item.speaker[0]}" if item.speaker[0] else "speaker unknown"
    yield GENDERS[int(item.gender[0])].lower()
    if not np.isnan(item.duration_s[0]):
        yield f"{number(float(item.duration_s[0]), 1)} s"
    if not np.isnan(item.vote_entropy[0]):
        yield f"entropy of the votes {number(float(item.vote_entropy[0]))}"
