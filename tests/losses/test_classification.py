import math

import pytest
import torch
import torch.nn.functional as F

from hydraudio.losses.category import class_weights, effective_weights
from hydraudio.losses.classification import (
    LDAM,
    ClassBalanced,
    CrossEntropy,
    DeferredReweighting,
    Focal,
    JensenShannon,
    KLDivergence,
    LogitAdjustment,
    VectorScaling,
    WeightedBinaryCrossEntropy,
    WeightedCrossEntropy,
)
from hydraudio.metrics.calibration import adjust_logits

COUNTS = [6716, 6400, 16652, 2992, 1134, 1419, 2519, 29144]  # training items of the 2025 challenge, Angry to Neutral
INVERSE = [1.247, 1.308, 0.503, 2.798, 7.383, 5.900, 3.324, 0.287]  # the constants hard-coded in a public repository
EFFECTIVE = [0.516, 0.534, 0.311, 0.976, 2.354, 1.908, 1.133, 0.267]
LABELS = torch.tensor([0, 7, 4, 2, 4, 5])
HARD = F.one_hot(LABELS, 8).float()

ALL = {
    "cross_entropy": lambda: CrossEntropy(),
    "smoothed": lambda: CrossEntropy(0.1, "others"),
    "weighted": lambda: WeightedCrossEntropy(COUNTS),
    "balanced": lambda: LogitAdjustment(COUNTS),
    "focal": lambda: Focal(2.0, class_counts=COUNTS, weighting="inverse"),
    "weak_focal": lambda: Focal(0.5),
    "class_balanced": lambda: ClassBalanced(COUNTS),
    "kl": lambda: KLDivergence(),
    "weighted_kl": lambda: KLDivergence(COUNTS, "inverse"),
    "jensen_shannon": lambda: JensenShannon(),
    "wbce": lambda: WeightedBinaryCrossEntropy(COUNTS, "inverse"),
    "ldam": lambda: LDAM(COUNTS),
    "vector_scaling": lambda: VectorScaling(COUNTS),
    "deferred": lambda: DeferredReweighting(LDAM(COUNTS), COUNTS, from_epoch=0),
}


@pytest.fixture
def logits():
    return 2 * torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def soft():
    rows = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) ** 3
    rows[:, 3] = 0.0
    return rows / rows.sum(-1, keepdim=True)


def reduced(loss, logits, target):
    return loss(logits, target).sum() / loss.reduction_weights(target).sum()


def close(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=1e-6, rtol=1e-5)


def test_weights_of_the_2025_challenge():
    assert class_weights(COUNTS, "inverse").tolist() == pytest.approx(INVERSE, abs=6e-4)
    assert class_weights(COUNTS, "sqrt").tolist() == pytest.approx([w**0.5 for w in INVERSE], abs=1e-3)
    assert class_weights(COUNTS, "log").tolist() == pytest.approx([math.log(1 + w) for w in INVERSE], abs=1e-3)
    assert class_weights(COUNTS, "inverse", clip=[0.5, 5.0])[[2, 4, 7]].tolist() == pytest.approx(
        [0.503, 5, 0.5], abs=6e-4
    )
    assert effective_weights(COUNTS).tolist() == pytest.approx(EFFECTIVE, abs=6e-4)
    assert effective_weights(COUNTS).sum() == pytest.approx(8)


def test_effective_weights_with_beta_of_the_corpus():
    n = sum(COUNTS)
    beta = (n - 1) / n
    expected = [(1 - beta) / (1 - beta**count) for count in COUNTS]
    assert effective_weights(COUNTS, None, normalize=False).tolist() == pytest.approx(expected, rel=1e-5)


