"""What a listener gets, as HTML: pictures over a common time axis and scale, players, tables with names, scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

import numpy as np

from hydraudio.audio.spectrogram import log_spectrogram_db
from hydraudio.report.listen.listening import Heard, Numbers, Sound
from hydraudio.report.listen.style import CSS, SCRIPT
from hydraudio.report.media import (
    common_gain,
    data_uri,
    spectrogram_png,
    wav_bytes,
    waveform_svg,
)
from hydraudio.report.tables import TableData, number

RANGE_DB = 70.0
N_COLUMNS = 800

SoundAddress = Callable[[str, bytes], str]
"""Given a name and the contents of a WAV file, the address at which a browser finds it."""

MAX_NUMBERS = 24
"""Entries of a table of numbers; of longer ones those with the largest values are shown."""


def wav_in_page(name: str, wav: bytes) -> str:
    """The sound as a part of the page, for notebooks and pages that are one file."""
    return data_uri(wav, "audio/wav")


def heard_card(heard: Heard, sound_address: SoundAddress = wav_in_page) -> str:
    """Finished HTML of an item or a recording; it needs the style and script of `hydraudio.report.listen.style`.

    Args:
        heard: what to show.
        sound_address: where the players find their sound.
    """
    played = [np.float32(sound.gain) * sound.waveform for sound in heard.sounds]
    gain = common_gain(played)
    signals = [np.float32(gain) * signal for signal in played]
    spectrograms = [log_spectrogram_db(signal, heard.sample_rate, N_COLUMNS) for signal in signals]
    top_db = max((float(spectrogram.max()) for spectrogram in spectrograms), default=0.0)
    rows = "".join(
        _row(sound, signal, spectrogram, top_db, heard.sample_rate, sound_address)
        for sound, signal, spectrogram in zip(heard.sounds, signals, spectrograms, strict=True)
    )
    notes = [*heard.notes, *([_level_words(heard.playback, gain), _scale_text(heard)] if heard.sounds else [])]
    numbers = "".join(map(_numbers, heard.numbers))
    return (
        f'<div class="listening">{_head(heard)}<div class="ls-numbers">{numbers}</div>'
        f'<div class="ls-signals">{rows}{_axis(heard)}</div>{_footnotes(notes)}</div>'
    )


def standalone(card: str) -> str:
    """A card with the style and script that it needs, for notebooks."""
    return f"<style>{CSS}</style>{card}<script>{SCRIPT}</script>"


def problem_card(message: str) -> str:
    """What went wrong and what to do, in place of a result."""
    return (
        f'<div class="listening"><div class="ls-problem" role="alert"><b>That did not work.</b>'
        f"<p>{escape(message)}</p></div></div>"
    )


def _head(heard: Heard) -> str:
    details = " · ".join([*heard.details, f"computed in {heard.seconds:.2f} s"])
    table = "" if heard.scores is None else _score_table(heard.scores)
    return (
        f'<div class="ls-head"><div><h3>{escape(heard.title)}</h3><p class="ls-muted">{escape(details)}</p></div>'
        f"{table}</div>"
    )


def _score_table(table: TableData) -> str:
    """The note of a cell, such as a value before, stands muted in front of it; the first number is the key one."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = ""
    for row in table.rows:
        first, *others = row.cells
        cells = f"<th>{escape(first.text)}</th>"
        for k, cell in enumerate(others):
            note = f'<span class="ls-muted">{escape(cell.note)}</span> ' if cell.note else ""
            key = ' class="ls-key"' if k == 0 else ""
            cells += f"<td{key}>{note}{escape(cell.text)}</td>"
        rows += f"<tr>{cells}</tr>"
    return f'<table class="ls-scores"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _numbers(numbers: Numbers) -> str:
    """A line per name: a bar for what the network says, a mark for what it should be, and both as numbers."""
    order = list(range(len(numbers.names)))
    if len(order) > MAX_NUMBERS:
        order = sorted(sorted(order, key=lambda k: -numbers.output[k])[:MAX_NUMBERS])
    true = np.full(len(numbers.output), np.nan) if numbers.reference is None else numbers.reference
    both = np.concatenate([numbers.output, true, [0.0]])
    low, high = float(np.nanmin(both)), max(float(np.nanmax(both)), 1.0)
    rows = "".join(_number_row(numbers.names[k], float(numbers.output[k]), float(true[k]), low, high) for k in order)
    head = f"<th>{escape(numbers.title)}</th><th></th><th>network</th><th>should be</th>"
    return f'<table class="ls-values"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _number_row(name: str, value: float, true: float, low: float, high: float) -> str:
    def place(x: float) -> float:
        return 100 * (x - low) / (high - low)

    mark = "" if math.isnan(true) else f'<i style="left:{place(true):.1f}%"></i>'
    bar = f'<div><b style="width:{place(value):.1f}%"></b>{mark}</div>'
    return f"<tr><th>{escape(name)}</th><td>{bar}</td><td>{number(value, 3)}</td><td>{number(true, 3)}</td></tr>"


