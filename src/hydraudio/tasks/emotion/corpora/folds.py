"""Speaker-disjoint folds of corpora that come without a split."""

from __future__ import annotations

from collections.abc import Sequence


def fold_splits(names: Sequence[str], fold: int) -> dict[str, list[str]]:
    """Which groups of speakers train, validate and test in fold k: group k tests, the next one validates.

    Args:
        names: groups (values of `Utterance.split`) in order, at least three.
        fold: from 1; after the last group comes the first.

    Raises:
        ValueError: no such fold.
    """
    if not 1 <= fold <= len(names):
        raise ValueError(f"fold {fold}; the corpus has folds 1 to {len(names)}")
    test, val = names[fold - 1], names[fold % len(names)]
    return {"train": [name for name in names if name not in (val, test)], "val": [val], "test": [test]}
