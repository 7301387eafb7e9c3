"""Which parameters an optimizer does not pull towards zero."""

from torch import Tensor

MARK = "_no_weight_decay"
"""Attribute of a parameter without weight decay, as in the public code of Mamba."""


def exempt_from_weight_decay(*parameters: Tensor | None) -> None:
    """Mark parameters, such as biases and gains, that weight decay leaves alone."""
    for parameter in parameters:
        if parameter is not None:
            setattr(parameter, MARK, True)


def is_exempt_from_weight_decay(parameter: Tensor) -> bool:
    """Say whether `exempt_from_weight_decay` marked it."""
    return getattr(parameter, MARK, False)
