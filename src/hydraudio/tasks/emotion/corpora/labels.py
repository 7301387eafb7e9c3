"""The emotion classes of a corpus, in the order on which everything else depends, and what training aims at.

Training targets are pure functions of the labels of a turn and of the classes. `hard` is the consensus. `soft_p` shares
the primary labels of all raters, `soft_s` all mentions, primary and secondary (all-inclusive labels, Chou et al. 2024);
`merged` weights the two (e.g. .9 and .1). Turns whose consensus is none of the classes (O, X) have soft targets where
somebody named a class. `smooth` is EMO-SUPERB's label smoothing (Wu et al. 2024), q' = q (1 - e) + (1 - q) e / (C - 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hydraudio.tasks.emotion.corpora.utterances import Utterance

NAMES_OF = {
    "A": ("Angry", "Anger"),
    "S": ("Sad", "Sadness"),
    "H": ("Happy", "Happiness"),
    "U": ("Surprise", "Surprised"),
    "F": ("Fear", "Fearful"),
    "D": ("Disgust", "Disgusted"),
    "C": ("Contempt",),
    "N": ("Neutral",),
    "L": ("Calm",),
    "E": ("Excited", "Excitement"),
    "R": ("Frustrated", "Frustration"),
    "O": ("Other",),
    "X": ("No agreement",),
}
"""Letter -> its name and what else the class is called. The letters A, S, H, U, F, D, C, N, O and X are MSP-PODCAST's;
L (RAVDESS), E and R (IEMOCAP) are ours."""

MSP_LETTERS = ("A", "S", "H", "U", "F", "D", "C", "N", "O", "X")
"""What the column EmoClass of MSP-PODCAST may hold; the first eight, in this order, are the primary set."""

EMOTIONS = {NAMES_OF[letter][0].lower(): letter for letter in MSP_LETTERS[:8]}
"""Name of a primary emotion -> letter: angry, sad, happy, surprise, fear, disgust, contempt, neutral."""

SETS = {
    "4": "A S H N",
    "5": "A S H U N",
    "6": "A S H U C N",
    "8": "A S H U F D C N",
    "9": "A S H U F D C N O",
    "10": "A S H U F D C N O X",
}
"""Number of classes -> letters for MSP-PODCAST, always in the order of the set of 8, which is that of
processed_labels.csv. 4 are the classes of IEMOCAP's protocol; 5 and 6 add the next most frequent ones (surprise, then
contempt: 2,992 and 2,519 training turns of the Interspeech 2025 cut, 6,245 and 5,985 turns of release 2.0). 9 counts
turns without agreement as Other, 10 keeps both as classes of their own."""

CORPUS_SETS = {
    "iemocap_4": ("Neutral", "Happy", "Angry", "Sad"),
    "crema_d_6": ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad"),
    "ravdess_8": ("Neutral", "Calm", "Happy", "Sad", "Angry", "Fearful", "Disgust", "Surprised"),
}
"""Name of a set -> its names: IEMOCAP in the order of SUPERB's emotion recognition (happy includes excited), CREMA-D
and RAVDESS in the order of the codes in their file names."""

_LETTER_OF = {name.lower(): letter for letter, names in NAMES_OF.items() for name in names}


def letter_of(text: str) -> str:
    """Return the letter of a class's letter or name (any case for names).

    Raises:
        ValueError: no class is called so.
    """
    if text in NAMES_OF:
        return text
    if text.strip().lower() in _LETTER_OF:
        return _LETTER_OF[text.strip().lower()]
    known = ", ".join(f"{names[0]} ({letter})" for letter, names in NAMES_OF.items())
    raise ValueError(f"unknown emotion class {text!r}; the classes are {known}")


@dataclass(frozen=True)
class EmotionClasses:
    """An ordered set of emotion classes.

    Attributes:
        names: C names, in the order of the class index.
        letters: C letters, the identity of a class (`Fear` and `Fearful` are both F).
        folded: letters that count as another class, e.g. {"X": "O"} in the set of 9.

    >>> classes = EmotionClasses.of(4)
    >>> classes.names, classes.label_of("H"), classes.label_of("F")
    (('Angry', 'Sad', 'Happy', 'Neutral'), 2, -1)
    """

    names: tuple[str, ...]
    letters: tuple[str, ...]
    folded: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.letters):
            raise ValueError(f"{len(self.names)} names for {len(self.letters)} letters; give one name per letter")
        if len(self.letters) < 2:
            raise ValueError(f"a set of classes needs at least two of them, got {list(self.names)}")
        for letter, name in zip(self.letters, self.names, strict=True):
            if letter_of(name) != letter:
                raise ValueError(f"the class {name!r} has the letter {letter_of(name)}, not {letter!r}")
            if self.letters.count(letter) > 1:
                raise ValueError(f"the class {name!r} occurs twice in {list(self.names)}; name each class once")
        if not set(self.folded.values()) <= set(self.letters) or set(self.folded) & set(self.letters):
            raise ValueError(f"cannot fold {dict(self.folded)} into the classes {list(self.letters)}")

    @classmethod
    def of(cls, classes: int | str | Sequence[str]) -> EmotionClasses:
        """Return the classes that a configuration names.

        Args:
            classes: 4, 5, 6, 8, 9 or 10 (`SETS`), a key of `CORPUS_SETS`, or a list of names or letters in the
                wanted order.

        Raises:
            ValueError: unknown set or class, or a class twice.
        """
        if isinstance(classes, (int, str)):
            return cls._of_set(str(classes))
        given = [str(name) for name in classes]
        letters = tuple(letter_of(name) for name in given)
        names = (
            NAMES_OF[letter][0] if name == letter else name.strip() for name, letter in zip(given, letters, strict=True)
        )
        return cls(tuple(names), letters)

    @classmethod
    def _of_set(cls, key: str) -> EmotionClasses:
        if key in CORPUS_SETS:
            return cls.of(CORPUS_SETS[key])
        if key not in SETS:
            known = ", ".join((*SETS, *CORPUS_SETS))
            raise ValueError(f"no set of classes {key!r}; the sets are {known}, or give a list of names")
        letters = tuple(SETS[key].split())
        return cls(tuple(NAMES_OF[letter][0] for letter in letters), letters, folded={"X": "O"} if key == "9" else {})

    def __len__(self) -> int:
        return len(self.letters)

    def label_of(self, letter: str) -> int:
        """Return the index of a letter's class, -1 where it belongs to none of them (also for an empty letter)."""
        letter = self.folded.get(letter, letter)
        return self.letters.index(letter) if letter in self.letters else -1