def test_empty_classes_have_no_weight():
    for weighting in ("inverse", "sqrt", "log", "effective"):
        weights = class_weights([3, 0, 1], weighting, clip=[0.25, 5.0])
        assert weights[1] == 0
        assert weights[2] > weights[0] > 0
    assert class_weights([3, 0, 1], "inverse").tolist() == pytest.approx([4 / 9, 0, 4 / 3])
    for build in (LogitAdjustment, LDAM, VectorScaling):
        with pytest.raises(ValueError, match=r"classes without training items: numbers \[1\]"):
            build([3, 0, 1])


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1]])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="class_counts="):
        class_weights(counts, "inverse")


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match=r"beta=1\.0 must lie in \[0, 1\)"):
        ClassBalanced(COUNTS, beta=1.0)
    with pytest.raises(ValueError, match=r"clip=\[5.0, 0.25\]"):
        WeightedCrossEntropy(COUNTS, clip=[5.0, 0.25])
    with pytest.raises(ValueError, match="weighting=inverse and clip=None need class_counts"):
        Focal(weighting="inverse")
    with pytest.raises(ValueError, match=r"smoothing=1\.0"):
        CrossEntropy(smoothing=1.0)


def test_cross_entropy_is_that_of_torch(logits, soft):
    close(reduced(CrossEntropy(), logits, HARD), F.cross_entropy(logits, LABELS))
    close(reduced(CrossEntropy(), logits, soft), F.cross_entropy(logits, soft))
    close(reduced(CrossEntropy(0.1), logits, HARD), F.cross_entropy(logits, LABELS, label_smoothing=0.1))


def test_smoothing_towards_the_other_classes():
    smoothed = CrossEntropy(0.05, "others").smooth(HARD[:1])
    close(smoothed, [[0.95] + [0.05 / 7] * 7])
    close(CrossEntropy(0.05).smooth(HARD[:1]), [[0.95 + 0.05 / 8] + [0.05 / 8] * 7])


def test_weighted_cross_entropy_divides_by_weights_or_items(logits, soft):
    weights = class_weights(COUNTS, "inverse")
    close(reduced(WeightedCrossEntropy(COUNTS), logits, HARD), F.cross_entropy(logits, LABELS, weight=weights))
    by_items = WeightedCrossEntropy(COUNTS, divide_by="items")
    close(reduced(by_items, logits, HARD), F.cross_entropy(logits, LABELS, weight=weights, reduction="sum") / 6)
    close(reduced(by_items, logits, soft), F.cross_entropy(logits, soft, weight=weights))


def test_balanced_softmax_is_its_quotient(logits):
    z, counts = logits.double(), torch.tensor(COUNTS).double()
    quotient = counts[LABELS] * z.exp().gather(1, LABELS[:, None])[:, 0] / (counts * z.exp()).sum(1)
    close(LogitAdjustment(COUNTS)(logits, HARD).double(), -quotient.log())
    priors = counts.float() / counts.sum()
    close(
        LogitAdjustment(COUNTS, tau=1.5)(logits, HARD),
        F.cross_entropy(logits + 1.5 * priors.log(), LABELS, reduction="none"),
    )
    close(LogitAdjustment(COUNTS, tau=0.0)(logits, HARD), F.cross_entropy(logits, LABELS, reduction="none"))


def test_focal_loss_by_hand(logits):
    p = logits.softmax(-1)[torch.arange(6), LABELS]
    w = class_weights(COUNTS, "sqrt")[LABELS]
    close(Focal(2.0, class_counts=COUNTS, weighting="sqrt")(logits, HARD), -w * (1 - p) ** 2 * p.log())
    close(Focal(0.0)(logits, HARD), F.cross_entropy(logits, LABELS, reduction="none"))
    close(
        reduced(Focal(2.0, class_counts=COUNTS, weighting="sqrt"), logits, HARD), (-w * (1 - p) ** 2 * p.log()).mean()
    )
    # p = .5 and .25 of two classes in four
    two = torch.tensor([[math.log(2.0), math.log(2.0)], [0.0, math.log(3.0)]])
    expected = [0.25 * math.log(2), 0.75**2 * math.log(4)]
    close(Focal()(two, torch.tensor([[1.0, 0.0], [1.0, 0.0]])), expected)


