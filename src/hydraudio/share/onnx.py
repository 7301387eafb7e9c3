"""Networks as ONNX files, checked with onnxruntime before they appear under their name.

Needs the packages of the extra `export`. What goes into the file is said by the task (`Task.export_module`): the names
and axes of what goes in, which axes may have any size, what comes out, and the metadata, such as the sample rate.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
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

LEAST_PEAK = 1e-6
"""A smaller largest value of an output (-120 dB), such as that of the estimate for silence, counts as this one."""

LEVELS_DB = (0, -20, -40, -60, -80)
"""Peaks of the noise that goes in, relative to full scale (1.0)."""


def export_onnx(network: Exportable, path: str | Path) -> float:
    """Write a network as ONNX and compare both, at every size of the axes that may have any.

    At each size what goes in is noise at the peaks of :data:`LEVELS_DB`, noise whose second half is zeros, and zeros.

    Args:
        network: what to write, as ``task.export_module()`` gives it; it is moved to the CPU.
        path: file to write.

    Returns:
        The largest difference of all comparisons, relative to the largest value of the output.

    Raises:
        ValueError: the network cannot be exported or does not give finite values, or the file computes something else;
            no file is left.
    """
    import onnxruntime

    path = Path(path)
    network.module.cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        draft = Path(scratch) / path.name
        _write(network, draft)
        session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        n_checks = max(len(size) for size in network.sizes.values() if not isinstance(size, int))
        difference = max(
            _difference(network, session, content, inputs)
            for check in range(n_checks)
            for content, inputs in _contents(_example(network, check))
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
                optimize=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(
                f"{_name(network)} cannot be exported to ONNX: {reason}. Use the checkpoint with src/predict.py"
            ) from error
    _protect_small_addends(program.model)
    program.optimize()
    program.model.metadata_props.update(network.metadata)
    program.save(path, external_data=False)


def _protect_small_addends(model: Any) -> None:
    """Give small constants that are added, such as the eps of a normalization, one axis of size 1.

    The optimizer takes a constant without axes for 0 up to 1e-8, and leaves the addition out.
    """
    import onnx_ir

    for node in model.graph.all_nodes():
        if node.op_type != "Constant" or "value" not in node.attributes:
            continue
        value = node.attributes["value"].as_tensor().numpy()
        is_added = all(user.op_type in ("Add", "Sub") for user in node.outputs[0].consumers())
        if is_added and value.dtype.kind == "f" and value.ndim == 0 and 0 < abs(value) <= 1e-8:
            node.attributes["value"] = onnx_ir.AttrTensor("value", onnx_ir.tensor(value.reshape(1)))


def _contents(example: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """What goes in, in words, and the inputs: numbers of `example` other than whole ones, which peak at 1, changed."""

    def changed(change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        return {name: change(value) if value.is_floating_point() else value for name, value in example.items()}

    for level in LEVELS_DB:
        yield f"noise at {level} dB", changed(partial(torch.mul, other=10 ** (level / 20)))
    yield "noise, then zeros", changed(_silence_second_half)
    yield "zeros", changed(torch.zeros_like)


def _silence_second_half(value: Tensor) -> Tensor:
    silenced = value.clone()
    silenced[..., value.shape[-1] // 2 :] = 0
    return silenced


def _difference(network: Exportable, session: Any, content: str, inputs: Mapping[str, Tensor]) -> float:
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
    where = f"{content} as {shapes}"
    with torch.no_grad():
        given = network.module(*inputs.values())
    expected = [given] if isinstance(given, Tensor) else list(given)
    if not all(bool(value.isfinite().all()) for value in expected):
        raise ValueError(f"{_name(network)} itself gives values that are not finite for {where}; it was not written")
    found = session.run(list(network.output_names), {name: value.numpy() for name, value in inputs.items()})
    largest = 0.0
    for name, theirs, ours in zip(network.output_names, found, expected, strict=True):
        if theirs.shape != ours.shape:
            raise ValueError(f"the exported graph gives {name} {theirs.shape} for {where}, not {tuple(ours.shape)}")
        peak = max(float(ours.abs().max()), LEAST_PEAK)
        difference = float(np.abs(theirs - ours.numpy()).max()) / peak
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{_name(network)}: the exported graph differs from the network by {difference:.1e} of the peak of "
                f"{name} for {where} (at most {TOLERANCE:g} is allowed); it was not written"
            )
        largest = max(largest, difference)
    return largest


def _name(network: Exportable) -> str:
    return type(network.module).__name__


def _example(network: Exportable, check: int) -> dict[str, Tensor]:
    """Noise with a peak of 1 for every input at the sizes of the check with this number; whole numbers are all 1."""
    generator, found = torch.Generator().manual_seed(0), {}
    for name, axes in network.inputs.items():
        sizes = [network.sizes[axis] for axis in axes.axes.split()]
        shape = [size if isinstance(size, int) else size[check] for size in sizes]
        found[name] = torch.ones(shape, dtype=getattr(torch, axes.dtype))
        if found[name].is_floating_point():
            noise = torch.randn(shape, generator=generator)
            found[name] = noise / noise.abs().max()
    return found


def _free_axes(network: Exportable, axes: Axes) -> dict[int, Any]:
    names = axes.axes.split()
    return {k: torch.export.Dim.DYNAMIC for k, axis in enumerate(names) if not isinstance(network.sizes[axis], int)}
