"""CCC and the clustered bootstrap, against direct computation on resampled items."""

import math

import numpy as np
import pytest

from hydraudio.metrics.classification import category_scores
from hydraudio.metrics.concordance import concordance, concordance_of_moments, moments, pearson, rmse
from hydraudio.stats.clustered import ScoreSums, paired_intervals, score_intervals, score_sums, two_sided_p
from hydraudio.stats.intervals import bootstrap_mean


def test_concordance_penalises_shift_and_scale() -> None:
    rng = np.random.default_rng(0)
    y = rng.uniform(0, 1, 400)
    assert concordance(y, y) == pytest.approx(1, abs=1e-6)
    assert concordance(1 - y, y) == pytest.approx(-1, abs=0.05)
    assert concordance(y + 0.3, y) < 0.75
    assert concordance(0.3 + 0.4 * y, y) < 0.8
    assert math.isnan(concordance(y[:1], y[:1]))
    assert concordance(np.full(5, 0.5), np.full(5, 0.5)) == 0


def test_concordance_of_small_batches_is_biased() -> None:
    """Why it is computed once over the set."""
    rng = np.random.default_rng(1)
    y = rng.normal(0.5, 0.15, 6400)
    x = y + rng.normal(0, 0.09, 6400)
    batches = [concordance(x[k : k + 8], y[k : k + 8]) for k in range(0, 6400, 8)]
    assert np.mean(batches) < concordance(x, y) - 0.01


def test_a_constant_has_no_correlation() -> None:
    """Not even where rounding gives it a variance above zero."""
    y = np.linspace(0, 1, 7)
    for value in (0.1, 0.3, 0.7):
        assert math.isnan(pearson(np.full(7, value), y))
        assert concordance(np.full(7, value), y) == pytest.approx(0.0, abs=1e-6)


def test_moments_leave_missing_targets_out() -> None:
    y = np.array([0.1, np.nan, 0.5, 0.8])
    x = np.array([0.2, 0.9, 0.4, 0.7])
    known = [0, 2, 3]
    assert concordance_of_moments(moments(x, y).sum(0)) == pytest.approx(concordance(x[known], y[known]))


