"""Synthetic talkers: voices that have the statistics of speech, and what they say (nothing).

The phoneme sequence makes words of (C)V(C) syllables, phrases and pauses. Everything is a pure function of the random
generator passed in. `formant_synthesis` makes it audible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# F1, F2, F3 in Hz of male speakers: Peterson & Barney (1952), table II
_VOWELS_HZ = np.array(
    [
        (270, 2290, 3010),  # heed
        (390, 1990, 2550),  # hid
        (530, 1840, 2480),  # head
        (660, 1720, 2410),  # had
        (730, 1090, 2440),  # hod
        (570, 840, 2410),  # hawed
        (440, 1020, 2240),  # hood
        (300, 870, 2240),  # who'd
        (640, 1190, 2390),  # hud
        (490, 1350, 1690),  # heard
    ],
    dtype=np.float64,
)
_VOWEL_DB = np.array([-4.0, -2.0, 0.0, 0.0, 0.0, -1.0, -3.0, -4.0, 0.0, -2.0])

_SILENT_DB = -70.0
NASAL_POLE_HZ = 270.0  # Klatt (1980), table I; a zero at the same place cancels it


@dataclass(frozen=True)
class _Consonant:
    """Targets of a consonant (dB relative to a stressed vowel); formants after Klatt 1980, tables II, III."""

    kind: str  # "sonorant", "fricative" or "plosive"
    formants_hz: tuple[float, float, float]
    voicing_db: float
    frication_db: float = _SILENT_DB
    frication_hz: float = 1000.0  # centre of the noise band
    frication_width: float = 1.0  # in octaves
    nasal_zero_hz: float = NASAL_POLE_HZ


_CONSONANTS = (
    _Consonant("sonorant", (300, 1050, 2200), -9, nasal_zero_hz=450),  # m
    _Consonant("sonorant", (300, 1450, 2550), -9, nasal_zero_hz=520),  # n
    _Consonant("sonorant", (330, 1050, 2850), -5),  # l
    _Consonant("sonorant", (350, 1180, 1550), -6),  # r
    _Consonant("sonorant", (290, 680, 2150), -6),  # w
    _Consonant("sonorant", (270, 2150, 2950), -6),  # j
    _Consonant("fricative", (350, 1150, 2100), _SILENT_DB, -27, 4500, 3.0),  # f
    _Consonant("fricative", (320, 1450, 2550), _SILENT_DB, -13, 5200, 0.9),  # s
    _Consonant("fricative", (320, 1850, 2700), _SILENT_DB, -12, 2900, 0.8),  # sh
    _Consonant("fricative", (450, 1250, 2400), _SILENT_DB, -19, 1500, 1.0),  # ch (Bach)
    _Consonant("fricative", (250, 1150, 2100), -13, -29, 4500, 3.0),  # v
    _Consonant("fricative", (250, 1450, 2550), -14, -19, 5200, 0.9),  # z
    _Consonant("plosive", (300, 900, 2100), _SILENT_DB, -16, 800, 2.0),  # p
    _Consonant("plosive", (300, 1700, 2700), _SILENT_DB, -10, 3800, 1.2),  # t
    _Consonant("plosive", (300, 1900, 2300), _SILENT_DB, -10, 1900, 0.8),  # k
    _Consonant("plosive", (220, 900, 2100), -24, -18, 800, 2.0),  # b
    _Consonant("plosive", (220, 1700, 2700), -24, -13, 3800, 1.2),  # d
    _Consonant("plosive", (220, 1900, 2300), -24, -13, 1900, 0.8),  # g
)
UNVOICED_DB = -60.0  # at this level and below, nothing sounds


@dataclass(frozen=True)
class Talker:
    """A voice: everything that stays the same between utterances."""

    name: str
    f0_hz: float
    f0_range_semitones: float
    tract_scale: float  # formants relative to a male tract of 17.5 cm
    syllables_per_s: float
    mean_pause_s: float
    breath_db: float
    glottal_hz: float  # spectral corner of the glottal pulse
    jitter: float
    shimmer: float
    vowels_hz: np.ndarray  # (n_vowels, 3)
    upper_formants_hz: tuple[float, float]
    vowel_weights: np.ndarray
    consonant_weights: np.ndarray


# F0 in Hz and tract scale per voice group (Peterson & Barney 1952, table II, with the usual spread)
_GROUPS = (((85.0, 150.0), (0.92, 1.06)), ((160.0, 250.0), (1.08, 1.22)), ((235.0, 320.0), (1.22, 1.36)))
_GROUP_CYCLE = (0, 1, 0, 1, 2)


@lru_cache(maxsize=256)
def make_talker(index: int, seed: int) -> Talker:
    """Make the voice number `index` of a population: men, women and children in the ratio 2:2:1.

    >>> talker = make_talker(3, seed=0)
    >>> talker.name, talker.f0_hz == make_talker(3, seed=0).f0_hz
    ('talker_03', True)
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1, index])))
    f0_range, scale_range = _GROUPS[_GROUP_CYCLE[index % len(_GROUP_CYCLE)]]
    scale = rng.uniform(*scale_range)
    f0_hz = float(np.exp(rng.uniform(np.log(f0_range[0]), np.log(f0_range[1]))))
    individual = rng.normal(1.0, 0.04, size=_VOWELS_HZ.shape) * rng.normal(1.0, 0.03, size=(1, 3))
    return Talker(
        name=f"talker_{index:02d}",
        f0_hz=f0_hz,
        f0_range_semitones=rng.uniform(2.0, 6.0),
        tract_scale=scale,
        syllables_per_s=rng.uniform(3.6, 6.0),
        mean_pause_s=rng.uniform(0.15, 0.4),
        breath_db=rng.uniform(-30.0, -16.0),
        glottal_hz=rng.uniform(300.0, 900.0),
        jitter=rng.uniform(0.004, 0.012),
        shimmer=rng.uniform(0.03, 0.1),
        vowels_hz=_VOWELS_HZ * scale * np.clip(individual, 0.85, 1.15),
        upper_formants_hz=(scale * rng.uniform(3300.0, 3700.0), scale * rng.uniform(4300.0, 4800.0)),
        vowel_weights=rng.dirichlet(np.full(len(_VOWELS_HZ), 4.0)),
        consonant_weights=rng.dirichlet(np.full(len(_CONSONANTS), 4.0)),
    )


