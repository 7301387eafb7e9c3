"""How an emotion sounds on a synthetic talker.

A speaker's state (arousal, valence, dominance and a mixture of classes) moves the parameters of the voice away from the
neutral way of speaking: level and range of the pitch, tempo, pauses, vocal effort (spectral tilt), breathiness,
jitter, shimmer, articulation, and the shape of the intonation. The directions are the tendencies that reviews of acted
and spontaneous speech agree on (Banse & Scherer 1996, J. Pers. Soc. Psychol. 70(3); Juslin & Laukka 2003, Psychol.
Bull. 129(5); Scherer 2003, Speech Communication 40); the sizes are chosen, not measured. Speakers differ in how they
express themselves, and no two turns are alike, so that the state can be guessed from the sound, but not read off it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.parallel import map_in_processes
from hydraudio.core.sampling import generator
from hydraudio.sounds.formant_synthesis import sound
from hydraudio.sounds.talkers import UNVOICED_DB, Segment, Talker, make_talker, plan_utterance

AFFECT_OF: dict[str, tuple[float, float, float]] = {
    "A": (5.3, 2.4, 5.3),
    "S": (2.8, 2.5, 3.0),
    "H": (4.9, 5.5, 4.6),
    "U": (5.1, 4.3, 4.1),
    "F": (5.1, 2.5, 2.7),
    "D": (3.8, 2.4, 4.4),
    "C": (3.6, 3.1, 4.8),
    "N": (3.7, 4.1, 4.0),
}
"""Letter of an emotion -> usual arousal, valence and dominance, 1..7: angry, sad, happy, surprise, fear, disgust,
contempt, neutral."""

_LEVEL_DB = -25.0  # usual RMS of a recording against full scale
_MAX_PEAK = 0.95
_HISS_DB = -28.0  # of a breathy voice above its harmonics, before the breathiness is added
_HISS = {"frication_hz": 4000.0, "frication_width": 1.5}
_WEAK_DB = -3.0  # vowels below this are not stressed


@dataclass(frozen=True)
class Prosody:
    """Changes of the voice against neutral speech; 0 everywhere is the talker's neutral voice.

    Attributes:
        pitch_semitones: level of F0.
        range_octaves: factor of the F0 range, as a power of two.
        tempo_octaves: factor of the syllable rate, as a power of two.
        pause_octaves: factor of the length of pauses, as a power of two.
        effort_octaves: shift of the corner of the glottal spectrum; a louder voice has more high partials.
        breath_db: level of the breath noise in voiced sounds.
        jitter_octaves: factor of the irregularity of cycle lengths, as a power of two.
        shimmer_octaves: factor of the irregularity of cycle strengths, as a power of two.
        smile_octaves: shift of the formants; spread lips shorten the vocal tract.
        stress_db: how much unstressed sounds are lowered (positive) or evened out (negative).
        rise_semitones: tilt of the intonation over each phrase; positive rises to its end.
        unsteady_semitones: standard deviation of F0 from sound to sound; a trembling voice.
        level_db: loudness.
    """

    pitch_semitones: float = 0.0
    range_octaves: float = 0.0
    tempo_octaves: float = 0.0
    pause_octaves: float = 0.0
    effort_octaves: float = 0.0
    breath_db: float = 0.0
    jitter_octaves: float = 0.0
    shimmer_octaves: float = 0.0
    smile_octaves: float = 0.0
    stress_db: float = 0.0
    rise_semitones: float = 0.0
    unsteady_semitones: float = 0.0
    level_db: float = 0.0


DIMENSIONS = tuple(field.name for field in fields(Prosody))

# rows: change per unit of arousal, valence and dominance, each from -1 (rating 1) to 1 (rating 7)
_AFFECT_EFFECTS = np.array(
    [
        # pitch range tempo pause effort breath jitter shimmer smile stress rise unsteady level
        (5.0, 1.0, 0.5, -1.2, 2.0, -5.0, 0.3, 0.3, 0.00, 1.5, 0.5, 0.2, 10.0),  # arousal
        (0.8, 0.4, 0.10, -0.2, 0.2, -1.0, -0.6, -0.4, 0.10, 0.8, 1.0, -0.2, 0.0),  # valence
        (-1.5, 0.1, -0.05, -0.2, 0.5, -4.0, -0.3, -0.2, -0.03, 1.0, -1.5, -0.3, 3.0),  # dominance
    ]
)

# what arousal, valence and dominance leave open
_CLASS_EFFECTS: dict[str, tuple[float, ...]] = {
    "A": (0.0, 0.5, 0.2, -0.6, 1.2, -5.0, 0.5, 1.6, 0.00, 4.5, -4.5, 0.0, 3.5),
    "S": (-2.0, -1.3, -0.3, 1.4, -1.0, 9.0, 0.5, 0.4, -0.04, -2.5, -2.5, 0.4, -3.5),
    "H": (3.5, 0.9, 0.1, -0.4, 0.2, -2.0, -0.4, -0.4, 0.14, 1.0, 1.0, 0.0, 0.0),
    "U": (5.5, 1.4, -0.4, 0.4, 0.3, 8.0, 0.0, 0.0, 0.05, 1.0, 11.0, 0.0, 0.0),
    "F": (5.0, -1.6, 0.6, 0.6, -1.0, 16.0, 2.5, 1.4, 0.04, -3.5, 2.5, 2.9, -3.5),
    "D": (-3.5, -0.2, -0.7, 0.4, -0.5, 2.0, 3.0, 2.2, -0.16, 2.0, -2.0, 0.0, 0.0),
    "C": (-4.0, -1.3, -0.5, -0.8, 1.2, -5.0, -0.7, -0.9, 0.00, -3.5, -5.5, -0.4, -2.0),
    "N": (0.0, -0.4, 0.0, 0.0, 0.0, 0.0, -0.4, -0.4, 0.00, 0.0, 0.0, 0.0, 0.0),
}
# standard deviation from turn to turn that nothing explains
_TURN_SPREAD = np.array((0.8, 0.18, 0.07, 0.25, 0.18, 1.3, 0.2, 0.18, 0.01, 0.6, 0.7, 0.1, 2.0))


def make_manner(index: int, seed: int) -> np.ndarray:
    """Say how speaker number `index` expresses emotions: a factor of every dimension, (len(DIMENSIONS),) float64 >=
    0.2.

    Some speakers show more of everything, and each relies more on some means than on others.
    """
    rng = generator(seed, 6, index)
    expressiveness = np.exp(rng.normal(0.0, 0.15))
    return np.maximum(expressiveness * rng.normal(1.0, 0.25, len(DIMENSIONS)), 0.2)


def make_prosody(
    affect: Sequence[float], classes: Mapping[str, float], manner: np.ndarray, rng: np.random.Generator
) -> Prosody:
    """Return the prosody of one turn.

    Args:
        affect: arousal, valence and dominance, 1..7.
        classes: share of each emotion that is felt, by letter; may sum to less than 1.
        manner: of the speaker, see `make_manner`.
        rng: of what is different in every turn.

    Raises:
        ValueError: affect outside 1..7 or an unknown letter.
    """
    if len(affect) != 3 or not all(1.0 <= value <= 7.0 for value in affect):
        raise ValueError(f"affect is {affect}; arousal, valence and dominance must lie in 1..7")
    if not set(classes) <= set(_CLASS_EFFECTS):
        raise ValueError(f"classes are {sorted(classes)}; the letters are {sorted(_CLASS_EFFECTS)}")
    effects = (np.asarray(affect) - 4.0) / 3.0 @ _AFFECT_EFFECTS
    for letter, share in classes.items():
        effects = effects + share * np.array(_CLASS_EFFECTS[letter])
    values = manner * effects + rng.normal(0.0, _TURN_SPREAD)
    return Prosody(**dict(zip(DIMENSIONS, map(float, values), strict=True)))


def speak_with(
    talker: Talker, prosody: Prosody, n_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return an utterance in this prosody.

    Returns:
        (n_samples,) float32; RMS over its sounding parts is 10 ** (level_db / 20).
    """
    moved = _adapt(talker, prosody)
    segments = _intone(plan_utterance(moved, n_samples / sample_rate, rng), prosody, rng)
    return sound(moved, segments, n_samples, sample_rate, rng) * np.float32(10.0 ** (prosody.level_db / 20.0))


