"""Losses of emotion networks by head, of attributes and of gender, and mixup of utterances and their labels.

Those of categories: `hydraudio.losses.classification`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from hydraudio.core.options import check_choice, check_probability
from hydraudio.losses.category import CategoryLoss
from hydraudio.tasks.emotion.networks.heads import UNKNOWN

CONCORDANCE_EPS = 1e-8
"""Added to the denominator, which is zero where prediction and truth are the same constant."""


class LossOfHead(TypedDict, total=False):
    """Head -> its loss.

    Attributes:
        category: on (logits, target).
        attributes: on (prediction, target with NaN where unknown).
        gender: on (logits, index).
    """

    category: CategoryLoss | None
    attributes: nn.Module | None
    gender: nn.Module | None


class HeadLosses(nn.Module):
    """The losses of the heads that a network has.

    Args:
        losses: by head.
        heads: those that there are.

    Raises:
        ValueError: a head has no loss.
    """

    category: CategoryLoss | None
    attributes: nn.Module | None
    gender: nn.Module | None

    def __init__(self, losses: LossOfHead, heads: Sequence[str]) -> None:
        super().__init__()
        missing = [head for head in heads if losses.get(head) is None]
        if missing:
            raise ValueError(f"the network has a head for {missing[0]}, which needs a loss: model.losses.{missing[0]}")
        self.category = losses["category"] if "category" in heads else None
        self.attributes = losses["attributes"] if "attributes" in heads else None
        self.gender = losses["gender"] if "gender" in heads else None

    def forward(self, output: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Scalars by head over some items; that of categories is NaN in evaluation where none has a label."""
        losses = {}
        if self.category is not None:
            losses["category"] = self._category(self.category, output["logits"], batch["target"])
        if self.attributes is not None:
            losses["attributes"] = self.attributes(output["attributes"], batch["attributes"])
        if self.gender is not None:
            losses["gender"] = self.gender(output["gender_logits"], batch["gender"])
        return losses

    def _category(self, loss: CategoryLoss, logits: Tensor, target: Tensor) -> Tensor:
        total, weight = loss(logits, target).sum(), loss.reduction_weights(target).sum()
        return total / (weight.clamp_min(torch.finfo(torch.float32).tiny) if self.training else weight)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss with a schedule."""
        if self.category is not None:
            self.category.set_epoch(epoch)


class ConcordanceLoss(nn.Module):
    """1 - CCC, mean or sum over attributes, scalar float32.

    Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45(1), 1989, with population
    moments over the items whose attribute is known:

        CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2 + 1e-8)

    An attribute with fewer than two known items is left out. If none remains, the loss of a training batch is that of
    no concordance (CCC = 0, as of constants), without a gradient; in evaluation there is no value, and it is NaN. Small
    batches bias the estimate towards 0.
    Under data-parallel training the moments are those of the batches of all ranks, and the gradient is that of one
    large batch. In evaluation nothing is gathered: score the pooled set instead of batches.

    Args:
        reduction: ``mean`` or ``sum`` over the attributes.
    """

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.reduction = check_choice("reduction", reduction, ("mean", "sum"))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction, target: (batch, n_attributes); NaN in `target` is unknown."""
        if prediction.shape != target.shape or prediction.ndim != 2:
            raise ValueError(
                f"need predictions and targets (batch, n_attributes), got {tuple(prediction.shape)} and "
                f"{tuple(target.shape)}"
            )
        with torch.autocast(prediction.device.type, enabled=False):
            x, y = prediction.float(), target.float()
            if self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                x, y = gather_rows(x, 0.0), gather_rows(y, float("nan"))
            ccc, usable = concordance(x, y)
            losses = (1 - ccc) * (usable | ~usable.any())
            total = losses.sum() if self.training else losses.sum().where(usable.any(), torch.nan)
            n_used = usable.sum().where(usable.any(), usable.numel())
            return total / n_used if self.reduction == "mean" else total


