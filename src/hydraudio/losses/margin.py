"""Losses on categories that ask for more distance from rare classes, and their schedule."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hydraudio.losses.category import CategoryLoss
from hydraudio.losses.class_weights import EFFECTIVE_BETA, check_counts, effective_weights


class LDAM(CategoryLoss):
    """Cross entropy of z - scale * m * q with margins m_c = max_margin * (n_min / n_c)^(1/4).

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
        return -(target * (logits - self.margins * target).log_softmax(-1)).sum(-1)


class VectorScaling(CategoryLoss):
    """Cross entropy of d_c z_c + tau log pi_c with d_c = (n_c / n_max)^gamma and the training priors pi.

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
        return -(target * (self.factor * logits + self.shift).log_softmax(-1)).sum(-1)


class DeferredReweighting(CategoryLoss):
    """A loss as it is, and weighted by effective numbers of items from an epoch on (DRW).

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
        self,
        loss: CategoryLoss,
        class_counts: Sequence[float],
        from_epoch: int,
        beta: float | None = EFFECTIVE_BETA,
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
