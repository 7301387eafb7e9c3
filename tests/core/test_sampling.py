"""The order of batches depends on nothing but (seed, epoch); every item is drawn exactly once."""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from hydraudio.core import sampling
from hydraudio.core.sampling import EpochBatchSampler, budget_sizes, build_loader, padding_share, sampling_weights


class Keys(Dataset):
    """Returns the keys themselves."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(key)


def flat(sampler: EpochBatchSampler) -> list[int]:
    return [index for batch in sampler for _, index in batch]


def test_each_epoch_is_another_permutation():
    sampler = EpochBatchSampler(23, 4, shuffle=True, seed=1)
    first = flat(sampler)
    sampler.set_epoch(1)
    second = flat(sampler)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    sampler.set_epoch(0)
    assert flat(sampler) == first
    assert flat(EpochBatchSampler(23, 4, shuffle=True, seed=2)) != first


def test_start_batch_skips_in_the_first_epoch_only():
    whole = list(EpochBatchSampler(23, 4, shuffle=True, seed=1))
    resumed = EpochBatchSampler(23, 4, shuffle=True, seed=1, start_batch=2)
    assert list(resumed) == whole[2:]
    assert len(resumed) == 6
    resumed.set_epoch(0)
    assert list(resumed) == whole[2:]
    resumed.set_epoch(1)
    assert sorted(flat(resumed)) == list(range(23))


@pytest.mark.parametrize("world_size", [2, 3])
def test_training_ranks_get_equally_many_batches_and_all_items(world_size):
    ranks = [EpochBatchSampler(23, 4, shuffle=True, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(list(rank)) for rank in ranks}) == 1
    assert all(len(list(rank)) == len(rank) for rank in ranks)
    assert set().union(*(flat(rank) for rank in ranks)) == set(range(23))


def test_evaluation_ranks_repeat_no_item():
    ranks = [EpochBatchSampler(23, 4, shuffle=False, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(index for rank in ranks for index in flat(rank)) == list(range(23))
    assert all(len(list(rank)) == len(rank) for rank in ranks)


def test_frozen_repeats_the_first_epoch():
    sampler = EpochBatchSampler(23, 4, shuffle=True, frozen=True)
    first = list(sampler)
    sampler.set_epoch(5)
    assert list(sampler) == first


@pytest.mark.parametrize(("n_items", "batch_size", "drop_last"), [(0, 4, False), (3, 4, True), (3, 0, False)])
def test_impossible_sizes_are_refused(n_items, batch_size, drop_last):
    with pytest.raises(ValueError, match=r"empty|no batch|at least 1"):
        EpochBatchSampler(n_items, batch_size, shuffle=True, drop_last=drop_last)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_leaves_the_global_generator_alone(num_workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loader = build_loader(Keys(), batch_size=5, shuffle=True, seed=3, num_workers=num_workers, trainer=None)
    indices = torch.cat([batch[:, 1] for batch in loader])
    assert sorted(indices.tolist()) == list(range(23))
    assert torch.equal(before, torch.get_rng_state())


# --- bucketing ---

LENGTHS = np.random.default_rng(0).integers(100, 1000, 203)


def bucketed(**options) -> EpochBatchSampler:
    options = {"batch_size": 8, "shuffle": True, "seed": 1, **options}
    return EpochBatchSampler(len(LENGTHS), lengths=LENGTHS, **options)


def batches_of(sampler: EpochBatchSampler) -> list[list[int]]:
    return [[index for _, index in batch] for batch in sampler]


def share_of_padding(batches: list[list[int]]) -> float:
    """Counted slot by slot."""
    n_slots = sum(max(LENGTHS[i] for i in batch) for batch in batches for _ in batch)
    return 1 - sum(LENGTHS[i] for batch in batches for i in batch) / n_slots


def test_buckets_hold_every_item_once_and_little_padding():
    sampler = bucketed()
    batches = batches_of(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert len(batches) == len(sampler) == 26
    assert sorted(len(batch) for batch in batches) == [3] + 25 * [8]
    assert sampler.padding_share() == pytest.approx(share_of_padding(batches))
    plain = batches_of(EpochBatchSampler(203, 8, shuffle=True, seed=1))
    assert share_of_padding(batches) < 0.08 < 0.35 < share_of_padding(plain)


def test_buckets_are_a_function_of_seed_and_epoch():
    sampler = bucketed()
    first = batches_of(sampler)
    assert batches_of(bucketed()) == first
    sampler.set_epoch(1)
    second = batches_of(sampler)
    companions = [{frozenset(batch) for batch in batches} for batches in (first, second)]
    assert len(companions[0] & companions[1]) < 3
    assert batches_of(bucketed(epoch=1)) == second
    assert batches_of(bucketed(seed=2)) != first


def test_batches_of_one_length_do_not_follow_each_other():
    means = [float(np.mean(LENGTHS[batch])) for batch in batches_of(bucketed())]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5


def test_the_smaller_batch_is_not_always_the_longest():
    sampler, means = bucketed(), []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        small = min(batches_of(sampler), key=len)
        means.append(LENGTHS[small].mean())
    assert max(means) - min(means) > 300


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_work_on_similar_lengths_in_every_step(world_size, drop_last):
    ranks = [bucketed(rank=rank, world_size=world_size, drop_last=drop_last) for rank in range(world_size)]
    per_rank = [batches_of(rank) for rank in ranks]
    assert {len(batches) for batches in per_rank} == {len(ranks[0])}
    for step in zip(*per_rank, strict=True):
        assert len({len(batch) for batch in step}) == 1
        longest = [max(LENGTHS[batch]) for batch in step]
        assert max(longest) < 1.4 * min(longest)
    drawn = [index for batches in per_rank for batch in batches for index in batch]
    if drop_last:
        assert all(len(batch) == 8 for batches in per_rank for batch in batches)
    else:
        assert set(drawn) == set(range(203))
        assert len(drawn) - 203 < world_size


@pytest.mark.parametrize("start_batch", [0, 1, 17, 25])
def test_bucketed_epoch_is_resumed_at_any_batch(start_batch):
    whole = list(bucketed(epoch=3))
    assert list(bucketed(epoch=3, start_batch=start_batch)) == whole[start_batch:]


def test_evaluation_sorts_by_length_and_repeats_nothing():
    ranks = [bucketed(shuffle=False, rank=rank, world_size=2) for rank in range(2)]
    drawn = [flat(rank) for rank in ranks]
    assert sorted(drawn[0] + drawn[1]) == list(range(203))
    for order in drawn:
        assert list(LENGTHS[order]) == sorted(LENGTHS[order], reverse=True)


def test_overfitting_leaves_the_order_alone():
    assert flat(bucketed(frozen=True)) == list(range(203))


@pytest.mark.parametrize("lengths", [np.ones(3, int), np.zeros(23, int), np.ones((23, 1), int)])
def test_bad_lengths_are_refused(lengths):
    with pytest.raises(ValueError, match="one per item"):
        EpochBatchSampler(23, 4, shuffle=True, lengths=lengths)


def test_padding_share_without_lengths_is_refused():
    with pytest.raises(ValueError, match="with lengths"):
        EpochBatchSampler(23, 4, shuffle=True).padding_share()


def test_padding_share_of_given_batches():
    assert padding_share(np.array([10, 5, 4]), [np.array([0, 1]), np.array([2])]) == pytest.approx(5 / 24)


# --- batches by total duration ---

MSP_SECONDS = np.clip(np.random.default_rng(7).lognormal(np.log(5.3), 0.45, 7800), 1.9, 11.0)
"""Like the 7,800 turns of an MSP-PODCAST development set: mean 5.68 s, median 5.2 s, 1.9-11 s."""
MSP_LENGTHS = np.round(MSP_SECONDS * 16000).astype(int)
BUDGET = 160 * 16000
MOST = 1.0 + 2 * 0.05 / 0.95  # the jitter exchanges neighbours whose lengths differ by at most this factor


def budgeted(lengths: np.ndarray = LENGTHS, **options) -> EpochBatchSampler:
    options = {"batch_size": 12, "batch_samples": 5000, "shuffle": True, "seed": 1, **options}
    return EpochBatchSampler(len(lengths), lengths=lengths, **options)


def padded_sizes(batches: list[list[int]], lengths: np.ndarray = LENGTHS) -> np.ndarray:
    return np.array([len(batch) * max(lengths[batch]) for batch in batches])


def test_simulated_lengths_are_like_the_corpus():
    assert MSP_SECONDS.mean() == pytest.approx(5.68, abs=0.1)
    assert np.median(MSP_SECONDS) == pytest.approx(5.2, abs=0.2)


@pytest.mark.parametrize(
    "options", [{"batch_size": 63, "batch_samples": BUDGET}, {"batch_size": 16}, {"batch_size": 32}]
)
def test_padding_on_durations_of_msp_podcast(options):
    sampler = EpochBatchSampler(len(MSP_LENGTHS), shuffle=True, lengths=MSP_LENGTHS, jitter=0.03, **options)
    unsorted = EpochBatchSampler(len(MSP_LENGTHS), options["batch_size"], shuffle=True)
    plain = padding_share(MSP_LENGTHS, [np.array(batch) for batch in batches_of(unsorted)])
    assert sampler.padding_share() <= 0.03 < 0.35 < plain


def test_batches_fill_the_budget_but_do_not_exceed_it_by_more_than_the_jitter():
    batches = batches_of(budgeted(MSP_LENGTHS, batch_size=10**6, batch_samples=BUDGET))
    sizes = padded_sizes(batches, MSP_LENGTHS)
    assert sorted(index for batch in batches for index in batch) == list(range(len(MSP_LENGTHS)))
    assert sizes.max() <= BUDGET * MOST
    assert np.median(sizes) > 0.93 * BUDGET
    assert min(len(batch) for batch in batches) < 20 < 40 < max(len(batch) for batch in batches)


def test_evaluation_never_exceeds_the_budget():
    batches = batches_of(budgeted(shuffle=False))
    assert padded_sizes(batches).max() <= 5000
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    for batch, following in itertools.pairwise(batches):  # the next item would not have fitted
        assert len(batch) == 12 or (len(batch) + 1) * max(LENGTHS[batch]) > 5000
        assert max(LENGTHS[following]) <= min(LENGTHS[batch])


def test_batch_size_is_the_most_items_of_a_budgeted_batch():
    assert max(len(batch) for batch in batches_of(budgeted(batch_samples=10**7))) == 12


def test_an_item_above_the_budget_is_a_batch_of_its_own():
    batches = batches_of(budgeted(batch_samples=50))
    assert {len(batch) for batch in batches} == {1}


def test_the_last_budgeted_batch_does_not_hold_one_item_where_it_need_not():
    lengths = np.array([10] * 4 + [5] * 9)
    assert budget_sizes(lengths, 8, 40).tolist() == [4, 7, 2]  # not 4, 8, 1
    assert budget_sizes(lengths[:5], 2, 40).tolist() == [2, 2, 1]  # nothing can be taken from two
    assert budget_sizes(lengths[:1], 8, 40).tolist() == [1]


def test_every_epoch_has_equally_many_budgeted_batches_and_all_items():
    sampler, seen = budgeted(), set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batches = batches_of(sampler)
        assert len(batches) == len(sampler)
        assert sorted(index for batch in batches for index in batch) == list(range(203))
        assert padded_sizes(batches).max() <= 5000 * MOST
        seen.add(tuple(batches[0]))
    assert len(seen) == 20


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("n_items", [203, 202, 5, 1])
def test_budgeted_ranks_share_all_items(world_size, n_items, shuffle):
    options = {"shuffle": shuffle, "world_size": world_size}
    lengths = LENGTHS[:n_items]
    ranks = [budgeted(lengths, rank=rank, **options) for rank in range(world_size) if shuffle or rank < n_items]
    per_rank = [batches_of(rank) for rank in ranks]
    assert [len(batches) for batches in per_rank] == [len(rank) for rank in ranks]
    drawn = [index for batches in per_rank for batch in batches for index in batch]
    assert set(drawn) == set(range(n_items))
    assert max(padded_sizes(batches, lengths).max() for batches in per_rank) <= 5000 * (MOST if shuffle else 1.0)
    if not shuffle:
        assert len(drawn) == n_items
        return
    assert len({len(batches) for batches in per_rank}) == 1
    for step in zip(*per_rank, strict=True):
        assert len({len(batch) for batch in step}) == 1
        longest = [max(lengths[batch]) for batch in step]
        assert n_items < 200 or max(longest) < 1.4 * min(longest)


@pytest.mark.parametrize("start_batch", [0, 1, 17])
def test_budgeted_epoch_is_resumed_at_any_batch(start_batch):
    whole = list(budgeted(epoch=3))
    assert list(budgeted(epoch=3, start_batch=start_batch)) == whole[start_batch:]


def test_overfitting_keeps_to_the_order_and_the_budget():
    sampler = budgeted(frozen=True)
    batches = batches_of(sampler)
    assert [index for batch in batches for index in batch] == list(range(203))
    assert len(batches) == len(sampler)
    assert padded_sizes(batches).max() <= 5000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_samples": 0, "lengths": np.ones(5, int)}, "at least 1"),
        ({"batch_samples": 10}, "give lengths"),
        ({"batch_samples": 10, "lengths": np.ones(5, int), "drop_last": True}, "drop_last"),
        ({"weights": np.ones(4)}, "one per item"),
        ({"weights": np.zeros(5)}, "positive"),
        ({"weights": np.ones(5), "shuffle": False}, "for training"),
        ({"jitter": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_impossible_budgets_and_weights_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        EpochBatchSampler(5, 2, **{"shuffle": True, **options})


# --- draws with weights ---

CLASSES = np.repeat([0, 1, 2], [150, 43, 10])
BALANCED = 1.0 / np.bincount(CLASSES)[CLASSES]


@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}, {"lengths": LENGTHS, "batch_samples": 5000}])
def test_weighted_draws_balance_the_classes_in_every_epoch(options):
    sampler, orders = EpochBatchSampler(203, 12, shuffle=True, seed=1, weights=BALANCED, **options), []
    for epoch in range(30):
        sampler.set_epoch(epoch)
        orders.append(flat(sampler))
        assert len(list(sampler)) == len(sampler)
        assert np.abs(np.bincount(CLASSES[orders[-1]]) - 203 / 3).max() <= 2
        rare = np.bincount(orders[-1], minlength=203)[CLASSES == 2]
        assert set(rare.tolist()) <= {6, 7}
    assert orders[0] != orders[1]
    assert len(set().union(*orders)) == 203  # what one epoch leaves out comes in another
    sampler.set_epoch(0)
    assert flat(sampler) == orders[0]
    assert flat(EpochBatchSampler(203, 12, shuffle=True, seed=2, weights=BALANCED, **options)) != orders[0]


def test_weighted_draws_stay_near_the_budget_and_bucketed():
    sampler = budgeted(MSP_LENGTHS[:1000], batch_size=63, batch_samples=BUDGET, weights=1.0 + np.arange(1000) % 7)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        sizes = padded_sizes(batches_of(sampler), MSP_LENGTHS[:1000])
        assert np.median(sizes) > 0.9 * BUDGET
        assert sizes.max() < 1.2 * BUDGET
    assert sampler.padding_share() < 0.06


def test_frequency_of_weighted_draws_is_that_of_the_weights():
    weights, sampler_counts = 1.0 + np.arange(50) / 10, np.zeros(50)
    sampler = EpochBatchSampler(50, 7, shuffle=True, weights=weights)
    for epoch in range(400):
        sampler.set_epoch(epoch)
        sampler_counts += np.bincount(flat(sampler), minlength=50)
    np.testing.assert_allclose(sampler_counts / 400, 50 * weights / weights.sum(), atol=0.1)


def stop_then_begin(worker_id: int) -> None:
    """A worker that the signals of a process group meet before it has said what they do."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), signum)
    sampling._begin_worker(worker_id)


