import warnings

import pytest
import torch

from hydraudio.metrics.accumulate import MaskedMean


def test_mean_over_items_not_over_batches():
    metric = MaskedMean()
    metric.update(torch.tensor([[1.0, 3.0], [5.0, 7.0], [100.0, 100.0]]), torch.tensor([True, True, False]))
    metric.update(torch.tensor([[9.0, 11.0]]))
    assert metric.compute().item() == 6.0
    metric.reset()
    metric.update(torch.tensor([[1.0, 2.0]]), torch.tensor([[False, True]]))
    assert metric.compute().item() == 2.0


def test_exact_in_float64():
    metric = MaskedMean()
    metric.update(torch.tensor([2.0**24]))
    for _ in range(8):
        metric.update(torch.tensor([0.125]))
    assert metric.compute().item() == (2**24 + 1) / 9


def test_masked_out_nan_is_ignored_and_others_are_not():
    metric = MaskedMean()
    metric.update(torch.tensor([float("nan"), 4.0]), torch.tensor([False, True]))
    assert metric.compute().item() == 4.0
    metric.update(torch.tensor([float("nan")]))
    assert metric.compute().isnan()


@pytest.mark.parametrize("update", [False, True])
def test_empty_is_nan_without_a_warning(update):
    metric = MaskedMean()
    if update:
        metric.update(torch.ones(2), torch.zeros(2, dtype=torch.bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute().isnan()


def test_processes_are_weighted_by_their_items():
    """Two ranks with 1 and 3 items; `gather` stands for the collective call."""
    here, there = MaskedMean(), MaskedMean()
    there.update(torch.tensor([2.0, 2.0, 2.0]))
    states = iter([there.total, there.count])
    metric = MaskedMean(dist_sync_fn=lambda state, group: [state, next(states)], distributed_available_fn=lambda: True)
    metric.update(torch.tensor([10.0]))
    assert metric.compute().item() == 4.0
    assert here.compute().isnan()


def test_unfitting_mask_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 2\)"):
        MaskedMean().update(torch.ones(2, 2), torch.ones(3))
