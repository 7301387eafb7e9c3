"""What a task hands over when its network is to be written as a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydraudio.core.spec import Axes

if TYPE_CHECKING:
    from torch import nn

CHECKED_S = (1.0, 1.7, 0.4)
"""Lengths of waveforms at which an exported file is compared with its network, in seconds."""


@dataclass(frozen=True)
class Exportable:
    """A network without its task.

    Attributes:
        module: takes the inputs in their order and gives one tensor, or a tuple of tensors in the order of
            `output_names`.
        inputs: name in the file -> axes of what `module` takes, as in the task's specification.
        output_names: of what `module` gives.
        sizes: axis of the inputs -> its size, or the sizes at which the file is checked if any will do, as many for
            each such axis.
        metadata: facts that a user of the file needs, such as the sample rate and the names of the classes. Lists go
            in as JSON.
    """

    module: nn.Module
    inputs: Mapping[str, Axes]
    output_names: tuple[str, ...]
    sizes: Mapping[str, int | tuple[int, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)


def waveform_sizes(sample_rate: int) -> dict[str, int | tuple[int, ...]]:
    """Those of one waveform of any length."""
    return {"batch": 1, "time": tuple(round(seconds * sample_rate) for seconds in CHECKED_S)}
