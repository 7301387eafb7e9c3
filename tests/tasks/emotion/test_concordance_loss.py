import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from hydraudio.tasks.emotion.losses import ConcordanceLoss, concordance


def reference(x, y):
    """Lin 1989 from Pearson's r: 2 r s_x s_y / (s_x^2 + s_y^2 + (m_x - m_y)^2), population moments."""
    r = np.corrcoef(x, y)[0, 1]
    return 2 * r * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(20, 3, generator=generator)
    return 0.6 * target + 0.4 * torch.rand(20, 3, generator=generator), target


def test_is_lins_coefficient(scores):
    prediction, target = scores
    expected = [reference(prediction[:, d].numpy(), target[:, d].numpy()) for d in range(3)]
    assert ConcordanceLoss()(*scores).item() == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert ConcordanceLoss("sum")(*scores).item() == pytest.approx(3 - np.sum(expected), abs=1e-5)


def test_by_hand():
    # means 2 and 3, variances 2/3, covariance 2/3: CCC = (4/3) / (4/3 + 1) = 4/7
    x = torch.tensor([[1.0], [2.0], [3.0]])
    assert ConcordanceLoss()(x, x + 1).item() == pytest.approx(3 / 7)
    assert ConcordanceLoss()(x, x).item() == pytest.approx(0, abs=1e-6)
    assert ConcordanceLoss()(x, -x + 4).item() == pytest.approx(2)


def test_unknown_values_do_not_count(scores):
    prediction, target = scores
    target = target.clone()
    target[::3, 0] = math.nan
    target[1:, 1] = math.nan  # a single known item: the attribute is left out
    known = ~target[:, 0].isnan()
    expected = [
        reference(prediction[known, 0].numpy(), target[known, 0].numpy()),
        reference(prediction[:, 2].numpy(), target[:, 2].numpy()),
    ]
    assert ConcordanceLoss()(prediction, target).item() == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert concordance(prediction, target)[1].tolist() == [True, False, True]


@pytest.mark.parametrize(
    "case", ["constant prediction", "constant target", "both", "equal", "one item", "nothing known"]
)
def test_gradients_are_finite(case, scores):
    prediction, target = scores[0].clone(), scores[1].clone()
    if case in ("constant prediction", "both"):
        prediction[:] = 0.5
    if case in ("constant target", "both"):
        target[:] = 0.25
    if case == "equal":
        prediction[:], target[:] = 0.5, 0.5
    if case == "one item":
        prediction, target = prediction[:1], target[:1]
    if case == "nothing known":
        target[:] = math.nan
    prediction.requires_grad_()
    loss = ConcordanceLoss()(prediction, target)
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad.isfinite().all()
    assert loss.item() == pytest.approx(1.0)  # 0 would be the value of perfection
    if case in ("one item", "nothing known"):
        assert not prediction.grad.any()
        assert ConcordanceLoss("sum")(prediction, target).item() == pytest.approx(prediction.shape[1])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_item_has_no_value_in_evaluation(scores, reduction):
    """0 would be the value of perfection."""
    prediction, target = scores
    assert ConcordanceLoss(reduction).eval()(prediction[:1], target[:1]).isnan()
    assert ConcordanceLoss(reduction).eval()(prediction, target).isfinite()


def test_half_precision_is_computed_in_float32(scores):
    prediction, target = (x.bfloat16() for x in scores)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ConcordanceLoss()(prediction, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ConcordanceLoss()(prediction.float(), target.float()))


RANK = """
import sys
import torch
import torch.distributed as dist
from hydraudio.tasks.emotion.losses import ConcordanceLoss

folder, rank, sizes = sys.argv[1], int(sys.argv[2]), [13, 7]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
prediction, target = (x[sum(sizes[:rank]) : sum(sizes[: rank + 1])] for x in torch.load(f"{folder}/data.pt"))
factor = torch.tensor(1.3, requires_grad=True)
loss = ConcordanceLoss()
value = loss(factor * prediction, target)
value.backward()
dist.all_reduce(factor.grad)  # data-parallel training averages gradients
alone = loss.eval()(factor * prediction, target)
torch.save((value.detach(), factor.grad / 2, alone.detach()), f"{folder}/{rank}.pt")
dist.destroy_process_group()  # else a thread of gloo can outlive the interpreter, and abort the process
"""


@pytest.mark.slow
def test_two_ranks_equal_one_large_batch(tmp_path, scores):
    torch.save(scores, tmp_path / "data.pt")
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(tmp_path), str(rank)]) for rank in (0, 1)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    prediction, target = scores
    factor = torch.tensor(1.3, requires_grad=True)
    value = ConcordanceLoss()(factor * prediction, target)
    value.backward()
    for rank, part in enumerate([slice(0, 13), slice(13, 20)]):
        loss, gradient, alone = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(loss, value.detach())
        torch.testing.assert_close(gradient, factor.grad)
        torch.testing.assert_close(alone, ConcordanceLoss()(1.3 * prediction[part], target[part]))
