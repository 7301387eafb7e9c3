"""Acted clips: what emotions of a play feel like, and corpora of such clips written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.generated import generate
from hydraudio.core.parallel import map_in_processes
from hydraudio.tasks.emotion.corpora.prosody import AFFECT_OF, perform

_FELT: dict[str, tuple[tuple[float, float, float], dict[str, float]]] = {
    "exc": ((5.6, 5.6, 4.9), {"H": 1.0, "U": 0.3}),
    "fru": ((4.3, 2.6, 4.2), {"A": 0.5, "D": 0.3}),
    "cal": ((2.5, 4.8, 3.9), {"N": 1.0, "S": 0.2}),
    "oth": ((4.3, 3.4, 4.1), {}),
}
"""What has no class of its own in the prosody: affect and the classes that it sounds like."""

CODES = {"neu": "N", "hap": "H", "ang": "A", "sad": "S", "fea": "F", "sur": "U", "dis": "D"}
"""Code of an emotion -> letter of its prosody."""


@dataclass(frozen=True)
class Clip:
    """One file to be spoken; path relative to the root."""

    path: str
    voice: int
    affect: tuple[float, float, float]
    classes: Mapping[str, float]
    length_s: float


def state_of(code: str, strength: float = 1.0) -> tuple[tuple[float, float, float], dict[str, float]]:
    """Affect and classes of an emotion; strength 0 is neutral."""
    affect, classes = _FELT[code] if code in _FELT else (AFFECT_OF[CODES[code]], {CODES[code]: 1.0})
    neutral = np.array(AFFECT_OF["N"])
    arousal, valence, dominance = np.clip(neutral + strength * (np.array(affect) - neutral), 1.0, 7.0)
    scaled = {letter: strength * share for letter, share in classes.items()}
    return (float(arousal), float(valence), float(dominance)), scaled


def generator(*key: int) -> np.random.Generator:
    """Random numbers that depend on the key only."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def write_clips(
    folder: str | Path,
    arguments: Mapping[str, Any],
    sample_rate: int,
    plan: Callable[[Path], list[Clip]],
    n_processes: int | None,
) -> Path:
    """Plans (which writes the tables) and speaks a corpus in `<folder>.partial`, then moves it to its place.

    Args:
        folder: root of the corpus.
        arguments: everything that its files depend on; `seed` is of the voices.
        sample_rate: in Hz.
        plan: of the root; writes the tables and gives the clips.
        n_processes: None takes the CPUs that there are.

    Raises:
        ValueError: the folder exists and holds something else.
    """
    marker = {"generator": "hydraudio.tasks.emotion.corpora.acted_corpora", **arguments}

    def write(root: Path) -> None:
        jobs = list(enumerate(plan(root)))
        for _ in map_in_processes(_write_clip, (root, sample_rate, arguments["seed"]), jobs, n_processes):
            pass

    return generate(folder, marker, write)


def _write_clip(shared: tuple[Path, int, int], job: tuple[int, Clip]) -> None:
    (root, sample_rate, seed), (row, clip) = shared, job
    n_samples = round(clip.length_s * sample_rate)
    rng = generator(seed, 11, row)
    waveform = perform(clip.voice, seed, clip.affect, clip.classes, n_samples, sample_rate, rng)
    write_audio(root / clip.path, waveform, sample_rate)


def check_lengths(min_s: float, max_s: float) -> None:
    """Raises ValueError for clips that cannot be."""
    if not 0.5 <= min_s <= max_s:
        raise ValueError(f"min_s {min_s} and max_s {max_s} must be at least 0.5 s, in this order")
