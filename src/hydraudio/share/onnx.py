"""Networks as ONNX files, checked with onnxruntime before they appear under their name.

Needs the packages of the extra `export`. What goes into the file is said by the task (`Task.export_module`): the names
and axes of what goes in, which axes may have any size, what comes out, and the metadata, such as the sample rate.
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
from hydraudio.core.spec import Axes

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the largest value of the output."""


def export_onnx(network: Exportable, path: str | Path) -> float:
    """Write a network as ONNX and compare both, at two sizes of the axes that may have any.

    Args:
        network: what to write, as ``task.export_module()`` gives it; it is moved to the CPU.
        path: file to write.

    Returns:
        The largest difference at both sizes, relative to the largest value of the output.

    Raises:
        ValueError: the network cannot be exported, or the file computes something else; no file is left.
    """
    path = Path(path)
    network.module.cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        draft = Path(scratch) / path.name
        _write(network, draft)
        difference = max(_difference(network, draft, check) for check in (0, 1))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{_name(network)}: the exported graph differs from the network by {difference:.1e} of the "
                f"output's peak (at most {TOLERANCE:g} is allowed); it was not written"
            )
        os.replace(draft, path)
    return difference


def _write(network: Exportable, path: Path) -> None:
    example = tuple(_example(network, 0).values())
    dynamic = tuple(_free_axes(network, axes) for axes in network.inputs.values())
    # Without it attention is traced with the fused kernel of this machine, whose memory layout is another one.
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        try:
            program: Any = torch.onnx.export(
                network.module,
                example,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=list(network.inputs),
                output_names=list(network.output_names),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(
                f"{_name(network)} cannot be exported to ONNX: {reason}. Use the checkpoint with src/predict.py"
            ) from error
    program.model.metadata_props.update(network.metadata)
    program.save(path, external_data=False)


def _difference(network: Exportable, path: Path, check: int) -> float:
    import onnxruntime

    example = _example(network, check)
    with torch.no_grad():
        given = network.module(*example.values())
    expected = [given] if isinstance(given, Tensor) else list(given)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {name: value.numpy() for name, value in example.items()}
    found: Sequence[Any] = session.run(list(network.output_names), inputs)
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in example.items())
    return max(
        _relative_difference(name, shapes, theirs, ours.numpy())
        for name, theirs, ours in zip(network.output_names, found, expected, strict=True)
    )


def _relative_difference(name: str, shapes: str, found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"the exported graph gives {name} {found.shape} for {shapes}, not {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _name(network: Exportable) -> str:
    return type(network.module).__name__


def _example(network: Exportable, check: int) -> dict[str, Tensor]:
    """Noise for every input at the sizes of the first (0) or second (1) check; whole numbers are all 1."""
    generator, found = torch.Generator().manual_seed(0), {}
    for name, axes in network.inputs.items():
        sizes = [network.sizes[axis] for axis in axes.axes.split()]
        shape = [size if isinstance(size, int) else size[check] for size in sizes]
        dtype = getattr(torch, axes.dtype)
        is_float = dtype.is_floating_point
        found[name] = 0.1 * torch.randn(shape, generator=generator) if is_float else torch.ones(shape, dtype=dtype)
    return found


def _free_axes(network: Exportable, axes: Axes) -> dict[int, Any]:
    names = axes.axes.split()
    return {k: torch.export.Dim.DYNAMIC for k, axis in enumerate(names) if not isinstance(network.sizes[axis], int)}
