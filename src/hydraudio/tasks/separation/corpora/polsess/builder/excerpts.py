"""Cutting excerpts of speech, scenes and events out of recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.audio.io import read_mono
from hydraudio.tasks.separation.corpora.polsess.builder.sources import Recording


@dataclass(frozen=True)
class Excerpt:
    """A piece of one or several recordings.

    Attributes:
        waveform: (time,) float32.
        name: in the table; further files of the same talker follow after a `+`.
        start: first sample in the (first) file, counted from 1 at the file's own rate.
        end: last sample in the (last) file.
    """

    waveform: np.ndarray
    name: str
    start: int
    end: int


_FRAME_S = 0.02
_ACTIVE_DB = -30.0  # below the loud frames: what still counts as speech
_ENOUGH_ACTIVITY = 0.6
_MIN_RMS = 1e-4
_N_RANDOM_WINDOWS = 20
_FADE_S = 0.05


def cut_speech(recordings: Sequence[Recording], n_samples: int, sample_rate: int, rng: np.random.Generator) -> Excerpt:
    """Return a stretch of one talker with enough speech in it.

    A file is drawn; if it is too short, further files of the talker follow after pauses of 0.1 to 0.4 s (and
    silence, if there are no more). Of eight random places the first with 60 % speech frames is taken, else the
    one with most.
    """
    chain = _chain(recordings, 1.25 * n_samples / sample_rate, rng)
    # of a long file only a few clip lengths are decoded
    start, stop = _window(chain[0], 4 * n_samples / sample_rate, rng)
    pieces, spans = [], []
    position = 0
    for recording in chain:
        begin, end = (start, stop) if recording is chain[0] else (0, recording.n_samples)
        piece = _read(recording, begin, end, sample_rate)
        spans.append((position, recording, begin))
        pause = np.zeros(int(rng.uniform(0.1, 0.4) * sample_rate), np.float32)
        pieces += [piece, pause]
        position += len(piece) + len(pause)
    stream = np.concatenate(pieces[:-1])
    stream = np.pad(stream, (0, max(0, n_samples - len(stream))))
    offset = _active_offset(stream, n_samples, sample_rate, rng)
    waveform = stream[offset : offset + n_samples]
    used = [span for span in spans if span[0] < offset + n_samples]
    while len(used) > 1 and used[1][0] <= offset:
        used.pop(0)
    _require_sound(waveform, [recording for _, recording, _ in used])
    return Excerpt(
        waveform,
        used[0][1].name + "".join(f"+{Path(recording.name).name}" for _, recording, _ in used[1:]),
        _source_sample(used[0], offset, sample_rate) + 1,
        _source_sample(used[-1], offset + n_samples, sample_rate),
    )


def cut_scene(recording: Recording, n_samples: int, sample_rate: int, rng: np.random.Generator) -> Excerpt:
    """Return a random stretch that is not silent; a shorter recording is repeated with cross-fades of 50 ms."""
    for start, stop in _windows(recording, n_samples / sample_rate, rng):
        waveform = _read(recording, start, stop, sample_rate)
        if _rms(waveform) > _MIN_RMS:
            break
    _require_sound(waveform, [recording])
    return Excerpt(_loop(waveform, n_samples, sample_rate), recording.name, start + 1, stop)


def cut_event(recording: Recording, n_samples: int, sample_rate: int, rng: np.random.Generator) -> Excerpt:
    """Return the sound without the silence around it, its start at a random place in a clip that is silent else.

    A sound that is longer than the clip is cut off at the clip's end, with a short fade.
    """
    longest = min(recording.n_samples, int(4 * n_samples / sample_rate * recording.sample_rate))
    sound = _read(recording, 0, longest, sample_rate)
    _require_sound(sound, [recording])
    loud = np.flatnonzero(np.abs(sound) > 10.0 ** (-50.0 / 20.0) * np.abs(sound).max())
    begin, end = int(loud[0]), min(int(loud[-1]) + 1, int(loud[0]) + n_samples)
    sound = sound[begin:end].copy()
    n_fade = min(len(sound), int(0.01 * sample_rate))
    sound[len(sound) - n_fade :] *= np.linspace(1.0, 0.0, n_fade, dtype=np.float32)
    clip = np.zeros(n_samples, np.float32)
    offset = int(rng.integers(n_samples - len(sound) + 1))
    clip[offset : offset + len(sound)] = sound
    ratio = recording.sample_rate / sample_rate
    return Excerpt(clip, recording.name, int(begin * ratio) + 1, min(round(end * ratio), recording.n_samples))


def _chain(recordings: Sequence[Recording], duration_s: float, rng: np.random.Generator) -> list[Recording]:
    """Files of the talker in random order until they last long enough (or all are used)."""
    chain: list[Recording] = []
    for index in rng.permutation(len(recordings)):
        chain.append(recordings[index])
        if sum(recording.duration_s for recording in chain) >= duration_s:
            break
    return chain


def _window(recording: Recording, duration_s: float, rng: np.random.Generator) -> tuple[int, int]:
    """A random window of at most this duration, in samples of the file."""
    n_wanted = min(recording.n_samples, int(np.ceil(duration_s * recording.sample_rate)))
    start = int(rng.integers(recording.n_samples - n_wanted + 1))
    return start, start + n_wanted


def _windows(recording: Recording, duration_s: float, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Random windows, then windows that cover the whole recording, in random order: most of it may be silent."""
    for _ in range(_N_RANDOM_WINDOWS):
        start, stop = _window(recording, duration_s, rng)
        yield start, stop
    n_wanted, last = stop - start, recording.n_samples - (stop - start)
    starts = [*range(0, last, n_wanted), last]
    for index in rng.permutation(len(starts)):
        yield starts[index], starts[index] + n_wanted


