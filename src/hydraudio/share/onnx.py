"""Networks as ONNX files, checked with onnxruntime before they appear under their name.

Needs the packages of the extra `export`. What goes into the file is said by the task (`export_module`): a separation
network takes `mixture` (1, time) float32 and gives `estimate` (1, n_sources, time); an emotion network takes `waveform`
(1, time) and gives `probabilities` (1, n_classes) and `attributes` (1, n_attributes) in [0, 1], those that it has. Time
may have any length (emotion: from `shortest_samples` of the metadata on). The sample rate and the names of what comes
out are in the metadata too.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from hydraudio.core.exportable import Exportable

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the largest value of the output."""


def export_onnx(network: Exportable, path: str | Path, seconds: tuple[float, float] = (1.0, 1.7)) -> float:
    """Write a network as ONNX and compare both at two lengths.

    Args:
        network: what to write, as ``task.export_module()`` gives it; it is moved to the CPU.
        path: file to write.
        seconds: lengths at which the file is checked.

    Returns:
        The largest difference at both lengths, relative to the largest value of the output.

    Raises:
        ValueError: the network cannot be exported, or the file computes something else; no file is left.
    """
    path = Path(path)
    network.module.cpu().eval()
    lengths = [round(s * network.sample_rate) for s in seconds]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        draft = Path(scratch) / path.name
        _write(network, draft, lengths[0])
        difference = max(_difference(network, draft, n_samples) for n_samples in lengths)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{_name(network)}: the exported graph differs from the network by {difference:.1e} of the "
                f"output's peak (at most {TOLERANCE:g} is allowed); it was not written"
            )
        os.replace(draft, path)
    return difference


def _write(network: Exportable, path: Path, n_samples: int) -> None:
    example = (_noise(n_samples),)
    dynamic = ({1: torch.export.Dim.DYNAMIC},)
    # Without it attention is traced with the fused kernel of this machine, whose memory layout is another one.
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        try:
            program: Any = torch.onnx.export(
                network.module,
                example,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=[network.input_name],
                output_names=list(network.output_names),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(
                f"{_name(network)} cannot be exported to ONNX: {reason}. Use the checkpoint with src/predict.py"
            ) from error
    program.model.metadata_props.update({"sample_rate": str(network.sample_rate), **network.metadata})
    program.save(path, external_data=False)


def _difference(network: Exportable, path: Path, n_samples: int) -> float:
    import onnxruntime

    waveform = _noise(n_samples)
    with torch.no_grad():
        given = network.module(waveform)
    expected = [given] if isinstance(given, Tensor) else list(given)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: Sequence[Any] = session.run(list(network.output_names), {network.input_name: waveform.numpy()})
    return max(
        _relative_difference(name, n_samples, theirs, ours.numpy())
        for name, theirs, ours in zip(network.output_names, found, expected, strict=True)
    )


def _relative_difference(name: str, n_samples: int, found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"the exported graph gives {name} {found.shape} for {n_samples} samples, not {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _name(network: Exportable) -> str:
    return type(network.module).__name__


def _noise(n_samples: int) -> Tensor:
    return 0.1 * torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
