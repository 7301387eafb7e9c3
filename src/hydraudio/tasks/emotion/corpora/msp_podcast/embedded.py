"""The embedded MSP-PODCAST: synthetic turns with emotional prosody in the corpus's exact layout.

The layout is that of the releases up to 2.0 (Lotfian & Busso 2019, IEEE Trans. Affective Computing 10(4), and the
corpus's readme): `Audios`, `Labels`, `Transcripts`, `Partition.txt`, `Speaker_ids.txt`. The consensus is the plurality
of the written votes and the attributes are the mean of the written ratings, so every file agrees with every other.
Train, development and test speakers are disjoint; the test sets share speakers with each other, as in the corpus.
Frequencies of the classes follow release 2.0 (Test2 its own), but the rarest keep enough turns to be learned.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.parallel import map_in_processes
from hydraudio.core.sampling import generator
from hydraudio.tasks.emotion.corpora.acting import AFFECT_OF, check_lengths, perform
from hydraudio.tasks.emotion.corpora.msp_podcast.embedded_labels import (
    CONSENSUS_FORMS,
    DETAILED_FORMS,
    Turn,
    draw_ratings,
    write_labels,
)

_log = logging.getLogger(__name__)

SAMPLE_RATE = 16000
SPLITS = ("Train", "Development", "Test1", "Test2", "Test3")

# turns of release 2.0, train and Test2; X and O as shares of all turns
_COUNTS = {"A": 22609, "S": 18256, "H": 37048, "U": 3220, "F": 794, "D": 1324, "C": 2765, "N": 51149}
_TEST2_COUNTS = {"A": 538, "S": 581, "H": 2801, "U": 394, "F": 116, "D": 141, "C": 304, "N": 6793}
_NO_AGREEMENT_SHARE, _OTHER_SHARE = 0.19, 0.02
_RAREST = {"Train": 12}  # least number of turns of a class, where there is room
_RAREST_ELSEWHERE = 4
_AGREEMENT = {"Test2": (0.35, 0.75)}
_USUAL_AGREEMENT = (0.45, 0.95)

_MIN_SPEAKERS = 12
_FIRST_UNKNOWN = 100_000  # voices without an identifier
_UNKNOWN_SHARE, _UNKNOWN_PER_SPLIT = 0.12, 3
_SYLLABLES = ("ba", "da", "fen", "go", "ki", "lor", "mi", "nu", "pel", "ra", "sun", "ta", "ve", "wim", "zo")


@dataclass(frozen=True, kw_only=True)
class EmbeddedMSPPodcast(EmbeddedCorpus):
    """The embedded corpus.

    Attributes:
        n_train: turns of Train. Likewise `n_val` (Development), `n_test1`, `n_test2` and `n_test3` (has no labels).
        n_speakers: voices with an identifier; two thirds train, one sixth validates, one sixth tests.
        min_s: length of the shortest turn.
        max_s: length of the longest turn.
        detailed_form: labels_detailed as "csv_2.0" (a row per rater), "csv_1.11" (two columns) or "json".
        consensus_form: labels_consensus as "csv" or "json".
        old_spelling: `labels_concensus`, `Audio` and the split `Validation`, as in the first releases.
    """

    n_train: int = 560
    n_val: int = 180
    n_test1: int = 120
    n_test2: int = 80
    n_test3: int = 40
    n_speakers: int = 36
    min_s: float = 1.2
    max_s: float = 4.0
    detailed_form: str = "csv_2.0"
    consensus_form: str = "csv"
    old_spelling: bool = False

    def __post_init__(self) -> None:
        if min(self.n_train, self.n_val, self.n_test1) < 1 or min(self.n_test2, self.n_test3) < 0:
            raise ValueError(
                f"n_train {self.n_train}, n_val {self.n_val} and n_test1 {self.n_test1} must be at least 1, "
                f"n_test2 {self.n_test2} and n_test3 {self.n_test3} at least 0"
            )
        if self.n_speakers < _MIN_SPEAKERS:
            raise ValueError(
                f"n_speakers is {self.n_speakers}; use at least {_MIN_SPEAKERS}: a sixth of them validates"
            )
        check_lengths(self.min_s, self.max_s)
        if self.detailed_form not in DETAILED_FORMS:
            raise ValueError(f"detailed_form is {self.detailed_form!r}; choose one of {', '.join(DETAILED_FORMS)}")
        if self.consensus_form not in CONSENSUS_FORMS:
            raise ValueError(f"consensus_form is {self.consensus_form!r}; choose one of {', '.join(CONSENSUS_FORMS)}")

    def n_turns(self) -> dict[str, int]:
        """Count the turns of every split."""
        counts = (self.n_train, self.n_val, self.n_test1, self.n_test2, self.n_test3)
        return dict(zip(SPLITS, counts, strict=True))

    def speakers(self, split: str) -> list[int]:
        """Four of six train, one validates, one tests; neighbouring test sets share some."""
        places = {"Train": (0, 1, 2, 3), "Development": (4,)}.get(split, (5,))
        # by pairs, so that each split has a man for each woman
        speakers = [index for index in range(self.n_speakers) if index // 2 % 6 in places]
        shares = {"Test1": slice(-(-2 * len(speakers) // 3)), "Test2": slice(len(speakers) // 2, None)}
        return speakers[{**shares, "Test3": slice(-2, None)}.get(split, slice(None))]

    def write(self, root: Path) -> None:
        plans = [plan for split in SPLITS for plan in _plan_split(self, split)]
        audio_folder = "Audio" if self.old_spelling else "Audios"
        for name in (audio_folder, "Labels", "Transcripts"):
            (root / name).mkdir()
        for _ in map_in_processes(_write_turn, (self, root / audio_folder), plans, self.n_processes):
            pass
        _write_texts(root, self, plans)
        _log.info("wrote %s turns of %s", " + ".join(map(str, self.n_turns().values())), root.name)


# --- what is said by whom ---


@dataclass(frozen=True)
class _Plan:
    """One turn before it is spoken; `voice` is what sounds, `speaker` what the files call it."""

    split: str
    row: int
    file_name: str
    voice: int
    speaker: str
    gender: str
    letter: str
    felt: Mapping[str, float]
    affect: tuple[float, float, float]
    agreement: float


def _rng(spec: EmbeddedMSPPodcast, purpose: int, split: str, row: int = 0) -> np.random.Generator:
    return generator(spec.seed, purpose, SPLITS.index(split), row)


def _plan_split(spec: EmbeddedMSPPodcast, split: str) -> list[_Plan]:
    rng = _rng(spec, 8, split)
    n_turns = spec.n_turns()[split]
    letters = rng.permutation(_letters(split, n_turns))
    voices = _draw_voices(spec, split, n_turns, rng)
    names = _file_names(split, voices, rng)
    plans = []
    for row, (letter, voice, name) in enumerate(zip(letters, voices, names, strict=True)):
        felt, affect = _draw_state(str(letter), rng)
        agreement = float(rng.uniform(*_AGREEMENT.get(split, _USUAL_AGREEMENT)))
        plans.append(_Plan(split, row, name, voice, *_identity(voice), str(letter), felt, affect, agreement))
    return plans


def _letters(split: str, n_turns: int) -> list[str]:
    """The consensus of every turn: frequencies of the corpus with a floor for the rarest; Test3 is balanced."""
    if split == "Test3":
        return [tuple(AFFECT_OF)[row % len(AFFECT_OF)] for row in range(n_turns)]
    n_x, n_other = round(_NO_AGREEMENT_SHARE * n_turns), round(_OTHER_SHARE * n_turns)
    n_left = n_turns - n_x - n_other
    floor = min(_RAREST.get(split, _RAREST_ELSEWHERE), max(n_left // 16, int(n_left >= len(AFFECT_OF))))
    counts = _TEST2_COUNTS if split == "Test2" else _COUNTS
    shares = {letter: count / sum(counts.values()) * n_left for letter, count in counts.items()}
    wanted = {letter: max(int(share), floor) for letter, share in shares.items()}
    while (missing := n_left - sum(wanted.values())) != 0:
        over = {letter: wanted[letter] - shares[letter] for letter in wanted if missing > 0 or wanted[letter] > floor}
        letter = min(over, key=over.__getitem__) if missing > 0 else max(over, key=over.__getitem__)
        wanted[letter] += 1 if missing > 0 else -1
    letters = [letter for letter, count in wanted.items() for _ in range(count)]
    return [*letters, *["X"] * n_x, *["O"] * n_other]


def _draw_voices(spec: EmbeddedMSPPodcast, split: str, n_turns: int, rng: np.random.Generator) -> list[int]:
    """A voice for every turn; some have no identifier."""
    speakers = spec.speakers(split)
    first = _FIRST_UNKNOWN + 2 * _UNKNOWN_PER_SPLIT * SPLITS.index(split)
    n_unknown = round(_UNKNOWN_SHARE * n_turns)
    voices = [speakers[row % len(speakers)] for row in range(n_turns - n_unknown)]
    voices += [first + row % _UNKNOWN_PER_SPLIT for row in range(n_unknown)]
    return [int(voice) for voice in rng.permutation(voices)]


def _identity(voice: int) -> tuple[str, str]:
    """Speaker and gender as the tables give them."""
    gender = "Female" if voice % 2 else "Male"
    if voice < _FIRST_UNKNOWN:
        return str(voice + 1), gender
    return "Unknown", "Unknown" if voice % 3 == 0 else gender


def _file_names(split: str, voices: list[int], rng: np.random.Generator) -> list[str]:
    """`MSP-PODCAST_<podcast>_<turn>.wav`, in a tenth of the podcasts with a third number; two podcasts per voice."""
    if split == "Test3":
        return [f"MSP-PODCAST_test3_{row + 1:04d}.wav" for row in range(len(voices))]
    n_turns: Counter[int] = Counter()
    offset = 2000 * SPLITS.index(split)
    podcasts = {voice: offset + 2 * place + 1 for place, voice in enumerate(sorted(set(voices)))}
    names = []
    for voice in voices:
        podcast = podcasts[voice] + int(rng.integers(2))
        n_turns[podcast] += int(rng.integers(1, 12))
        third = f"_{int(rng.integers(1, 10)):04d}" if podcast % 10 == 3 else ""
        names.append(f"MSP-PODCAST_{podcast:04d}_{n_turns[podcast]:04d}{third}.wav")
    return names


def _draw_state(letter: str, rng: np.random.Generator) -> tuple[dict[str, float], tuple[float, float, float]]:
    """What is felt: shares of the emotions, and arousal, valence and dominance."""
    if letter == "O":
        felt, centre = {}, np.array((4.3, 3.4, 4.1))
    elif letter == "X":
        pair = rng.choice(tuple(AFFECT_OF), size=2, replace=False, p=(0.15, 0.13, 0.2, 0.1, 0.05, 0.07, 0.1, 0.2))
        felt = {str(one): 0.5 for one in pair}
        centre = np.mean([AFFECT_OF[one] for one in felt], axis=0)
    else:
        felt, centre = {letter: float(rng.uniform(0.7, 1.2))}, np.array(AFFECT_OF[letter])
    arousal, valence, dominance = np.clip(centre + rng.normal(0.0, 0.6, 3), 1.0, 7.0)
    return felt, (float(arousal), float(valence), float(dominance))


# --- what is written ---


def _write_turn(shared: tuple[EmbeddedMSPPodcast, Path], plan: _Plan) -> None:
    spec, folder = shared
    rng = _rng(spec, 9, plan.split, plan.row)
    length_s = spec.min_s + (spec.max_s - spec.min_s) * rng.beta(1.1, 1.6)  # skewed like the turns of the corpus
    n_samples = round(length_s * SAMPLE_RATE)
    waveform = perform(plan.voice, spec.seed, plan.affect, plan.felt, n_samples, SAMPLE_RATE, rng)
    write_audio(folder / plan.file_name, waveform, SAMPLE_RATE)


def _write_texts(root: Path, spec: EmbeddedMSPPodcast, plans: list[_Plan]) -> None:
    shown = {"Development": "Validation"} if spec.old_spelling else {}
    turns = []
    for plan in plans:
        rng = _rng(spec, 10, plan.split, plan.row)
        words = ["".join(rng.choice(_SYLLABLES, size=rng.integers(1, 4))) for _ in range(int(rng.integers(3, 14)))]
        stem = Path(plan.file_name).stem
        (root / "Transcripts" / f"{stem}.txt").write_text(f"{' '.join(words)}\n", encoding="utf-8")
        if plan.split != "Test3":
            ratings = draw_ratings(plan.letter, plan.felt, plan.affect, plan.agreement, rng)
            split = shown.get(plan.split, plan.split)
            turns.append(Turn(plan.file_name, plan.speaker, plan.gender, split, ratings))
    turns.sort(key=lambda turn: turn.file_name)
    write_labels(root / "Labels", turns, spec.detailed_form, spec.consensus_form, spec.old_spelling)
    ordered = sorted(plans, key=lambda plan: (SPLITS.index(plan.split), plan.file_name))
    partition = [f"{shown.get(plan.split, plan.split)}; {plan.file_name}\n" for plan in ordered]
    (root / "Partition.txt").write_text("".join(partition), encoding="utf-8")
    known = {int(plan.speaker): plan.gender for plan in plans if plan.speaker != "Unknown"}
    genders = [f"Speaker_{speaker}; {gender}\n" for speaker, gender in sorted(known.items())]
    speakers = [f"{plan.file_name};{plan.speaker}\n" for plan in ordered]
    (root / "Speaker_ids.txt").write_text("".join([*genders, "\n", *speakers]), encoding="utf-8")
    (root / "readme.txt").write_text(_README.format(**spec.n_turns()), encoding="utf-8")


_README = """Synthetic miniature in the layout of MSP-PODCAST. No recorded speech; the words mean nothing.

Audios (or Audio)   16 kHz, mono, 16 bit
Labels              labels.txt, consensus and detailed labels
Transcripts         invented words
Partition.txt       split of every file: Train {Train}, Development {Development},
                    Test1 {Test1}, Test2 {Test2}, Test3 {Test3}
Speaker_ids.txt     gender of the speakers, speaker of every file

Test3 has no labels.
"""
