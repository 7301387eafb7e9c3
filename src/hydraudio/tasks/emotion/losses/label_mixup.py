"""Mixing of utterances and of their labels."""

from typing import Any

import torch
from torch import Tensor, nn

UNKNOWN_GENDER = 2


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
        if not 0 <= p <= 1:
            raise ValueError(f"p={p} must be a probability")
        self.p = p

    def forward(self, batch: dict[str, Any], generator: torch.Generator | None = None) -> dict[str, Any]:
        """A new batch; the given one stays as it is.

        Args:
            batch: with ``waveform``, ``lengths`` and ``target``; see the datamodules of `hydraudio.tasks.emotion.corpora`.
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
            mixed["gender"] = batch["gender"].masked_fill(chosen & ~agree, UNKNOWN_GENDER)
        return {**batch, **mixed}

    def _draw(self, target: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Partners (batch,) and which items are mixed (batch,) bool."""
        partner = torch.randperm(len(target), generator=generator).to(target.device)
        chosen = (torch.rand(len(target), generator=generator) < self.p).to(target.device)
        has_target = target.sum(-1) > 0
        return partner, chosen & has_target & has_target[partner]
