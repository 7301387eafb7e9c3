"""Head, middle and tail classes of an unbalanced corpus, and their scores.

References:
    Z. Liu et al., "Large-scale long-tailed recognition in an open world", CVPR 2019: groups by training counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hydraudio.metrics.classification import class_scores

GROUPS = ("head", "mid", "tail")
GroupMode = Literal["explicit", "fraction", "count"]
_THRESHOLDS = {"fraction": (0.10, 0.05), "count": (100, 20)}


def class_groups(
    class_names: Sequence[str],
    class_counts: Sequence[int] | None = None,
    *,
    mode: GroupMode = "explicit",
    head: Sequence[str] = (),
    mid: Sequence[str] = (),
    thresholds: tuple[float, float] | None = None,
) -> dict[str, list[str]]:
    """Sort the names of the classes into "head", "mid" and "tail", in the order of the class list.

    Args:
        class_names: all classes.
        class_counts: training items of each class; for the modes other than explicit.
        mode: explicit = by the lists; fraction = head above 10 % of the training items, tail below 5 %; count = head
            above 100 training items, tail below 20.
        head: classes of the head in mode explicit; names that the corpus does not have are passed over.
        mid: likewise of the middle. All other classes are the tail.
        thresholds: other limits (head above the first, tail below the second) of mode fraction or count.
    """
    if mode == "explicit":
        lists: Mapping[str, Sequence[str]] = {"head": head, "mid": mid}
        of = {name: next((g for g, names in lists.items() if name in names), "tail") for name in class_names}
    elif mode in _THRESHOLDS:
        of = _by_counts(class_names, class_counts, mode, thresholds or _THRESHOLDS[mode])
    else:
        raise ValueError(f"groups: mode={mode!r} must be explicit, fraction or count")
    return {group: [name for name in class_names if of[name] == group] for group in GROUPS}


def group_scores(
    confusion: NDArray[np.int64], class_names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Score each group over the items whose true class is in it.

    Args:
        confusion: counts (true, predicted).
        class_names: of its rows and columns.
        groups: as `class_groups` returns them.

    Returns:
        By group: `accuracy` (pooled: correct items of all), `recall` and `f1` (means over the group's classes), `n`
        (items), `classes`. NaN for a group without items.
    """
    scores = class_scores(confusion)
    found: dict[str, dict[str, Any]] = {}
    for group, names in groups.items():
        index = [list(class_names).index(name) for name in names]
        n = float(scores["support"][index].sum())
        values = {"accuracy": float("nan"), "recall": float("nan"), "f1": float("nan")}
        if n > 0:
            values["accuracy"] = float(np.diagonal(confusion)[index].sum() / n)
            values |= {metric: float(scores[metric][index].mean()) for metric in ("recall", "f1")}
        found[group] = {**values, "n": int(n), "classes": list(names)}
    return found


def _by_counts(
    class_names: Sequence[str], class_counts: Sequence[int] | None, mode: str, thresholds: tuple[float, float]
) -> dict[str, str]:
    if class_counts is None or len(class_counts) != len(class_names):
        raise ValueError(f"groups: mode={mode} needs the training counts of {list(class_names)}, got {class_counts}")
    high, low = thresholds
    if not high >= low:
        raise ValueError(f"groups: thresholds={thresholds} must be (head above, tail below) with the first not smaller")
    counts = np.asarray(class_counts, dtype=np.float64)
    size = counts / max(counts.sum(), 1) if mode == "fraction" else counts
    return {
        name: "head" if value > high else "tail" if value < low else "mid"
        for name, value in zip(class_names, size, strict=True)
    }
