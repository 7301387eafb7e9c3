"""Masks of all kinds: counts, order, seeds, and the structure that each has."""

import pytest
import torch
from torch import Tensor

from hydraudio.tasks.pretraining.networks.grid import Grid
from hydraudio.tasks.pretraining.networks.masks import (
    BlockMasker,
    FrequencyMasker,
    GroupedMasker,
    Masker,
    RandomMasker,
    TimeFrequencyMasker,
    TimeMasker,
)

GRID = Grid(n_frames=200, n_bins=80, patch=(4, 16))  # 50 x 5
MASKERS = {  # and how many of the 250 patches they keep
    "random": (RandomMasker(0.8), 50),
    "random of an uneven share": (RandomMasker(0.333), 166),
    "block": (BlockMasker(0.8, (5, 5)), 50),
    "block, larger than the grid": (BlockMasker(0.5, (99, 2)), 125),
    "time": (TimeMasker(0.8), 10 * 5),
    "frequency": (FrequencyMasker(0.5), 2 * 50),
    "time_frequency": (TimeFrequencyMasker(0.6, 0.5), 20 * 2),
    "grouped": (GroupedMasker(0.8, (2, 1)), 50),
    "grouped in bands": (GroupedMasker(0.5, (5, 5)), 125),
}
each = pytest.mark.parametrize(("masker", "n_keep"), MASKERS.values(), ids=MASKERS)


def draw(masker: Masker, batch_size: int = 6, seed: int = 0):
    return masker(batch_size, GRID, torch.Generator().manual_seed(seed), "cpu")


def image(masked: Tensor) -> Tensor:
    return masked.view(-1, GRID.n_rows, GRID.n_cols)


@each
def test_rows_are_ascending_disjoint_and_of_the_promised_count(masker, n_keep):
    mask = draw(masker)
    assert mask.keep.shape == (6, n_keep)
    assert (mask.keep.diff(dim=1) > 0).all()
    assert (mask.hidden.diff(dim=1) > 0).all()
    assert not mask.masked.gather(1, mask.keep).any()
    assert mask.masked.gather(1, mask.hidden).all()
    everything = torch.cat([mask.keep, mask.hidden], dim=1)
    assert torch.equal(everything.gather(1, mask.restore), torch.arange(250).expand(6, -1))


@each
def test_the_generator_alone_decides(masker, n_keep):
    torch.manual_seed(1)
    first = draw(masker)
    torch.manual_seed(2)
    assert torch.equal(draw(masker).masked, first.masked)
    assert not torch.equal(draw(masker, seed=1).masked, first.masked)
    assert len({tuple(row) for row in first.keep.tolist()}) > 1


@each
def test_every_patch_has_its_turn(masker, n_keep):
    masked = draw(masker, batch_size=600).masked.float().mean(0)
    assert masked.min() > 0
    assert masked.max() < 1


@each
def test_same_count_in_every_item_without_a_generator(masker, n_keep):
    assert (masker(50, GRID, None, "cpu").masked.sum(1) == 250 - n_keep).all()


def test_random_masks_are_uniform():
    masked = draw(RandomMasker(0.8), batch_size=2000).masked.float().mean(0)
    assert (masked - 0.8).abs().max() < 5 * (0.8 * 0.2 / 2000) ** 0.5


def test_time_masks_are_whole_rows_and_frequency_masks_whole_columns():
    time, frequency = image(draw(TimeMasker(0.8)).masked), image(draw(FrequencyMasker(0.5)).masked)
    assert (time == time[:, :, :1]).all()
    assert (frequency == frequency[:, :1]).all()


def test_time_and_frequency_masks_keep_a_product_of_rows_and_columns():
    kept = ~image(draw(TimeFrequencyMasker(0.6, 0.5)).masked)
    assert torch.equal(kept, kept.any(2, keepdim=True) & kept.any(1, keepdim=True))
    assert (kept.any(2).sum(1) == 20).all()
    assert (kept.any(1).sum(1) == 2).all()


def test_groups_are_masked_together():
    groups = image(draw(GroupedMasker(0.8, (2, 1))).masked).view(-1, 25, 2, 5)
    assert torch.equal(groups[:, :, 0], groups[:, :, 1])


def test_blocks_are_compact():
    """All masked patches but those of the last, cut rectangle lie in rectangles that are masked all over."""
    masked = image(draw(BlockMasker(0.3, (5, 3)), batch_size=50).masked)
    whole = masked.unfold(1, 5, 1).unfold(2, 3, 1).flatten(3).all(-1)  # where a rectangle may begin
    inside = torch.zeros_like(masked)
    for item, row, col in whole.nonzero().tolist():
        inside[item, row : row + 5, col : col + 3] = True
    assert (masked & ~inside).flatten(1).sum(1).max() < 15


def test_refuses_groups_that_do_not_divide_the_grid():
    with pytest.raises(ValueError, match="do not divide the 50 x 5"):
        draw(GroupedMasker(0.5, (3, 1)))


@pytest.mark.parametrize("ratio", [0, 1, -0.1])
def test_refuses_a_ratio_that_is_no_share(ratio):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        RandomMasker(ratio)


def test_a_share_keeps_at_least_one():
    assert draw(FrequencyMasker(0.99)).keep.shape == (6, 50)