def test_class_balanced_by_hand(logits, soft):
    w = effective_weights(COUNTS)
    ce = F.cross_entropy(logits, LABELS, reduction="none")
    close(reduced(ClassBalanced(COUNTS), logits, HARD), (w[LABELS] * ce).mean())
    close(ClassBalanced(COUNTS)(logits, soft), (soft @ w) * F.cross_entropy(logits, soft, reduction="none"))


def test_kl_is_that_of_torch(logits, soft):
    log_p = logits.log_softmax(-1)
    close(reduced(KLDivergence(), logits, soft), F.kl_div(log_p, soft, reduction="batchmean"))
    w = class_weights(COUNTS, "inverse")
    close(KLDivergence(COUNTS, "inverse")(logits, soft), (w * F.kl_div(log_p, soft, reduction="none")).sum(1))
    close(KLDivergence()(soft.clamp_min(1e-30).log(), soft), torch.zeros(6))


def test_jensen_shannon_by_hand(logits, soft):
    p = logits.softmax(-1)
    m = (p + soft) / 2
    expected = (F.kl_div(m.log(), soft, reduction="none") + F.kl_div(m.log(), p, reduction="none")).sum(1) / 2
    close(JensenShannon()(logits, soft), expected)
    apart = JensenShannon()(torch.tensor([[0.0, 80.0]]), torch.tensor([[1.0, 0.0]]))
    close(apart, [math.log(2)])


def test_wbce_is_that_of_torch(logits, soft):
    w = class_weights(COUNTS, "inverse")
    close(
        reduced(WeightedBinaryCrossEntropy(COUNTS, "inverse"), logits, soft),
        F.binary_cross_entropy_with_logits(logits, soft, weight=w),
    )


@pytest.mark.parametrize("name", ALL)
def test_items_without_target_do_not_count(name, logits, soft):
    loss = ALL[name]()
    target = soft.clone()
    target[[1, 4]] = 0.0
    kept = [0, 2, 3, 5]
    per_item = loss(logits, target)
    assert per_item.shape == (6,)
    assert (per_item[[1, 4]] == 0).all()
    close(reduced(loss, logits, target), reduced(loss, logits[kept], target[kept]))


@pytest.mark.parametrize("name", ALL)
def test_computes_in_float32_under_autocast(name, logits, soft):
    loss = ALL[name]()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.bfloat16(), soft.bfloat16())
    assert value.dtype == torch.float32
    close(value, loss(logits.bfloat16().float(), soft.bfloat16().float()))


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_far_from_and_at_the_target(name, soft):
    z = torch.cat([1e4 * HARD, -1e4 * HARD, torch.zeros(6, 8)]).requires_grad_()
    ALL[name]()(z, torch.cat([HARD, HARD, soft])).sum().backward()
    assert z.grad.isfinite().all()
    assert (z.grad[6:] != 0).any()


@pytest.mark.parametrize("name", ALL)
def test_gradient_equals_differences(name, logits, soft):
    loss = ALL[name]()
    z = logits.clone().requires_grad_()
    loss(z, soft).sum().backward()
    step = torch.zeros_like(logits)
    step[2, 5] = 1e-2
    with torch.no_grad():
        slope = (loss(logits + step, soft).sum() - loss(logits - step, soft).sum()) / 2e-2
    assert z.grad[2, 5].item() == pytest.approx(slope.item(), abs=2e-3)


def test_shapes_must_agree(logits):
    with pytest.raises(ValueError, match="need logits and targets"):
        CrossEntropy()(logits, HARD[:, :7])


def test_adjusted_logits_undo_balanced_softmax(logits):
    priors = torch.tensor(COUNTS) / sum(COUNTS)
    probabilities = adjust_logits(logits, priors).softmax(-1)
    close(-probabilities[torch.arange(6), LABELS].log(), LogitAdjustment(COUNTS)(logits, HARD))
    close(adjust_logits(logits, priors, tau=0.5), logits + 0.5 * priors.log())
    with pytest.raises(ValueError, match="must be positive"):
        adjust_logits(logits, [0.0] + [1.0] * 7)
    with pytest.raises(ValueError, match="one prior for each of 8"):
        adjust_logits(logits, [0.5, 0.5])