# --- what is said ---


@dataclass(frozen=True)
class Segment:
    """A stretch with constant targets; levels in dB, frequencies in Hz."""

    duration_s: float
    formants_hz: tuple[float, float, float]
    voicing_db: float = _SILENT_DB
    aspiration_db: float = _SILENT_DB
    frication_db: float = _SILENT_DB
    frication_hz: float = 1000.0
    frication_width: float = 1.0
    nasal_zero_hz: float = NASAL_POLE_HZ
    pitch_semitones: float = 0.0
    ends_phrase: bool = False


def plan_utterance(talker: Talker, duration_s: float, rng: np.random.Generator) -> list[Segment]:
    """Plan phrases and pauses until the time is filled; the first phrase is entered somewhere in its middle."""
    segments: list[Segment] = []
    remaining_s = duration_s
    n_words = int(rng.integers(1, 6))
    while remaining_s > 0:
        phrase = _phrase(talker, n_words, rng)
        pause_s = talker.mean_pause_s * rng.uniform(0.4, 1.8)
        last = phrase[-1]
        phrase.append(Segment(pause_s, last.formants_hz, pitch_semitones=last.pitch_semitones, ends_phrase=True))
        segments += phrase
        remaining_s -= sum(segment.duration_s for segment in phrase)
        n_words = int(rng.integers(2, 7))
    return segments


def _phrase(talker: Talker, n_words: int, rng: np.random.Generator) -> list[Segment]:
    segments: list[Segment] = []
    top = 0.5 * talker.f0_range_semitones
    for word in range(n_words):
        n_syllables = int(rng.integers(1, 4))
        stressed = int(rng.integers(n_syllables))
        for syllable in range(n_syllables):
            declination = top * (1.0 - 2.0 * (word + syllable / n_syllables) / n_words)
            accent = rng.uniform(0.3, 0.7) * talker.f0_range_semitones if syllable == stressed else 0.0
            level_db = (0.0 if syllable == stressed else -4.0) + rng.normal(0.0, 1.5) - 2.0 * word / n_words
            segments += _syllable(talker, declination + accent, level_db, syllable == stressed, rng)
    return segments


def _syllable(talker: Talker, pitch: float, level_db: float, stressed: bool, rng: np.random.Generator) -> list[Segment]:
    tempo = talker.syllables_per_s / 4.5 * rng.uniform(0.85, 1.15)
    vowel = int(rng.choice(len(_VOWELS_HZ), p=talker.vowel_weights))
    formants = talker.vowels_hz[vowel] * rng.normal(1.0, 0.02, size=3)
    vowel_s = (rng.uniform(0.11, 0.19) if stressed else rng.uniform(0.06, 0.11)) / tempo
    segments = []
    if rng.random() < 0.85:
        segments += _consonant(talker, pitch, level_db, tempo, rng)
    segments.append(
        Segment(
            vowel_s, tuple(formants), level_db + _VOWEL_DB[vowel], level_db + talker.breath_db, pitch_semitones=pitch
        )
    )
    if rng.random() < 0.35:
        segments += _consonant(talker, pitch, level_db - 3.0, tempo, rng)
    return segments


def _consonant(talker: Talker, pitch: float, level_db: float, tempo: float, rng: np.random.Generator) -> list[Segment]:
    consonant = _CONSONANTS[int(rng.choice(len(_CONSONANTS), p=talker.consonant_weights))]
    first, second, third = (talker.tract_scale * formant for formant in consonant.formants_hz)
    common = {
        "formants_hz": (first, second, third),
        "frication_hz": consonant.frication_hz * np.sqrt(talker.tract_scale),
        "frication_width": consonant.frication_width,
        "nasal_zero_hz": consonant.nasal_zero_hz,
        "pitch_semitones": pitch,
    }
    voicing_db = level_db + consonant.voicing_db
    frication_db = level_db + consonant.frication_db
    if consonant.kind != "plosive":
        duration_s = (rng.uniform(0.05, 0.09) if consonant.kind == "sonorant" else rng.uniform(0.07, 0.12)) / tempo
        return [Segment(duration_s, voicing_db=voicing_db, frication_db=frication_db, **common)]
    closure = Segment(rng.uniform(0.04, 0.08) / tempo, voicing_db=voicing_db, **common)
    burst = Segment(rng.uniform(0.008, 0.016), voicing_db=voicing_db, frication_db=frication_db, **common)
    if consonant.voicing_db > UNVOICED_DB:
        return [closure, burst]
    return [closure, burst, Segment(rng.uniform(0.02, 0.045), aspiration_db=level_db - 14.0, **common)]