def _level_words(playback: str, gain: float) -> str:
    return f"Playback: {playback + '; then ' if playback else ''}{_decibel(gain)} for all signals."


def _row(
    sound: Sound,
    signal: np.ndarray,
    spectrogram_db: np.ndarray,
    top_db: float,
    rate: int,
    sound_address: SoundAddress,
) -> str:
    picture = data_uri(spectrogram_png(spectrogram_db, top_db, RANGE_DB, N_COLUMNS), "image/png")
    file_name = "".join(letter if letter.isalnum() else "_" for letter in sound.name.lower())
    address, name = escape(sound_address(file_name, wav_bytes(signal, rate))), escape(sound.name)
    return (
        f'<div class="ls-row ls-{sound.kind}"><div class="ls-side"><h4>{name}</h4>'
        f'<audio controls preload="metadata" src="{address}" aria-label="{name}"></audio>'
        f'<p class="ls-muted">{_level_text(sound)}</p></div>'
        f'<div class="ls-pictures"><div class="ls-wave">{waveform_svg(signal, N_COLUMNS)}</div>'
        f'<img class="ls-spectrogram" alt="Spectrogram: {name}" src="{picture}">{_frequencies(rate)}'
        f'<i class="ls-cursor"></i></div></div>'
    )


def _level_text(sound: Sound) -> str:
    """Level before anything was done for playback."""
    level = level_dbfs(sound.waveform)
    if math.isinf(level):
        return "silent"
    return f"{number(level, 1)} dBFS" + (" as it left the network" if sound.kind == "output" else "")


def level_dbfs(waveform: np.ndarray) -> float:
    """RMS level of (time,) in dB re full scale (a sine of amplitude 1 has -3 dB); -inf for silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf


def _frequencies(sample_rate: int) -> str:
    """Labels at round frequencies inside the spectrogram, placed from its bottom."""
    top_khz = sample_rate / 2000
    step = next(step for step in (1, 2, 4, 5, 10, 20, 50) if top_khz / step <= 5)
    ticks = [step * k for k in range(1, math.ceil(top_khz / step)) if step * k < 0.97 * top_khz]
    labels = "".join(f'<span style="bottom:{100 * tick / top_khz:.2f}%">{tick:g} kHz</span>' for tick in ticks)
    return f'<div class="ls-frequencies" aria-hidden="true">{labels}</div>'


def _axis(heard: Heard) -> str:
    if not heard.sounds:
        return ""
    duration_s = len(heard.sounds[0].waveform) / heard.sample_rate
    step = _round_step(duration_s / 6)
    ticks = [step * k for k in range(math.floor(duration_s / step * (1 + 1e-9)) + 1)]
    labels = "".join(f'<span style="left:{100 * tick / duration_s:.3f}%">{_clock(tick)}</span>' for tick in ticks)
    return f'<div class="ls-row ls-axis"><div class="ls-side"></div><div class="ls-ticks">{labels}</div></div>'


def _round_step(wanted: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten, or whole seconds and minutes, that is not below."""
    power = 10.0 ** math.floor(math.log10(wanted))
    steps = [power * factor for factor in (1, 2, 5, 10)] if wanted < 10 else [10, 15, 30, 60, 120, 300, 600]
    return next(step for step in steps if step >= wanted * (1 - 1e-9))


def _clock(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _footnotes(lines: Iterable[str]) -> str:
    return '<ul class="ls-notes">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _scale_text(heard: Heard) -> str:
    return (
        f"All pictures have one scale: amplitude ±1, colours over {RANGE_DB:g} dB down from the loudest spot, 0 to "
        f"{heard.sample_rate / 2000:g} kHz. Click into a picture to play from there; starting another player "
        "while one plays goes on at the same place."
    )


def _decibel(gain: float) -> str:
    value = 20 * math.log10(gain)
    return f"{'+' if value > 0 else ''}{number(value, 1)} dB"


def facts_card(facts: Sequence[tuple[str, str]]) -> str:
    """A short list of names and values."""
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<div class="listening"><dl class="ls-facts">{cells}</dl></div>'
