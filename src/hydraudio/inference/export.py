"""Networks as ONNX files, checked with onnxruntime before they appear under their name.

Needs the packages of the extra `export`. The exported graph takes `mixture` (1, time) float32 of any length and gives
`estimate` (1, n_sources, time); sample rate and sources are in the file's metadata.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the largest sample of the estimate."""


def export_onnx(net: nn.Module, path: str | Path, sample_rate: int, seconds: tuple[float, float] = (1.0, 1.7)) -> float:
    """Write a network as ONNX and compare both at two lengths.

    Args:
        net: (batch, time) -> (batch, n_sources, time), with `n_sources`.
        path: file to write.
        sample_rate: of the waveforms, in Hz; goes into the metadata.
        seconds: lengths at which the file is checked.

    Returns:
        The largest difference at both lengths, relative to the largest sample of the estimate.

    Raises:
        ValueError: the network cannot be exported, or the file computes something else; no file is left.
    """
    path = Path(path)
    net = net.cpu().eval()
    lengths = [round(s * sample_rate) for s in seconds]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        draft = Path(scratch) / path.name
        _write(net, draft, lengths[0], {"sample_rate": str(sample_rate), "n_sources": str(net.n_sources)})
        difference = max(_difference(net, draft, n_samples) for n_samples in lengths)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{type(net).__name__}: the exported graph differs from the network by {difference:.1e} of the "
                f"estimate's peak (at most {TOLERANCE:g} is allowed); it was not written"
            )
        os.replace(draft, path)
    return difference


def _write(net: nn.Module, path: Path, n_samples: int, metadata: dict[str, str]) -> None:
    example = (_noise(n_samples),)
    dynamic = ({1: torch.export.Dim.DYNAMIC},)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        try:
            program: Any = torch.onnx.export(
                net,
                example,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=["mixture"],
                output_names=["estimate"],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(
                f"{type(net).__name__} cannot be exported to ONNX: {reason}. Use the checkpoint with src/predict.py"
            ) from error
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def _difference(net: nn.Module, path: Path, n_samples: int) -> float:
    import onnxruntime

    mixture = _noise(n_samples)
    with torch.no_grad():
        expected = net(mixture).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"mixture": mixture.numpy()})[0]
    if found.shape != expected.shape:
        raise ValueError(f"the exported graph gives {found.shape} for {n_samples} samples, not {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _noise(n_samples: int) -> Tensor:
    return 0.1 * torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