def corpus(n: int = 600, n_speakers: int = 30, seed: int = 0, noise: float = 0.5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    right = rng.random(n) > noise
    target = rng.uniform(0, 1, (n, 2))
    target[rng.random(n) < 0.1, 1] = np.nan
    return {
        "speaker": rng.integers(0, n_speakers, n),
        "labels": np.where(rng.random(n) < 0.05, -1, labels),
        "predicted": np.where(right, labels, rng.integers(0, 4, n)),
        "target": target,
        "attributes": 0.3 + 0.4 * np.nan_to_num(target, nan=0.5) + 0.1 * rng.normal(size=(n, 2)),
        "nll": rng.exponential(size=n),
    }


def sums(data: dict[str, np.ndarray]) -> ScoreSums:
    return score_sums(
        data["speaker"],
        class_names=list("abcd"),
        labels=data["labels"],
        predicted=data["predicted"],
        means={"nll": np.where(data["labels"] >= 0, data["nll"], np.nan)},
        attributes={name: (data["attributes"][:, k], data["target"][:, k]) for k, name in enumerate("vd")},
    )


def direct(data: dict[str, np.ndarray], index: np.ndarray) -> dict[str, float]:
    """Scores of some items by the functions that know nothing of clusters."""
    category = category_scores(np.eye(4)[data["predicted"][index]], data["labels"][index], 4)
    attributes = {}
    for score, name in ((concordance, "ccc"), (pearson, "pearson"), (rmse, "rmse")):
        pairs = {n: (data["attributes"][index, k], data["target"][index, k]) for k, n in enumerate("vd")}
        known = {n: (x[~np.isnan(y)], y[~np.isnan(y)]) for n, (x, y) in pairs.items()}
        values = {f"{name}_{n}": score(*pair) for n, pair in known.items()}
        attributes |= {name: np.nanmean(list(values.values())), **values}
    known = data["labels"][index] >= 0
    names = ("macro_f1", "weighted_f1", "accuracy", "uar")
    per_class = {f"recall/{c}": category["recall"][k] for k, c in enumerate("abcd")}
    return {n: category[n] for n in names} | attributes | per_class | {"nll": data["nll"][index][known].mean()}


def test_scores_made_of_sums_are_those_of_the_items() -> None:
    data = corpus()
    found = sums(data).scores()
    for name, value in direct(data, np.arange(600)).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    counts = sums(data).counts()
    assert counts["macro_f1"] == counts["nll"] == int((data["labels"] >= 0).sum())
    assert counts["ccc_d"] == int((~np.isnan(data["target"][:, 1])).sum())


def test_resamples_are_those_of_whole_speakers_and_of_the_fixed_label_set() -> None:
    data = corpus(n=200, n_speakers=12)
    speakers = np.unique(data["speaker"])
    rng = np.random.default_rng(7)
    found = sums(data).resampled(20, seed=7)
    drawn = rng.integers(0, len(speakers), (20, len(speakers)))
    for row in range(20):
        index = np.concatenate([np.flatnonzero(data["speaker"] == speakers[k]) for k in drawn[row]])
        for name, value in direct(data, index).items():
            assert found[name][row] == pytest.approx(value, abs=1e-9), name


def test_resamples_without_a_label_are_no_scores_of_zero() -> None:
    found = score_sums(
        ["a", "b"], class_names=["x", "y"], labels=np.array([-1, 0]), predicted=np.array([0, 0])
    ).resampled(200, seed=0)
    assert 0 < np.isnan(found["accuracy"]).sum() < 200  # those of "a" alone
    assert np.nanmin(found["accuracy"]) == 1


def test_the_interval_of_a_mean_is_that_of_the_plain_bootstrap() -> None:
    data = corpus()
    ours = score_intervals(sums(data), n_bootstrap=4000, seed=1)["nll"]
    known = data["labels"] >= 0
    plain = bootstrap_mean(data["nll"][known], data["speaker"][known].tolist(), n_bootstrap=4000, seed=2)
    assert ours.mean == pytest.approx(plain.mean)
    assert ours.low == pytest.approx(plain.low, abs=0.01)
    assert ours.high == pytest.approx(plain.high, abs=0.01)


def test_turns_of_few_speakers_are_worth_less_than_independent_ones() -> None:
    rng = np.random.default_rng(3)
    ability = rng.uniform(0.2, 0.9, 20)
    speaker = rng.integers(0, 20, 2000)
    labels = rng.integers(0, 4, 2000)
    predicted = np.where(rng.random(2000) < ability[speaker], labels, (labels + 1) % 4)
    settings = {"class_names": list("abcd"), "labels": labels, "predicted": predicted}
    clustered = score_intervals(score_sums(speaker, **settings))["macro_f1"]
    single = score_intervals(score_sums(np.arange(2000), **settings))["macro_f1"]
    assert clustered.high - clustered.low > 2 * (single.high - single.low)


def test_one_cluster_has_no_interval() -> None:
    found = score_intervals(sums(corpus(n_speakers=1)))["macro_f1"]
    assert found.mean > 0
    assert math.isnan(found.low)


def test_paired_differences_know_better_from_equal() -> None:
    first, second = corpus(noise=0.6), corpus(noise=0.6)
    better = {**first, "predicted": np.where(np.arange(600) % 4 == 0, first["labels"].clip(0), first["predicted"])}
    same = paired_intervals(sums(first), sums(second), n_bootstrap=500)
    assert same["macro_f1"][0].mean == 0
    assert same["macro_f1"][1] == 1
    difference, p_value = paired_intervals(sums(first), sums(better), n_bootstrap=500)["macro_f1"]
    assert difference.low > 0
    assert p_value < 0.01
    separate = score_intervals(sums(first), n_bootstrap=500)["macro_f1"]
    assert difference.high - difference.low < separate.high - separate.low  # equal speakers cancel
    with pytest.raises(ValueError, match="same clusters"):
        paired_intervals(sums(first), sums(corpus(n_speakers=5)))


def test_the_p_value_agrees_with_the_interval_and_is_never_zero() -> None:
    rng = np.random.default_rng(0)
    assert two_sided_p(rng.normal(5, 1, 999)) == pytest.approx(2 / 1000)
    assert two_sided_p(rng.normal(0, 1, 999)) > 0.5
    assert math.isnan(two_sided_p(np.array([np.nan])))
