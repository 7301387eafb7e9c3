"""Class priors and logits."""

from collections.abc import Sequence

import torch
from torch import Tensor


def adjust_logits(logits: Tensor, priors: Tensor | Sequence[float], tau: float = 1.0) -> Tensor:
    """Logits z that assume equal priors, moved to known priors: z + tau * log priors.

    Networks trained with balanced softmax give logits for equally frequent classes; softmax(z + log priors) is the
    probability where classes are as frequent as `priors` says (Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021). For a network trained with plain cross entropy on classes of frequency p, give the ratios
    priors / p.

    Args:
        logits: (..., n_classes).
        priors: one positive value per class; a common factor does not change the probabilities.
        tau: 1 for the exact shift.

    Raises:
        ValueError: a prior is not positive, or there is not one for each class.
    """
    values = torch.as_tensor(priors, dtype=torch.float32, device=logits.device)
    if values.shape != logits.shape[-1:]:
        raise ValueError(f"need one prior for each of {logits.shape[-1]} classes, found {tuple(values.shape)}")
    if not (values > 0).all():
        raise ValueError(f"priors must be positive, found {values.tolist()}")
    return logits + tau * values.log()