def test_a_signal_to_a_worker_that_just_starts_is_left_to_the_training_process():
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loader = build_loader(Keys(), batch_size=2, shuffle=False, seed=0, num_workers=1, trainer=None, collate_fn=list)
    loader.worker_init_fn = stop_then_begin
    assert sum(len(batch) for batch in loader) == len(Keys())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == held


WORKERS_OF_A_RANK = """
import multiprocessing, os, sys, time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils.data import Dataset

from hydraudio.core.sampling import build_loader

FOLDER, N_RANKS, SECONDS = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class Parents(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, key):
        return torch.tensor(os.getppid())

    def __getstate__(self):
        return {"folder": FOLDER, "seconds": SECONDS}

    def __setstate__(self, state):  # as long as the imports of a large dataset take
        (state["folder"] / "worker").write_text(str(os.getpid()))
        time.sleep(state["seconds"])


if __name__ == "__main__":
    fitting = SimpleNamespace(is_resuming=False)
    rank = SimpleNamespace(global_rank=0, world_size=N_RANKS, current_epoch=0, overfit_batches=0, fit_loop=fitting)
    loader = build_loader(Parents(), batch_size=1, shuffle=True, seed=0, num_workers=1, trainer=rank)
    batches = iter(loader)
    (FOLDER / "begun").touch()
    (FOLDER / "forked").write_text(str(os.getpid() in {int(batch) for batch in batches}))
"""


