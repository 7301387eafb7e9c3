"""Loss of a gender head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_KNOWN = 2


class GenderCrossEntropy(nn.Module):
    """Mean cross entropy over items of known gender, scalar float32; 0 where no gender is known."""

    def forward(self, gender_logits: Tensor, gender: Tensor) -> Tensor:
        """gender_logits: (batch, 2); gender: (batch,) int64, 0 Female, 1 Male, 2 Unknown."""
        known = gender < N_KNOWN
        with torch.autocast(gender_logits.device.type, enabled=False):
            losses = F.cross_entropy(gender_logits.float(), gender.clamp_max(N_KNOWN - 1), reduction="none")
            return losses.masked_fill(~known, 0.0).sum() / known.sum().clamp_min(1)
