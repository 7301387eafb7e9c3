"""One item of a separation test to look at and listen to: waveforms, spectrograms, players and scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np

from hydraudio.report.examples import Example
from hydraudio.report.media import (
    common_gain,
    data_uri,
    level_gain,
    log_spectrogram_db,
    spectrogram_png,
    wav_bytes,
    waveform_svg,
)
from hydraudio.report.tables import Row, is_number, number

_METRICS = (("si_sdr", "SI-SDR", 2, " dB"), ("si_sdri", "improvement", 2, " dB"), ("pesq", "PESQ", 2, ""))
_STOI = ("stoi", "STOI", 3, "")


@dataclass(frozen=True)
class _Signal:
    """A waveform (time,) with its heading and the columns of its scores, by name of the metric."""

    title: str
    waveform: np.ndarray
    columns: dict[str, str]


def item_card(kind: str, row: Row, example: Example, sample_rate: int) -> str:
    """Finished HTML of one item; kind is "best", "worst" or "typical"."""
    signals, level_text = _levelled(example)
    top_db = max(float(np.max(log_spectrogram_db(s.waveform, sample_rate))) for s in signals)
    parts = "".join(_signal(signal, row, sample_rate, top_db) for signal in signals)
    return (
        f'<div class="card item"><h3><span class="tag {escape(kind)}">{escape(kind)}</span>'
        f"{_improvement(row)}<code>{escape(example.item_id)}</code></h3>"
        f'<p class="chips">{escape(" · ".join(_description(row)))}</p>'
        f'<p class="chips">{escape(level_text)}</p>'
        f'<div class="signals">{parts}</div></div>'
    )


def _levelled(example: Example) -> tuple[list[_Signal], str]:
    """All signals of the item at playback level, and what was done to them.

    SI-SDR does not see an estimate's level, so estimates first get their target's RMS; then one gain goes
    over everything.
    """
    gains = [level_gain(e, t) for e, t in zip(example.estimates, example.targets, strict=True)]
    estimates = [gain * estimate for gain, estimate in zip(gains, example.estimates, strict=True)]
    gain = common_gain([example.mixture, *example.targets, *estimates])
    signals = list(_signals(example, estimates))
    levelled = [_Signal(s.title, gain * s.waveform, s.columns) for s in signals]
    matched = " and ".join(_gain_text(each) for each in gains)
    text = f"Playback: {_gain_text(gain)} for all signals, estimates first at their target's level ({matched})."
    return levelled, text


def _signals(example: Example, estimates: list[np.ndarray]) -> Iterator[_Signal]:
    several = len(estimates) > 1
    mixture = {name: f"{name}_mixture" for name in ("si_sdr", "pesq", "stoi")}
    yield _Signal("Mixture", example.mixture, mixture)
    for source, (target, estimate) in enumerate(zip(example.targets, estimates, strict=True), start=1):
        end, number_text = (f"_{source}", f" {source}") if several else ("", "")
        yield _Signal(f"Target{number_text}", target, {})
        columns = {name: f"{name}{end}" for name in ("si_sdr", "si_sdri", "pesq", "stoi")}
        yield _Signal(f"Estimate{number_text}", estimate, columns)


def _signal(signal: _Signal, row: Row, sample_rate: int, top_db: float) -> str:
    image = spectrogram_png(log_spectrogram_db(signal.waveform, sample_rate), top_db)
    sound = wav_bytes(signal.waveform, sample_rate)
    title = escape(signal.title)
    duration_s, top_khz = len(signal.waveform) / sample_rate, sample_rate / 2000
    return (
        f'<div class="signal"><h4>{title}</h4>{waveform_svg(signal.waveform)}'
        f'<img class="spectrogram" alt="Spectrogram: {title}" src="{data_uri(image, "image/png")}">'
        f'<div class="scale"><span>0 s</span><span>up to {top_khz:g} kHz</span>'
        f"<span>{duration_s:.2f} s</span></div>"
        f'<audio controls preload="metadata" src="{data_uri(sound, "audio/wav")}"></audio>'
        f'<p class="scores">{_scores(signal, row)}</p></div>'
    )


def _scores(signal: _Signal, row: Row) -> str:
    texts = []
    for metric, name, digits, unit in (*_METRICS, _STOI):
        value = row.get(signal.columns.get(metric, ""))
        if is_number(value):
            texts.append(f"<span>{name} <b>{number(value, digits)}</b>{unit}</span>")
    return "".join(texts)


def _improvement(row: Row) -> str:
    value = row["si_sdri"]
    sign = "+" if is_number(value) and value > 0 else ""  # type: ignore[operator]
    return f"<span>{sign}{number(value, 1)} dB</span>"


def _description(row: Row) -> Iterator[str]:
    if row.get("indoor") is not None:
        yield "indoor" if row["indoor"] else "outdoor"
    if is_number(row.get("ssr_db")):
        yield f"SSR {number(row['ssr_db'], 0)} dB"
    if row.get("sexes"):
        yield f"talkers: {row['sexes']}"
    for name in ("scene", "event", "noise"):
        level, kind = row.get(f"{name}_db"), row.get(f"{name}_class")
        words = [str(kind).replace("_", " ")] if kind else []
        words += [f"{number(level, 1)} dB"] if is_number(level) else []
        if words:
            yield f"{name}: {', '.join(words)}"


def _gain_text(gain: float) -> str:
    decibel = 20 * math.log10(gain)
    return f"{'+' if decibel > 0.05 else ''}{number(decibel, 1)} dB"
