"""What items and batches of all corpora of mixtures have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def collate_descriptions(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a batch says of its items beside their samples.

    Returns:
        id and variant (lists), degenerate (batch,) bool, and metadata (a list of dicts) where the items have it.
    """
    batch: dict[str, Any] = {name: [item[name] for item in items] for name in ("id", "variant")}
    batch["degenerate"] = torch.tensor([item["degenerate"] for item in items])
    if "metadata" in items[0]:
        batch["metadata"] = [item["metadata"] for item in items]
    return batch


def level_db(signal: np.ndarray, reference: np.ndarray) -> float | None:
    """Energy of (time,) over that of the reference, in dB; None where either is zero."""
    energies = [float(np.square(each, dtype=np.float64).sum()) for each in (signal, reference)]
    return 10.0 * math.log10(energies[0] / energies[1]) if all(energies) else None
