import pytest
import torch
import torch.nn.functional as F

from hydraudio.losses.category import effective_weights
from hydraudio.losses.classification import LDAM, CrossEntropy, DeferredReweighting, VectorScaling

COUNTS = [160000, 10000, 625]
LABELS = torch.tensor([0, 1, 2, 2])
TARGET = F.one_hot(LABELS, 3).float()


@pytest.fixture
def logits():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def test_margins_are_fourth_roots():
    assert LDAM(COUNTS).margins.tolist() == pytest.approx([0.125, 0.25, 0.5])


def test_ldam_moves_the_true_logit_alone(logits):
    moved = logits.clone()
    for row, label in enumerate(LABELS):
        moved[row, label] -= [0.125, 0.25, 0.5][label]
    torch.testing.assert_close(LDAM(COUNTS)(logits, TARGET), F.cross_entropy(moved, LABELS, reduction="none"))


def test_ldam_as_published_on_cosines(logits):
    cosines = logits.tanh()
    published = F.cross_entropy(30 * (cosines - torch.tensor([0.125, 0.25, 0.5]) * TARGET), LABELS, reduction="none")
    torch.testing.assert_close(LDAM(COUNTS, scale=30.0)(30 * cosines, TARGET), published)


def test_vector_scaling(logits):
    counts = torch.tensor(COUNTS).float()
    divisor = (1 / counts) ** 0.3 / ((1 / counts) ** 0.3).min()
    shift = 1.25 * (counts / counts.sum()).log()
    expected = F.cross_entropy(logits / divisor + shift, LABELS, reduction="none")
    torch.testing.assert_close(VectorScaling(COUNTS, gamma=0.3, tau=1.25)(logits, TARGET), expected)


def test_weights_begin_with_their_epoch(logits):
    loss = DeferredReweighting(CrossEntropy(), COUNTS, from_epoch=2, beta=0.999)
    weights = effective_weights(COUNTS, 0.999)
    plain = F.cross_entropy(logits, LABELS)
    for epoch, expected in [(0, plain), (1, plain), (2, F.cross_entropy(logits, LABELS, weight=weights)), (1, plain)]:
        loss.set_epoch(epoch)
        value = loss(logits, TARGET).sum() / loss.reduction_weights(TARGET).sum()
        torch.testing.assert_close(value, expected)


def test_the_epoch_reaches_inner_schedules():
    inner = DeferredReweighting(CrossEntropy(), COUNTS, from_epoch=1)
    DeferredReweighting(inner, COUNTS, from_epoch=5).set_epoch(3)
    assert inner.epoch == 3
