"""Training targets of a turn: pure functions of its labels and of the classes.

`hard` is the consensus. `soft_p` shares the primary labels of all raters, `soft_s` all mentions, primary and secondary
(all-inclusive labels, Chou et al. 2024); `merged` weights the two (e.g. .9 and .1). Turns whose consensus is none of
the classes (O, X) have soft targets where somebody named a class. `smooth` is EMO-SUPERB's label smoothing (Wu et al.
2024), q' = q (1 - e) + (1 - q) e / (C - 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hydraudio.tasks.emotion.corpora.classes import EmotionClasses
from hydraudio.tasks.emotion.corpora.utterances import Utterance

KINDS = ("hard", "soft_p", "soft_s", "merged")


def make_target(
    utterance: Utterance,
    classes: EmotionClasses,
    kind: str,
    merge_weights: Sequence[float] = (0.9, 0.1),
    smoothing: float = 0.0,
) -> np.ndarray | None:
    """(C,) float32 that sums to 1, or None where the turn has no such target.

    Args:
        kind: one of `KINDS`.
        merge_weights: weights of P and S, for "merged" only.
        smoothing: e of the smoothing, from 0 to below 1.

    Raises:
        ValueError: unknown kind, or weights or smoothing out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"targets {kind!r}; choose one of {', '.join(KINDS)}")
    if kind == "merged":
        target = merged(utterance, classes, merge_weights)
    else:
        shares = {"hard": hard, "soft_p": primary_shares, "soft_s": mention_shares}[kind]
        target = shares(utterance, classes)
    if target is None:
        return None
    return smooth(_normalised(target), smoothing)


def hard(utterance: Utterance, classes: EmotionClasses) -> np.ndarray | None:
    """(C,) one-hot consensus; None where it is none of the classes."""
    label = classes.label_of(utterance.letter)
    if label < 0:
        return None
    target = np.zeros(len(classes), dtype=np.float32)
    target[label] = 1.0
    return target


def primary_shares(utterance: Utterance, classes: EmotionClasses) -> np.ndarray | None:
    """(C,) share of ALL raters per primary label; sums to less than 1 where some chose none of the classes.

    None where nobody chose any.
    """
    return _shares(utterance.votes, classes)


def mention_shares(utterance: Utterance, classes: EmotionClasses) -> np.ndarray | None:
    """(C,) share of the mentions, primary and secondary, of these classes; sums to 1. None without any."""
    shares = _shares(utterance.mentions, classes)
    return None if shares is None else _normalised(shares)


def merged(utterance: Utterance, classes: EmotionClasses, weights: Sequence[float]) -> np.ndarray | None:
    """(C,) w1 P + w2 S, sums to 1; None where there is no P.

    Args:
        weights: w1 and w2, not negative, w1 + w2 above 0.

    Raises:
        ValueError: other weights.
    """
    if len(weights) != 2 or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"merge_weights {list(weights)}; give two weights from 0, for primary labels and for mentions")
    primary, mentions = primary_shares(utterance, classes), mention_shares(utterance, classes)
    if primary is None or mentions is None:
        return None
    mixed = weights[0] * primary + weights[1] * mentions
    return _normalised(mixed) if mixed.sum() > 0 else None


def smooth(target: np.ndarray, epsilon: float) -> np.ndarray:
    """(C,) q (1 - e) + (1 - q) e / (C - 1); a target that sums to 1 still does.

    Raises:
        ValueError: e is not from 0 to below 1.
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"smoothing {epsilon}; expected a number from 0 to below 1, e.g. 0.05")
    smoothed = target * (1 - epsilon) + (1 - target) * epsilon / (len(target) - 1)
    return smoothed.astype(np.float32)


def vote_distribution(utterance: Utterance, classes: EmotionClasses) -> np.ndarray:
    """(C,) float32 primary labels renormalised to sum 1; NaN where they are not known or name no class."""
    shares = primary_shares(utterance, classes)
    return np.full(len(classes), np.nan, dtype=np.float32) if shares is None else _normalised(shares)


def label_of_target(target: np.ndarray) -> int:
    """Class index with the largest share; the lowest index of several."""
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