def concordance(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return CCC of each column and whether it has two known items or more: (batch, n) twice -> (n,) twice.

    The CCC of a column that has not is 0.
    """
    known = target.isfinite()
    count = known.sum(0)
    divisor = count.clamp_min(1)
    x = prediction.masked_fill(~known, 0.0)
    y = target.masked_fill(~known, 0.0)
    mean_x, mean_y = x.sum(0) / divisor, y.sum(0) / divisor
    x, y = (x - mean_x).masked_fill(~known, 0.0), (y - mean_y).masked_fill(~known, 0.0)
    covariance = (x * y).sum(0) / divisor
    spread = (x.square().sum(0) + y.square().sum(0)) / divisor
    usable = count >= 2
    ccc = 2 * covariance / (spread + (mean_x - mean_y).square() + CONCORDANCE_EPS)
    return ccc.masked_fill(~usable, 0.0), usable


def gather_rows(x: Tensor, fill: float) -> Tensor:
    """Gather the rows of all ranks, with gradients; fewer are filled up with `fill`. (batch, n) -> (all, n)."""
    size = torch.tensor([len(x)], device=x.device)
    dist.all_reduce(size, dist.ReduceOp.MAX)
    missing = int(size) - len(x)
    padded = torch.cat([x, x.new_full((missing, x.shape[1]), fill)]) if missing else x
    return torch.cat(all_gather(padded.contiguous()))


class GenderCrossEntropy(nn.Module):
    """Mean cross entropy over items of known gender, scalar float32; 0 where no gender is known."""

    def forward(self, gender_logits: Tensor, gender: Tensor) -> Tensor:
        """gender_logits: (batch, 2); gender: (batch,) int64, 0 Female, 1 Male, 2 Unknown."""
        known = gender < UNKNOWN
        with torch.autocast(gender_logits.device.type, enabled=False):
            losses = F.cross_entropy(gender_logits.float(), gender.clamp_max(UNKNOWN - 1), reduction="none")
            return losses.masked_fill(~known, 0.0).sum() / known.sum().clamp_min(1)


class LabelAdaptiveMixup(nn.Module):
    """Halves of two utterances, with labels weighted by their lengths.

    Kang, Zhang, Jiang: "Learning robust self-attention features for speech emotion recognition with label-adaptive
    mixup", ICASSP 2023, as public training recipes use it for WavLM.

    With probability `p` item i is mixed with item j, its partner in one random permutation of the batch:

        waveform = (x_i + x_j) / 2,  target = l q_i + (1 - l) q_j  with l = length_i / (length_i + length_j)

    It lasts as long as the longer of the two. The label follows the lengths although the waveforms are halves. Votes
    and attributes are mixed as the target (unknown if one is), the hard label of a mixed item is the most probable
    class of its target, its gender is unknown unless both agree, and id and metadata stay those of item i. Items
    without a category are neither mixed nor partners. The criterion is to take distributions (KL, cross entropy).

    Args:
        p: probability per item.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability("p", p)

    def forward(self, batch: dict[str, Any], generator: torch.Generator | None = None) -> dict[str, Any]:
        """A new batch; the given one stays as it is.

        Args:
            batch: with ``waveform``, ``lengths`` and ``target``, as the datamodules give it.
            generator: of the CPU, for the choice of items and partners; None: the global one.

        Raises:
            ValueError: the batch holds cached features instead of waveforms.
        """
        if "waveform" not in batch:
            raise ValueError(
                "mixup needs waveforms, and this batch holds cached features: set model.cache_features=null"
            )
        waveform, lengths, target = batch["waveform"], batch["lengths"], batch["target"]
        partner, chosen = self._draw(target, generator)
        share = (lengths / (lengths + lengths[partner]))[:, None]
        mixed = {
            "waveform": torch.where(chosen[:, None], (waveform + waveform[partner]) / 2, waveform),
            "lengths": torch.where(chosen, torch.maximum(lengths, lengths[partner]), lengths),
        }
        for key in ("target", "votes", "attributes"):
            if key in batch:
                value = batch[key]
                blend = share * value + (1 - share) * value[partner]
                mixed[key] = torch.where(chosen[:, None], blend.to(value.dtype), value)
        if "label" in batch:
            mixed["label"] = torch.where(chosen, mixed["target"].argmax(-1), batch["label"])
        if "gender" in batch:
            agree = batch["gender"] == batch["gender"][partner]
            mixed["gender"] = batch["gender"].masked_fill(chosen & ~agree, UNKNOWN)
        return {**batch, **mixed}

    def _draw(self, target: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Partners (batch,) and which items are mixed (batch,) bool."""
        partner = torch.randperm(len(target), generator=generator).to(target.device)
        chosen = (torch.rand(len(target), generator=generator) < self.p).to(target.device)
        has_target = target.sum(-1) > 0
        return partner, chosen & has_target & has_target[partner]
