"""Intervals and tests against scipy, closed forms and known coverage."""

import numpy as np
import pytest
from scipy import stats

from hydraudio.stats.intervals import (
    bootstrap_macro_mean,
    bootstrap_mean,
    cluster_means,
    holm,
    paired_difference,
    wilcoxon_signed_rank,
)


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, 200)
    ours = bootstrap_mean(values, n_bootstrap=20_000, seed=1)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert ours.n == 200


def test_coverage_is_near_nominal() -> None:
    rng = np.random.default_rng(3)
    intervals = [bootstrap_mean(rng.normal(5, 2, 60), n_bootstrap=400, seed=k) for k in range(400)]
    coverage = np.mean([i.low <= 5 <= i.high for i in intervals])
    assert 0.91 <= coverage <= 0.975  # percentile intervals cover slightly less than 0.95 at n=60


def test_clustered_interval_covers_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(40), 8)
    hits = {"plain": 0, "clustered": 0}
    for k in range(200):
        values = rng.normal(0, 1, 40)[clusters] + rng.normal(0, 0.3, clusters.size)
        plain = bootstrap_mean(values, n_bootstrap=300, seed=k)
        clustered = bootstrap_mean(values, clusters, n_bootstrap=300, seed=k)
        hits["plain"] += plain.low <= 0 <= plain.high
        hits["clustered"] += clustered.low <= 0 <= clustered.high
    assert hits["plain"] < 140  # 0.95 would be 190
    assert hits["clustered"] > 178


def test_macro_mean_weighs_groups_equally_and_micro_weighs_items() -> None:
    values = np.array([1.0] * 90 + [5.0] * 10)
    groups = np.array(["a"] * 90 + ["b"] * 10)
    assert bootstrap_macro_mean(values, groups, n_bootstrap=100).mean == pytest.approx(3.0)
    assert bootstrap_mean(values, n_bootstrap=100).mean == pytest.approx(1.4)


def test_macro_interval_matches_the_standard_error_of_independent_groups() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(0, 1, 400), rng.normal(9, 3, 400)])
    groups = np.repeat([0, 1], 400)
    interval = bootstrap_macro_mean(values, groups, n_bootstrap=4000)
    standard_error = np.sqrt(values[:400].var() / 400 + values[400:].var() / 400) / 2
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * standard_error, rel=0.08)


def test_the_seed_decides_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).normal(size=50)
    first = bootstrap_mean(values, n_bootstrap=200, seed=7)
    assert first == bootstrap_mean(values, n_bootstrap=200, seed=7)
    assert first != bootstrap_mean(values, n_bootstrap=200, seed=8)
    monkeypatch.setattr("hydraudio.stats.intervals._MAX_DRAWS_PER_CHUNK", 120)
    assert first == bootstrap_mean(values, n_bootstrap=200, seed=7)


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    interval = bootstrap_mean([1.0, np.nan, 3.0, np.inf], n_bootstrap=50)
    assert (interval.mean, interval.n) == (2.0, 2)
    assert bootstrap_mean([np.nan], n_bootstrap=50).n == 0
    lonely = bootstrap_mean([2.5], n_bootstrap=50)
    assert lonely.mean == 2.5
    assert np.isnan(lonely.low)


def test_paired_difference_is_second_minus_first() -> None:
    rng = np.random.default_rng(8)
    first = rng.normal(0, 10, 300)
    second = first + 1 + rng.normal(0, 0.1, 300)
    interval = paired_difference(first, second, n_bootstrap=500)
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(1.0, abs=0.03)
    assert interval.high - interval.low < 0.05  # the pairing removes the spread of 10


def test_wilcoxon_is_scipys_and_clusters_enter_once() -> None:
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=40), rng.normal(0.4, 1, 40)
    assert wilcoxon_signed_rank(first, second) == pytest.approx(stats.wilcoxon(second - first).pvalue)
    clusters = np.repeat(np.arange(10), 4)
    means = (second - first).reshape(10, 4).mean(1)
    assert wilcoxon_signed_rank(first, second, clusters) == pytest.approx(stats.wilcoxon(means).pvalue)
    assert wilcoxon_signed_rank(first, first) == 1.0
    assert np.isnan(wilcoxon_signed_rank([np.nan], [1.0]))


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1, then the running maximum.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, np.nan, 0.7]) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm([]).size == 0


def test_cluster_means() -> None:
    assert cluster_means([1.0, 3.0, np.nan, 8.0], ["a", "a", "b", "b"]) == pytest.approx([2.0, 8.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [1.0, 2.0], "confidence": 1.5}, "confidence=1.5"),
        ({"values": [1.0, 2.0], "n_bootstrap": 0}, "n_bootstrap=0"),
        ({"values": [1.0, 2.0], "clusters": ["a"]}, "one length"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(**arguments)
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1.0], [1.0, 2.0])
