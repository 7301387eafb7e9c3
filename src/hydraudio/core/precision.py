"""`trainer.precision=auto`: what the device of a run computes natively."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import torch

log = logging.getLogger(__name__)

TENSOR_CORES = (7, 0)
"""Compute capability from which CUDA devices multiply float16 matrices faster than float32 ones (Volta)."""


def settle_precision(trainer: MutableMapping[str, Any]) -> None:
    """Replace ``precision: auto`` in the settings of a trainer, and say by what, in one line.

    On CUDA it is bf16-mixed where the device computes bfloat16 natively. PyTorch emulates it on older devices and then
    calls it supported; there it is 16-mixed, with the loss scaled so that small gradients are not lost, and a step
    whose gradients overflow left out (`torch.amp.GradScaler`). Without tensor cores, and off CUDA, it is 32-true.
    """
    if trainer.get("precision") != "auto":
        return
    on_cuda = trainer.get("accelerator", "auto") in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    chosen, reason = _of_cuda() if on_cuda else ("32-true", "not on a CUDA device")
    trainer["precision"] = chosen
    log.info("trainer.precision=auto: %s (%s)", chosen, reason)


def _of_cuda() -> tuple[str, str]:
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed", f"{name} computes bfloat16 natively"
    if torch.cuda.get_device_capability() >= TENSOR_CORES:
        return "16-mixed", f"{name} has no native bfloat16; the loss is scaled"
    return "32-true", f"{name} has no tensor cores"
