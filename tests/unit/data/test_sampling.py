"""The order of batches depends on nothing but (seed, epoch); every item is drawn exactly once."""

import pytest
import torch
from torch.utils.data import Dataset

from hydraudio.data.sampling import EpochBatchSampler, build_loader


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
