"""Choosing the items that a report lets one hear: best, worst and typical ones of every group, on the fly."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from hydraudio.core.files import sha256_of

TYPICAL_CANDIDATES = 16  # items kept per group, from which the one nearest to the median is taken


class Scored(Protocol):
    """What a pool keeps: an item of a group with its score, more is better."""

    @property
    def group(self) -> str: ...

    @property
    def item_id(self) -> str: ...

    @property
    def score(self) -> float: ...


Kept = TypeVar("Kept", bound=Scored)


class ExamplePool(Generic[Kept]):
    """Keeps only the items that can still be shown; memory does not grow with the test set.

    Args:
        n_examples: how many best, worst and typical items of each group are wanted.
        seed: decides which items are candidates for "typical".
    """

    def __init__(self, n_examples: int, seed: int = 0) -> None:
        self.n_examples = n_examples
        self.n_candidates = max(TYPICAL_CANDIDATES, 2 * n_examples)
        self.seed = seed
        self._kept: dict[tuple[str, str], list[tuple[float, str, Kept]]] = {}

    def offer(self, group: str, item_id: str, score: float, make: Callable[[], Kept]) -> None:
        """Considers an item; `make` is called only when it is kept for now. Only finite scores count."""
        if self.n_examples < 1 or not np.isfinite(score):
            return
        keys = {"worst": score, "best": -score, "typical": self._lot(group, item_id)}
        wanted = [kind for kind, key in keys.items() if self._fits(group, kind, key, item_id)]
        if wanted:
            example = make()
            for kind in wanted:
                self._keep(group, kind, (keys[kind], item_id, example))

    def examples(self) -> list[Kept]:
        """Everything kept so far (to be offered to another process's pool)."""
        unique = {(e.group, e.item_id): e for kept in self._kept.values() for _, _, e in kept}
        return list(unique.values())

    def add(self, examples: Iterable[Kept]) -> None:
        """Take over what another pool kept."""
        for example in examples:
            self.offer(example.group, example.item_id, example.score, functools.partial(_same, example))

    def choose(self, group: str, scores: Sequence[float]) -> dict[str, list[Kept]]:
        """Worst, best and typical examples of a group, no item twice; scores are those of the whole group."""
        chosen: dict[str, list[Kept]] = {}
        shown: set[str] = set()
        median = statistics.median([score for score in scores if np.isfinite(score)] or [0.0])
        for kind in ("worst", "best", "typical"):
            kept = [example for _, _, example in self._kept.get((group, kind), [])]
            if kind == "typical":
                kept.sort(key=lambda example: (abs(example.score - median), example.item_id))
            chosen[kind] = [example for example in kept if example.item_id not in shown][: self.n_examples]
            shown.update(example.item_id for example in chosen[kind])
        return chosen

    def _capacity(self, kind: str) -> int:
        return self.n_candidates if kind == "typical" else self.n_examples

    def _fits(self, group: str, kind: str, key: float, item_id: str) -> bool:
        kept = self._kept.get((group, kind), [])
        if any(item_id == other for _, other, _ in kept):
            return False
        return len(kept) < self._capacity(kind) or (key, item_id) < kept[-1][:2]

    def _keep(self, group: str, kind: str, entry: tuple[float, str, Kept]) -> None:
        kept = self._kept.setdefault((group, kind), [])
        kept.append(entry)
        kept.sort(key=lambda other: other[:2])
        del kept[self._capacity(kind) :]

    def _lot(self, group: str, item_id: str) -> float:
        """A number in [0, 1) from seed and item only, so that any number of processes draws the same."""
        text = f"{self.seed}\0{group}\0{item_id}".encode("utf-8", "backslashreplace")
        return int(sha256_of(text)[:12], 16) / 2**48


def _same(example: Kept) -> Kept:
    return example
