"""Running standardization against the moments of all batches together."""

import subprocess
import sys

import pytest
import torch

from hydraudio.tasks.emotion.networks.normalization import RunningStandardization


def batches(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.1, 1.0, 30.0])
    return [5.0 + scale * torch.randn(size, 3, generator=generator) for size in sizes]


def test_moments_of_the_first_batches_are_those_of_all_items_together():
    module, seen = RunningStandardization(3, momentum=0.05), batches(8, 8, 8, 8)
    for batch in seen:
        module(batch)
    everything = torch.cat(seen)
    torch.testing.assert_close(module.mean, everything.mean(0))
    torch.testing.assert_close(module.variance, everything.var(0, correction=0))
    module.eval()
    whole = module(everything)
    torch.testing.assert_close(whole.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(whole[1:].std(0, correction=0), torch.ones(3), rtol=0, atol=0.1)


def test_later_batches_weigh_as_much_as_the_momentum_says():
    module = RunningStandardization(1, momentum=0.5)
    for value in (0.0, 0.0, 8.0):
        module(torch.full((4, 1), value))
    assert module.mean.item() == pytest.approx(4.0)
    assert module.variance.item() == pytest.approx(16.0)  # half at 0, half at 8


def test_evaluation_changes_nothing_and_one_item_does():
    module = RunningStandardization(3)
    module(batches(1)[0])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert before["n_batches"] == 1
    module.eval()
    module(batches(4)[0])
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module(batches(1)[0]).isfinite().all()


def test_gradient_takes_the_moments_as_constants():
    module = RunningStandardization(3)
    x = batches(6)[0].requires_grad_()
    module(x).sum().backward()
    expected = (module.variance + module.epsilon).rsqrt().expand(6, 3)
    torch.testing.assert_close(x.grad, expected)


def test_half_precision_is_computed_in_float32():
    module, x = RunningStandardization(3), batches(16)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert module.mean.dtype == torch.float32
    torch.testing.assert_close(module.mean, x.bfloat16().float().mean(0))


def test_a_module_in_bfloat16_trains():
    module, x = RunningStandardization(3).bfloat16(), batches(16)[0]
    assert module(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(module.variance.float(), x.var(0, correction=0), rtol=0.05, atol=1e-4)


def test_overflow_leaves_the_moments_as_they_were():
    module = RunningStandardization(3)
    module(batches(8)[0])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module(torch.tensor([[1.0, float("inf"), 0.0]]))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


RANK = """
import sys, torch
import torch.distributed as dist
from hydraudio.tasks.emotion.networks.normalization import RunningStandardization

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", store=dist.FileStore(folder + "/store", 2), rank=rank, world_size=2)
module = RunningStandardization(3)
for batch in torch.load(folder + "/batches.pt")[rank::2]:
    module(batch)
torch.save(module.state_dict(), f"{folder}/{rank}.pt")
dist.destroy_process_group()  # else a thread of gloo can outlive the interpreter, and abort the process
"""


@pytest.mark.slow
def test_two_processes_share_their_moments(tmp_path):
    seen = batches(4, 4, 4, 4, 4, 4)
    torch.save(seen, tmp_path / "batches.pt")
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(tmp_path), str(rank)]) for rank in (0, 1)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.testing.assert_close(first["mean"], torch.cat(seen).mean(0))
    torch.testing.assert_close(first["variance"], torch.cat(seen).var(0, correction=0), rtol=1e-3, atol=1e-6)


def test_momentum_must_be_a_share():
    with pytest.raises(ValueError, match=r"momentum=0\.0 must be in"):
        RunningStandardization(3, momentum=0.0)
