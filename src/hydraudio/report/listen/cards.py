"""What a listener gets, as HTML: pictures over a common time axis and scale, players, numbers with names, scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from hydraudio.report.listen.listening import Heard, Numbers, Sound
from hydraudio.report.media import RANGE_DB, SoundAddress, common_gain, signals, wav_in_page
from hydraudio.report.page import Bar, asset, render
from hydraudio.report.tables import number

N_COLUMNS = 800
MAX_NUMBERS = 24
"""Entries of a table of numbers; of longer ones those with the largest values are shown."""


@dataclasses.dataclass(frozen=True)
class _Bars:
    title: str
    bars: Sequence[Bar]


def heard_card(heard: Heard, sound_address: SoundAddress = wav_in_page) -> Markup:
    """Finished HTML of an item or a recording; it needs the style sheet and the script.

    Args:
        heard: what to show.
        sound_address: where the players find their sound.
    """
    played = [np.float32(sound.gain) * sound.waveform for sound in heard.sounds]
    gain = common_gain(played)
    titled = [(s.name, np.float32(gain) * signal) for s, signal in zip(heard.sounds, played, strict=True)]
    pictures = signals(titled, heard.sample_rate, N_COLUMNS, sound_address)
    shown = [
        dataclasses.replace(signal, kind=sound.kind, note=_level_text(sound))
        for signal, sound in zip(pictures, heard.sounds, strict=True)
    ]
    return render(
        "listening.html",
        "card",
        heard,
        " · ".join([*heard.details, f"computed in {heard.seconds:.2f} s"]),
        shown,
        _frequencies(heard.sample_rate / 2000),
        _ticks(shown[0].duration_s) if shown else [],
        [_bars(numbers) for numbers in heard.numbers],
        [*heard.notes, *(_playback(heard, gain) if shown else [])],
    )


def standalone(card: str) -> str:
    """A card with the style sheet and the script, for notebooks."""
    return f"{head()}{card}"


def head() -> str:
    """The style sheet and the script as elements."""
    return f"<style>{asset('style.css')}</style><script>{asset('page.js')}</script>"


def problem_card(message: str) -> Markup:
    """What went wrong and what to do, in place of a result."""
    return render("listening.html", "problem", message)


def facts_card(facts: Sequence[tuple[str, str]]) -> Markup:
    """A short list of names and values."""
    return render("listening.html", "facts", facts)


def level_dbfs(waveform: np.ndarray) -> float:
    """RMS level of (time,) in dB re full scale (a sine of amplitude 1 has -3 dB); -inf for silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf


def _bars(numbers: Numbers) -> _Bars:
    """A bar for what the network says, a mark for what it should be, and both as numbers."""
    order = list(range(len(numbers.names)))
    if len(order) > MAX_NUMBERS:
        order = sorted(sorted(order, key=lambda k: -numbers.output[k])[:MAX_NUMBERS])
    true = np.full(len(numbers.output), np.nan) if numbers.reference is None else numbers.reference
    both = np.concatenate([numbers.output, true, [0.0]])
    low, high = float(np.nanmin(both)), max(float(np.nanmax(both)), 1.0)

    def bar(k: int) -> Bar:
        percent, mark = (100 * (float(x[k]) - low) / (high - low) for x in (numbers.output, true))
        text = number(float(numbers.output[k]), 3)
        if math.isnan(mark):
            return Bar(numbers.names[k], percent, None, text, "plain")
        return Bar(numbers.names[k], percent, mark, f"{text} ({number(float(true[k]), 3)})", "plain")

    return _Bars(numbers.title, [bar(k) for k in order])


def _level_text(sound: Sound) -> str:
    """Level before anything was done for playback."""
    level = level_dbfs(sound.waveform)
    if math.isinf(level):
        return "silent"
    return f"{number(level, 1)} dBFS" + (" as it left the network" if sound.kind == "output" else "")


def _frequencies(top_khz: float) -> list[tuple[float, float]]:
    """Round frequencies in kHz inside the spectrogram, with their places in percent from its bottom."""
    step = next(step for step in (1, 2, 4, 5, 10, 20, 50) if top_khz / step <= 5)
    ticks = [step * k for k in range(1, math.ceil(top_khz / step)) if step * k < 0.97 * top_khz]
    return [(100 * tick / top_khz, tick) for tick in ticks]


def _ticks(duration_s: float) -> list[tuple[float, str]]:
    """Round times with their places in percent."""
    step = _round_step(duration_s / 6)
    ticks = [step * k for k in range(math.floor(duration_s / step * (1 + 1e-9)) + 1)]
    return [(100 * tick / duration_s, _clock(tick)) for tick in ticks]


def _round_step(wanted: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten, or whole seconds and minutes, that is not below."""
    power = 10.0 ** math.floor(math.log10(wanted))
    steps = [power * factor for factor in (1, 2, 5, 10)] if wanted < 10 else [10, 15, 30, 60, 120, 300, 600]
    return next(step for step in steps if step >= wanted * (1 - 1e-9))


def _clock(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _playback(heard: Heard, gain: float) -> tuple[str, str]:
    """What was done to the level, and how to read the pictures."""
    value = 20 * math.log10(gain)
    decibel = f"{'+' if value > 0 else ''}{number(value, 1)} dB"
    return (
        f"Playback: {heard.playback + '; then ' if heard.playback else ''}{decibel} for all signals.",
        f"All pictures have one scale: amplitude ±1, colours over {RANGE_DB:g} dB down from the loudest spot, 0 to "
        f"{heard.sample_rate / 2000:g} kHz. Click into a picture to play from there; starting another player "
        "while one plays goes on at the same place.",
    )
