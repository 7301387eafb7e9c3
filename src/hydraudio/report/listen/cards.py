"""A separation to look at and listen to, as HTML: pictures over a common time axis and scale, players, scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

import numpy as np

from hydraudio.report.listen.scores import Scores, level_dbfs
from hydraudio.report.listen.session import Separation
from hydraudio.report.listen.style import CSS, SCRIPT
from hydraudio.report.media import (
    common_gain,
    data_uri,
    level_gain,
    log_spectrogram_db,
    spectrogram_png,
    wav_bytes,
    waveform_svg,
)
from hydraudio.report.tables import number

RANGE_DB = 70.0
N_COLUMNS = 800

SoundAddress = Callable[[str, bytes], str]
"""Given a name and the contents of a WAV file, the address at which a browser finds it."""

_METRICS = (("si_sdr", "SI-SDR", 2, " dB"), ("pesq", "PESQ", 2, ""), ("stoi", "STOI", 3, ""))


def wav_in_page(name: str, wav: bytes) -> str:
    """The sound as a part of the page, for notebooks and pages that are one file."""
    return data_uri(wav, "audio/wav")


def separation_card(separation: Separation, sound_address: SoundAddress = wav_in_page) -> str:
    """Finished HTML of a separated item or recording; it needs the style and script of `hydraudio.report.listen.style`.

    Args:
        separation: what to show.
        sound_address: where the players find their sound.
    """
    names, signals, level_text = _levelled(separation)
    spectrograms = [log_spectrogram_db(signal, separation.sample_rate, N_COLUMNS) for signal in signals]
    top_db = max(float(spectrogram.max()) for spectrogram in spectrograms)
    rows = "".join(
        _row(name, signal, spectrogram, top_db, separation, sound_address)
        for name, signal, spectrogram in zip(names, signals, spectrograms, strict=True)
    )
    return (
        f'<div class="listening">{_head(separation)}<div class="ls-signals">{rows}{_axis(separation)}</div>'
        f"{_footnotes([*separation.notes, level_text, _scale_text(separation)])}</div>"
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


def _head(separation: Separation) -> str:
    details = " · ".join([*separation.details, f"computed in {separation.seconds:.2f} s"])
    table = "" if separation.scores is None else _score_table(separation.scores)
    return (
        f'<div class="ls-head"><div><h3>{escape(separation.title)}</h3><p class="ls-muted">{escape(details)}</p></div>'
        f"{table}</div>"
    )


def _score_table(scores: Scores) -> str:
    """One row per target: improvement of SI-SDR, then every metric before and after."""
    shown = [metric for metric in _METRICS if metric[0] in scores.estimate]
    several = len(scores.permutation) > 1
    titles = [*(["", "network output"] if several else []), "SI-SDRi", *(name for _, name, _, _ in shown)]
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = ""
    for k, output in enumerate(scores.permutation):
        cells = [f"<th>Target {k + 1}</th>", f"<td>{output + 1}</td>"] if several else []
        cells.append(f'<td class="ls-key">{_signed(float(scores.si_sdri[k]), 2)} dB</td>')
        for key, _, digits, unit in shown:
            before, after = float(scores.mixture[key][k]), float(scores.estimate[key][k])
            cells.append(
                f'<td><span class="ls-muted">{number(before, digits)} →</span> {number(after, digits)}{unit}</td>'
            )
        rows += f"<tr>{''.join(cells)}</tr>"
    return f'<table class="ls-scores"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _levelled(separation: Separation) -> tuple[list[str], list[np.ndarray], str]:
    """Names and signals in the order of the rows, at playback level, and what was done to them."""
    n_sources = len(separation.estimates)
    numbers = [f" {k + 1}" if n_sources > 1 else "" for k in range(n_sources)]
    names, signals = ["Mixture"], [separation.mixture]
    if separation.targets is None:
        gains = mixture_gains(separation.mixture, separation.estimates)
        matched = "at the level at which they add up to the mixture"
    else:
        pairs = zip(separation.estimates, separation.targets, strict=True)
        gains = [level_gain(estimate, target) for estimate, target in pairs]
        matched = "at their target's level"
    for k, gain in enumerate(gains):
        if separation.targets is not None:
            names.append(f"Target{numbers[k]}")
            signals.append(separation.targets[k])
        names.append(f"Estimate{numbers[k]}")
        signals.append(np.float32(gain) * separation.estimates[k])
    gain = common_gain(signals)
    text = f"Playback: estimates {matched}; then {_decibel(gain)} for all signals."
    return names, [np.float32(gain) * signal for signal in signals], text


def mixture_gains(mixture: np.ndarray, estimates: np.ndarray) -> list[float]:
    """Absolute least-squares gains with which (n_sources, time) estimates add up to the mixture (time,).

    Networks that are trained with scale-invariant losses leave their level open. A silent estimate has gain 1.
    """
    gram = np.array([[_product(a, b) for b in estimates] for a in estimates])
    projection = np.array([_product(estimate, mixture) for estimate in estimates])
    gains = np.abs(np.linalg.lstsq(gram, projection, rcond=None)[0])
    audible = np.diag(gram) > 0
    return [float(gain) if heard and gain > 0 else 1.0 for gain, heard in zip(gains, audible, strict=True)]


def _product(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a.astype(np.float64), b.astype(np.float64)))


def _row(
    name: str,
    signal: np.ndarray,
    spectrogram_db: np.ndarray,
    top_db: float,
    separation: Separation,
    sound_address: SoundAddress,
) -> str:
    rate = separation.sample_rate
    picture = data_uri(spectrogram_png(spectrogram_db, top_db, RANGE_DB, N_COLUMNS), "image/png")
    address = escape(sound_address(name.lower().replace(" ", "_"), wav_bytes(signal, rate)))
    kind = name.split()[0].lower()
    return (
        f'<div class="ls-row ls-{kind}"><div class="ls-side"><h4>{name}</h4>'
        f'<audio controls preload="metadata" src="{address}" aria-label="{name}"></audio>'
        f'<p class="ls-muted">{_level_text(name, separation)}</p></div>'
        f'<div class="ls-pictures"><div class="ls-wave">{waveform_svg(signal, N_COLUMNS)}</div>'
        f'<img class="ls-spectrogram" alt="Spectrogram: {name}" src="{picture}">{_frequencies(rate)}'
        f'<i class="ls-cursor"></i></div></div>'
    )


def _level_text(name: str, separation: Separation) -> str:
    """Level before anything was done for playback."""
    kind, _, source = name.partition(" ")
    index = int(source or 1) - 1
    targets = separation.targets if separation.targets is not None else separation.estimates
    signal = {"Mixture": separation.mixture, "Target": targets[index], "Estimate": separation.estimates[index]}[kind]
    level = level_dbfs(signal)
    if math.isinf(level):
        return "silent"
    return f"{number(level, 1)} dBFS" + (" as it left the network" if kind == "Estimate" else "")


def _frequencies(sample_rate: int) -> str:
    """Labels at round frequencies inside the spectrogram, placed from its bottom."""
    top_khz = sample_rate / 2000
    step = next(step for step in (1, 2, 4, 5, 10, 20, 50) if top_khz / step <= 5)
    ticks = [step * k for k in range(1, math.ceil(top_khz / step)) if step * k < 0.97 * top_khz]
    labels = "".join(f'<span style="bottom:{100 * tick / top_khz:.2f}%">{tick:g} kHz</span>' for tick in ticks)
    return f'<div class="ls-frequencies" aria-hidden="true">{labels}</div>'


def _axis(separation: Separation) -> str:
    duration_s = len(separation.mixture) / separation.sample_rate
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


def _scale_text(separation: Separation) -> str:
    return (
        f"All pictures have one scale: amplitude ±1, colours over {RANGE_DB:g} dB down from the loudest spot, 0 to "
        f"{separation.sample_rate / 2000:g} kHz. Click into a picture to play from there; starting another player "
        "while one plays goes on at the same place."
    )


def _decibel(gain: float) -> str:
    return f"{_signed(20 * math.log10(gain), 1)} dB"


def _signed(value: float, digits: int) -> str:
    return ("+" if value > 0 else "") + number(value, digits)


def facts_card(facts: Sequence[tuple[str, str]]) -> str:
    """A short list of names and values."""
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<div class="listening"><dl class="ls-facts">{cells}</dl></div>'