def _read(recording: Recording, start: int, stop: int, sample_rate: int) -> np.ndarray:
    return read_mono(recording.path, sample_rate, start=start, n_samples=stop - start)


def _active_offset(stream: np.ndarray, n_samples: int, sample_rate: int, rng: np.random.Generator) -> int:
    frame = int(_FRAME_S * sample_rate)
    energy = np.square(stream[: len(stream) // frame * frame]).reshape(-1, frame).mean(axis=1)
    active = energy > 10.0 ** (_ACTIVE_DB / 10.0) * np.quantile(energy, 0.95)
    n_active = np.concatenate([[0], np.cumsum(active)])
    offsets = rng.integers(len(stream) - n_samples + 1, size=8)
    first = np.minimum(offsets // frame, len(active))
    last = np.minimum((offsets + n_samples) // frame, len(active))
    activity = (n_active[last] - n_active[first]) * frame / n_samples
    enough = np.flatnonzero(activity >= _ENOUGH_ACTIVITY)
    return int(offsets[enough[0] if len(enough) else int(np.argmax(activity))])


def _source_sample(span: tuple[int, Recording, int], position: int, sample_rate: int) -> int:
    """Position in the stream -> sample of the file of that span."""
    begin, recording, first = span
    sample = first + round((position - begin) / sample_rate * recording.sample_rate)
    return max(0, min(sample, recording.n_samples))


def _loop(waveform: np.ndarray, n_samples: int, sample_rate: int) -> np.ndarray:
    n_fade = min(int(_FADE_S * sample_rate), len(waveform) // 2)
    fade = np.sin(0.5 * np.pi * np.linspace(0.0, 1.0, n_fade, dtype=np.float32))
    looped = waveform
    while len(looped) < n_samples:
        seam = looped[len(looped) - n_fade :] * fade[::-1] + waveform[:n_fade] * fade
        looped = np.concatenate([looped[: len(looped) - n_fade], seam, waveform[n_fade:]])
    return looped[:n_samples]


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _require_sound(waveform: np.ndarray, recordings: Sequence[Recording]) -> None:
    rms = _rms(waveform)
    if not rms > _MIN_RMS:
        paths = ", ".join(os.fspath(recording.path) for recording in recordings)
        raise ValueError(f"{paths}: silent (RMS {rms:.1e} where {_MIN_RMS:.0e} is needed); remove the file")


def require_audible(recordings: Iterable[Recording]) -> None:
    """Refuse recordings that are silent throughout; of others, only the beginning is read."""
    silent = [recording.path for recording in recordings if _is_silent(recording)]
    if silent:
        raise ValueError(f"{', '.join(silent)}: silent throughout (RMS below {_MIN_RMS:.0e}); remove these files")


def _is_silent(recording: Recording) -> bool:
    second = recording.sample_rate
    for start in range(0, recording.n_samples, second):
        n_samples = min(second, recording.n_samples - start)
        if _rms(read_mono(recording.path, recording.sample_rate, start=start, n_samples=n_samples)) > _MIN_RMS:
            return False
    return True
