"""Losses on categories. Everywhere z are logits, p = softmax(z), q the target, w class weights, n training counts."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.losses.category import (
    EFFECTIVE_BETA,
    CategoryLoss,
    WeightedCategoryLoss,
    Weighting,
    check_counts,
    effective_weights,
    labelled,
)


class CrossEntropy(CategoryLoss):
    """Compute -sum_c q_c log p_c: cross entropy with hard labels, soft cross entropy with distributions.

    Args:
        smoothing: share e of the probability that is taken from the target (Szegedy et al., CVPR 2016).
        smoothing_form: where it goes. ``uniform``: q' = (1 - e) q + e / C, as in PyTorch; ``others``:
            q' = (1 - e) q + e (1 - q) / (C - 1), to the other classes alone, as in EMO-SUPERB (Wu et al. 2024).

    >>> logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    >>> CrossEntropy().item_loss(logits, target).round(decimals=4)
    tensor([0.1269])
    >>> CrossEntropy(smoothing=0.1).smooth(target)
    tensor([[0.9500, 0.0500]])
    """

    def __init__(self, smoothing: float = 0.0, smoothing_form: Literal["uniform", "others"] = "uniform") -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing={smoothing} must lie in [0, 1)")
        if smoothing_form not in ("uniform", "others"):
            raise ValueError(f"smoothing_form={smoothing_form!r} is unknown; choose uniform or others")
        self.smoothing, self.smoothing_form = smoothing, smoothing_form

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy(logits, self.smooth(target))

    def smooth(self, target: Tensor) -> Tensor:
        """Return the smoothed target, (batch, n_classes)."""
        n_classes, share = target.shape[-1], self.smoothing
        if self.smoothing_form == "uniform":
            return (1 - share) * target + share / n_classes
        return (1 - share) * target + share * (1 - target) / (n_classes - 1)


class WeightedCrossEntropy(WeightedCategoryLoss):
    """Compute -sum_c w_c q_c log p_c.

    King & Zeng, "Logistic regression in rare events data", Political Analysis 9(2), 2001: the weighted likelihood.

    Args:
        class_counts: training items per class.
        weighting: ``inverse`` frequency, its ``sqrt`` or ``log``, or ``effective`` number (`class_weights`).
        clip: least and largest weight; null for no limits.
        divide_by: ``weights``: the mean over a batch divides by the sum of the weights in it, as PyTorch does, so a
            rare class counts less in a batch of its own kind; ``items``: by the number of items, which does not depend
            on how the items are batched.
    """

    def __init__(
        self,
        class_counts: Sequence[float],
        weighting: Weighting = "inverse",
        clip: Sequence[float] | None = None,
        divide_by: Literal["weights", "items"] = "weights",
    ) -> None:
        super().__init__(class_counts, weighting, clip)
        if divide_by not in ("weights", "items"):
            raise ValueError(f"divide_by={divide_by!r} is unknown; choose weights or items")
        self.divide_by = divide_by

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy(logits, self.weigh(target))

    def reduction_weights(self, target: Tensor) -> Tensor:
        return self.weigh(target.float()).sum(-1) if self.divide_by == "weights" else labelled(target)


class LogitAdjustment(CategoryLoss):
    """Compute the cross entropy of z + tau log n: balanced softmax for tau = 1.

    Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020:
    -log(n_y e^{z_y} / sum_c n_c e^{z_c}); Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, for other
    tau. At inference z is used as it is, which assumes equally frequent classes; `calibration.adjust_logits` states
    probabilities for others. The loss itself measures fit under the training priors also in validation.

    Args:
        class_counts: training items per class, none zero.
        tau: 0 is plain cross entropy.
    """

    shift: Tensor

    def __init__(self, class_counts: Sequence[float], tau: float = 1.0) -> None:
        super().__init__()
        counts = check_counts(class_counts, need_all=type(self).__name__)
        self.register_buffer("shift", (tau * (counts / counts.sum()).log()).float(), persistent=False)

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy(logits + self.shift, target)


class Focal(WeightedCategoryLoss):
    """Compute -sum_c w_c q_c (1 - p_c)^gamma log p_c, with p from the logits without weights.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, eq. 5. The mean is over items.

    Args:
        gamma: how much well classified items fade; 0 is (weighted) cross entropy.
        **class_weights: see `WeightedCategoryLoss`.
    """

    def __init__(self, gamma: float = 2.0, **class_weights: Any) -> None:
        super().__init__(**class_weights)
        if gamma < 0:
            raise ValueError(f"gamma={gamma} must not be negative")
        self.gamma = gamma

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1)
        # 1 - p, floored where its power has an infinite slope
        fading = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps) ** self.gamma
        return -(self.weigh(target) * fading * log_p).sum(-1)


class ClassBalanced(CategoryLoss):
    """s * -sum_c q_c log p_c with s = sum_c w_c q_c and w from effective numbers of items. The mean is over items.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019, softmax form; for hard labels
    s = w_y. The form for distributions is EMO-SUPERB's.

    Args:
        class_counts: training items per class.
        beta: 0.9999, or null for (N - 1) / N (`effective_weights`).
        normalize: scale the weights to a mean of 1.
    """

    weights: Tensor

    def __init__(
        self, class_counts: Sequence[float], beta: float | None = EFFECTIVE_BETA, normalize: bool = True
    ) -> None:
        super().__init__()
        self.register_buffer("weights", effective_weights(class_counts, beta, normalize), persistent=False)

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return (self.weights * target).sum(-1) * _cross_entropy(logits, target)


class KLDivergence(WeightedCategoryLoss):
    """Compute KL(q || p) = sum_c w_c q_c (log q_c - log p_c). The mean is over items.

    Kullback & Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22(1), 1951.

    Without weights it is the soft cross entropy less the entropy of the target: the same gradient, and 0 where the
    network is right. With weights it can be negative.
    """

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.weigh(torch.xlogy(target, target) - target * logits.log_softmax(-1)).sum(-1)


class JensenShannon(CategoryLoss):
    """Compute (KL(q || m) + KL(p || m)) / 2 with m = (p + q) / 2, in nats: from 0 to log 2.

    Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37(1), 1991.
    """

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1)
        log_q = target.log()  # -inf for 0, which log(p + q) takes
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        towards_q = torch.xlogy(target, target) - target * log_m
        return (towards_q + log_p.exp() * (log_p - log_m)).sum(-1) / 2


class WeightedBinaryCrossEntropy(WeightedCategoryLoss):
    """Mean over classes of w_c * (-q_c log sigmoid(z_c) - (1 - q_c) log sigmoid(-z_c)). The mean is over items.

    Every class is a question of its own, so that several may be true; the WBCE of the public 200AI recipe.
    """

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.weigh(F.binary_cross_entropy_with_logits(logits, target, reduction="none")).mean(-1)


class LDAM(CategoryLoss):
    """Compute the cross entropy of z - scale * m * q with margins m_c = max_margin * (n_min / n_c)^(1/4).

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019: the
    margin is proportional to n_c^(-1/4), and the largest is `max_margin`. The paper has logits that are 30 times a
    cosine: ``ClassifierHead(cosine_scale=30)`` with ``scale=30`` here. With logits of a linear layer leave scale at 1.

    Args:
        class_counts: training items per class, none zero.
        max_margin: margin of the rarest class, in units of the logits without their scale.
        scale: of the logits.
    """

    margins: Tensor

    def __init__(self, class_counts: Sequence[float], max_margin: float = 0.5, scale: float = 1.0) -> None:
        super().__init__()
        counts = check_counts(class_counts, need_all="LDAM")
        margins = scale * max_margin * (counts.min() / counts) ** 0.25
        self.register_buffer("margins", margins.float(), persistent=False)

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy(logits - self.margins * target, target)


class VectorScaling(CategoryLoss):
    """Compute the cross entropy of d_c z_c + tau log pi_c with d_c = (n_c / n_max)^gamma, training priors pi.

    Kini et al., "Label-imbalanced and group-sensitive classification under overparameterization", NeurIPS 2021;
    gamma and tau as in the public code. At inference z is used as it is.

    Args:
        class_counts: training items per class, none zero.
        gamma: of the factors; 0 leaves logit adjustment.
        tau: of the shift.
    """

    factor: Tensor
    shift: Tensor

    def __init__(self, class_counts: Sequence[float], gamma: float = 0.3, tau: float = 1.0) -> None:
        super().__init__()
        counts = check_counts(class_counts, need_all="VectorScaling")
        self.register_buffer("factor", ((counts / counts.max()) ** gamma).float(), persistent=False)
        self.register_buffer("shift", (tau * (counts / counts.sum()).log()).float(), persistent=False)

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy(self.factor * logits + self.shift, target)


class DeferredReweighting(CategoryLoss):
    """Compute a loss as it is, and weighted by effective numbers of items from an epoch on (DRW).

    The deferred schedule of Cao et al. 2019 (see `LDAM`): the network first learns from the natural distribution; late
    in the training every item counts w_y, and the mean divides by the weights. The epoch is told by `set_epoch`, so a
    resumed run is where it was.

    Args:
        loss: on categories.
        class_counts: training items per class.
        from_epoch: first epoch, from 0, with weights; the paper has 160 of 200.
        beta: of the effective numbers.
    """

    weights: Tensor

    def __init__(
        self, loss: CategoryLoss, class_counts: Sequence[float], from_epoch: int, beta: float | None = EFFECTIVE_BETA
    ) -> None:
        super().__init__()
        self.loss, self.from_epoch, self.epoch = loss, from_epoch, 0
        self.register_buffer("weights", effective_weights(class_counts, beta), persistent=False)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.loss.set_epoch(epoch)

    def item_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self._item_weights(target) * self.loss(logits, target)

    def reduction_weights(self, target: Tensor) -> Tensor:
        return self._item_weights(target.float()) * self.loss.reduction_weights(target)

    def _item_weights(self, target: Tensor) -> Tensor:
        """(batch,)"""
        if self.epoch < self.from_epoch:
            return torch.ones_like(target[:, 0])
        return (self.weights * target).sum(-1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(-1)).sum(-1)