KINDS = ("hard", "soft_p", "soft_s", "merged")


def make_target(
    utterance: Utterance,
    classes: EmotionClasses,
    kind: str,
    merge_weights: Sequence[float] = (0.9, 0.1),
    smoothing: float = 0.0,
) -> np.ndarray | None:
    """Return (C,) float32 that sums to 1, or None where the turn has no such target.

    Args:
        kind: one of `KINDS`.
        merge_weights: w1 and w2 in w1 P + w2 S, for "merged" only.
        smoothing: e of the smoothing, from 0 to below 1.
    """
    if kind == "merged":
        target = merged(utterance, classes, merge_weights)
    else:
        target = {"hard": hard, "soft_p": primary_shares, "soft_s": mention_shares}[kind](utterance, classes)
    if target is None:
        return None
    return smooth(_normalised(target), smoothing)


def hard(utterance: Utterance, classes: EmotionClasses) -> np.ndarray | None:
    """Return (C,) one-hot consensus; None where it is none of the classes."""
    label = classes.label_of(utterance.letter)
    if label < 0:
        return None
    target = np.zeros(len(classes), dtype=np.float32)
    target[label] = 1.0
    return target


def primary_shares(utterance: Utterance, classes: EmotionClasses) -> np.ndarray | None:
    """Return (C,) share of ALL raters per primary label; sums to less than 1 where some chose none of the classes.

    None where nobody chose any.
    """
    return _shares(utterance.votes, classes)


def mention_shares(utterance: Utterance, classes: EmotionClasses) -> np.ndarray | None:
    """Return (C,) share of the mentions, primary and secondary, of these classes; sums to 1. None without any."""
    shares = _shares(utterance.mentions, classes)
    return None if shares is None else _normalised(shares)


def merged(utterance: Utterance, classes: EmotionClasses, weights: Sequence[float]) -> np.ndarray | None:
    """Return (C,) w1 P + w2 S, sums to 1; None where there is no P."""
    primary, mentions = primary_shares(utterance, classes), mention_shares(utterance, classes)
    if primary is None or mentions is None:
        return None
    mixed = weights[0] * primary + weights[1] * mentions
    return _normalised(mixed) if mixed.sum() > 0 else None


def smooth(target: np.ndarray, epsilon: float) -> np.ndarray:
    """Return (C,) q (1 - e) + (1 - q) e / (C - 1); a target that sums to 1 still does.

    >>> (100 * smooth(np.array([1.0, 0.0, 0.0]), 0.1)).round().tolist()
    [90.0, 5.0, 5.0]
    """
    smoothed = target * (1 - epsilon) + (1 - target) * epsilon / (len(target) - 1)
    return smoothed.astype(np.float32)


def vote_distribution(utterance: Utterance, classes: EmotionClasses) -> np.ndarray:
    """Return (C,) float32 primary labels renormalised to sum 1; NaN where they are not known or name no class."""
    shares = primary_shares(utterance, classes)
    return np.full(len(classes), np.nan, dtype=np.float32) if shares is None else _normalised(shares)


def label_of_target(target: np.ndarray) -> int:
    """Return the class index with the largest share; the lowest index of several."""
    return int(np.argmax(target))


def _shares(letters: Mapping[str, float], classes: EmotionClasses) -> np.ndarray | None:
    shares = np.zeros(len(classes), dtype=np.float64)
    for letter, share in letters.items():
        label = classes.label_of(letter)
        if label >= 0:
            shares[label] += share
    return shares.astype(np.float32) if shares.sum() > 0 else None


def _normalised(shares: np.ndarray) -> np.ndarray:
    exact = shares.astype(np.float64)
    return (exact / exact.sum()).astype(np.float32)
