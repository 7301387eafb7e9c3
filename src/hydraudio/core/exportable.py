"""What a task hands over when its network is to be written as a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Exportable:
    """A network without its task.

    Attributes:
        module: takes (1, time) float32, any time, and gives one tensor, or a tuple of tensors in the order of
            `output_names`.
        input_name: of the waveform in the file.
        output_names: of what `module` gives.
        sample_rate: of the waveform, in Hz.
        metadata: further facts that a user of the file needs, such as the names of the classes. Lists go in as JSON.
    """

    module: nn.Module
    input_name: str
    output_names: tuple[str, ...]
    sample_rate: int
    metadata: Mapping[str, str] = field(default_factory=dict)