def perform(
    voice: int,
    seed: int,
    affect: Sequence[float],
    classes: Mapping[str, float],
    n_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a recording of one turn by an adult voice: prosody, what is left of its loudness, a little noise.

    Args:
        voice: number in the population of `seed`; even ones are men's, odd ones women's.
        seed: of the population.
        affect: as for `make_prosody`, likewise `classes`.
        n_samples: length.
        sample_rate: in Hz.
        rng: of the turn.

    Returns:
        (n_samples,) float32 within +-0.95.
    """
    talker, manner = _adult(voice, seed)
    prosody = make_prosody(affect, classes, manner, rng)
    # recordings are levelled when they are published, so only part of the loudness is left
    level_db = _LEVEL_DB + rng.normal(0.0, 2.0) + 0.4 * prosody.level_db
    waveform = speak_with(talker, replace(prosody, level_db=level_db), n_samples, sample_rate, rng)
    noise = rng.standard_normal(n_samples, dtype=np.float32)
    waveform = waveform + noise * np.float32(10.0 ** ((_LEVEL_DB - rng.uniform(38.0, 44.0)) / 20.0))
    return waveform * np.float32(min(1.0, _MAX_PEAK / float(np.abs(waveform).max())))


@lru_cache(maxsize=256)
def _adult(voice: int, seed: int) -> tuple[Talker, np.ndarray]:
    """Voice and manner; of every five talkers of a population the fifth is a child.

    Neutral voices differ less in tilt and breathiness than those of the population, so that these tell the emotion.
    """
    number = 5 * (voice // 4) + voice % 4
    talker = make_talker(number, seed)
    trained = replace(
        talker, glottal_hz=float(np.sqrt(520.0 * talker.glottal_hz)), breath_db=-23.0 + 0.4 * (talker.breath_db + 23.0)
    )
    return trained, make_manner(number, seed)


def _adapt(talker: Talker, prosody: Prosody) -> Talker:
    """The voice with everything moved that holds for the whole turn, within what a voice can do."""
    smile = 2.0 ** float(np.clip(prosody.smile_octaves, -0.2, 0.2))
    return replace(
        talker,
        f0_hz=float(np.clip(talker.f0_hz * 2.0 ** (prosody.pitch_semitones / 12.0), 60.0, 500.0)),
        f0_range_semitones=float(np.clip(talker.f0_range_semitones * 2.0**prosody.range_octaves, 0.5, 14.0)),
        syllables_per_s=float(np.clip(talker.syllables_per_s * 2.0**prosody.tempo_octaves, 2.0, 9.0)),
        mean_pause_s=float(np.clip(talker.mean_pause_s * 2.0**prosody.pause_octaves, 0.05, 0.9)),
        breath_db=float(np.clip(talker.breath_db + prosody.breath_db, -40.0, 0.0)),
        glottal_hz=float(np.clip(talker.glottal_hz * 2.0**prosody.effort_octaves, 120.0, 3000.0)),
        jitter=float(np.clip(talker.jitter * 2.0**prosody.jitter_octaves, 0.001, 0.06)),
        shimmer=float(np.clip(talker.shimmer * 2.0**prosody.shimmer_octaves, 0.01, 0.4)),
        tract_scale=talker.tract_scale * smile,
        vowels_hz=talker.vowels_hz * smile,
        upper_formants_hz=(talker.upper_formants_hz[0] * smile, talker.upper_formants_hz[1] * smile),
    )


def _intone(segments: Sequence[Segment], prosody: Prosody, rng: np.random.Generator) -> list[Segment]:
    """The planned sounds with the phrase's tilt, the trembling and the depth of stress laid over."""
    position = _phrase_positions(segments)
    pitch = prosody.rise_semitones * (position - 0.5)
    if prosody.unsteady_semitones > 0.0:
        pitch = pitch + rng.normal(0.0, prosody.unsteady_semitones, len(segments))
    changed = []
    for segment, semitones in zip(segments, pitch, strict=True):
        moved: dict[str, Any] = {"pitch_semitones": segment.pitch_semitones + float(semitones)}
        if UNVOICED_DB < segment.voicing_db < _WEAK_DB:
            moved["voicing_db"] = segment.voicing_db - prosody.stress_db
        if prosody.breath_db > 0.0 and segment.voicing_db > UNVOICED_DB and segment.frication_db < UNVOICED_DB:
            moved |= {"frication_db": segment.voicing_db + _HISS_DB + prosody.breath_db, **_HISS}
        changed.append(replace(segment, **moved))
    return changed


def _phrase_positions(segments: Sequence[Segment]) -> np.ndarray:
    """(segments,) time since the start of the phrase over the phrase's length, 0..1."""
    positions = np.zeros(len(segments))
    start = 0
    for end in (index for index, segment in enumerate(segments) if segment.ends_phrase):
        durations = np.array([segment.duration_s for segment in segments[start:end]])
        positions[start:end] = np.cumsum(durations) / durations.sum()
        positions[end] = 1.0
        start = end + 1
    return positions


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
    """Return the affect and classes of an emotion; strength 0 is neutral."""
    affect, classes = _FELT[code] if code in _FELT else (AFFECT_OF[CODES[code]], {CODES[code]: 1.0})
    neutral = np.array(AFFECT_OF["N"])
    arousal, valence, dominance = np.clip(neutral + strength * (np.array(affect) - neutral), 1.0, 7.0)
    scaled = {letter: strength * share for letter, share in classes.items()}
    return (float(arousal), float(valence), float(dominance)), scaled


@dataclass(frozen=True, kw_only=True)
class EmbeddedClips(EmbeddedCorpus):
    """A corpus of acted clips; a subclass implements :meth:`plan`.

    Attributes:
        min_s: length of the shortest clip.
        max_s: length of the longest clip.
    """

    min_s: float
    max_s: float

    sample_rate = 16000  # of the files, in Hz

    def __post_init__(self) -> None:
        check_lengths(self.min_s, self.max_s)

    def plan(self, root: Path) -> list[Clip]:
        """Write the tables; give what is to be spoken."""
        raise NotImplementedError

    def write(self, root: Path) -> None:
        jobs = list(enumerate(self.plan(root)))
        for _ in map_in_processes(_write_clip, (root, self.sample_rate, self.seed), jobs, self.n_processes):
            pass


def _write_clip(shared: tuple[Path, int, int], job: tuple[int, Clip]) -> None:
    (root, sample_rate, seed), (row, clip) = shared, job
    n_samples = round(clip.length_s * sample_rate)
    rng = generator(seed, 11, row)
    waveform = perform(clip.voice, seed, clip.affect, clip.classes, n_samples, sample_rate, rng)
    write_audio(root / clip.path, waveform, sample_rate)


def check_lengths(min_s: float, max_s: float) -> None:
    """Raise ValueError for clips that cannot be."""
    if not 0.5 <= min_s <= max_s:
        raise ValueError(f"min_s {min_s} and max_s {max_s} must be at least 0.5 s, in this order")
