"""Which items are shown."""

from dataclasses import dataclass

import numpy as np

from hydraudio.report.examples import ExamplePool


@dataclass(frozen=True)
class Example:
    group: str
    item_id: str
    score: float


def _example(item_id: str, score: float) -> Example:
    return Example("SER", item_id, score)


def _fill(pool: ExamplePool, scores: dict[str, float]) -> int:
    made = []

    def offer(item_id: str, score: float) -> None:
        pool.offer("SER", item_id, score, lambda: made.append(item_id) or _example(item_id, score))  # type: ignore[func-returns-value]

    for item_id, score in scores.items():
        offer(item_id, score)
    return len(made)


def _chosen(pool: ExamplePool, scores: dict[str, float]) -> dict[str, list[str]]:
    found = pool.choose("SER", list(scores.values()))
    return {kind: [example.item_id for example in examples] for kind, examples in found.items()}


def _scores(n: int) -> dict[str, float]:
    return {f"{k}.wav": float(v) for k, v in enumerate(np.random.default_rng(0).normal(8, 3, n))}


def test_best_and_worst_are_the_extremes_and_typical_is_near_the_median() -> None:
    scores = _scores(500)
    pool = ExamplePool(2, seed=1)
    _fill(pool, scores)
    chosen = _chosen(pool, scores)
    ordered = sorted(scores, key=scores.__getitem__)
    assert chosen["worst"] == ordered[:2]
    assert chosen["best"] == ordered[:-3:-1]
    ranks = [ordered.index(item_id) / 500 for item_id in chosen["typical"]]
    assert all(0.3 < rank < 0.7 for rank in ranks)


def test_memory_is_bounded_and_few_items_are_copied() -> None:
    pool = ExamplePool(2)
    n_made = _fill(pool, _scores(2000))
    assert len(pool.examples()) <= 2 + 2 + pool.n_candidates
    assert n_made < 300


def test_processes_together_choose_what_one_alone_would() -> None:
    scores = _scores(200)
    alone, first, second = (ExamplePool(3, seed=5) for _ in range(3))
    _fill(alone, scores)
    _fill(first, dict(list(scores.items())[::2]))
    _fill(second, dict(list(scores.items())[1::2]))
    first.add(second.examples())
    assert _chosen(first, scores) == _chosen(alone, scores)


def test_no_item_is_shown_twice_and_scores_must_be_finite() -> None:
    scores = {"a": 1.0, "b": float("nan"), "c": 3.0}
    pool = ExamplePool(2)
    _fill(pool, scores)
    chosen = _chosen(pool, scores)
    assert chosen == {"worst": ["a", "c"], "best": [], "typical": []}


def test_none_wanted_none_kept() -> None:
    pool = ExamplePool(0)
    assert _fill(pool, _scores(10)) == 0
    assert pool.choose("SER", [1.0]) == {"worst": [], "best": [], "typical": []}