def start_rank(folder, n_ranks: int, seconds: float = 0.0) -> subprocess.Popen:
    """One of `n_ranks` processes that train together; it reads through one worker and leaves it running at its end."""
    (folder / "rank.py").write_text(WORKERS_OF_A_RANK)
    return subprocess.Popen([sys.executable, str(folder / "rank.py"), str(folder), str(n_ranks), str(seconds)])


@pytest.mark.slow
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_only_a_process_that_trains_alone_forks_its_workers_and_both_kinds_end(tmp_path, n_ranks):
    assert start_rank(tmp_path, n_ranks).wait(timeout=120) == 0
    assert (tmp_path / "forked").read_text() == str(n_ranks == 1)


@pytest.mark.slow
def test_a_worker_that_begins_after_its_training_process_was_killed_ends(tmp_path):
    rank = start_rank(tmp_path, 2, 2.0)
    wait_until(lambda: (tmp_path / "begun").exists() and (tmp_path / "worker").exists())
    rank.kill()
    rank.wait()
    worker = int((tmp_path / "worker").read_text())
    wait_until(lambda: not is_running(worker))


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_has_no_class_keeps_its_share_of_the_draws():
    labels = np.repeat([0, 1, -1], [60, 20, 20])
    members = labels[:, None] == np.arange(2)
    for name, first in (("balanced", 0.4), ("sqrt", 0.8 * 3**0.5 / (3**0.5 + 1))):
        weights = sampling_weights(members, name)
        shares = [weights[labels == label].sum() / weights.sum() for label in (0, -1)]
        assert shares == pytest.approx([first, 0.2])
    assert sampling_weights(members, "natural") is None


def test_an_item_of_several_classes_has_the_sum_of_their_weights():
    members = np.array([[1, 0], [1, 0], [1, 1], [1, 0]], dtype=bool)
    weights = sampling_weights(members, "balanced")
    assert weights / weights[0] == pytest.approx([1.0, 1.0, 5.0, 1.0])  # 1/4 of the frequent class, and 1 of the rare
