"""What a model makes of three fixed synthetic clips, alone and in one batch; also as a process of its own.

    python -m hydraudio.share.probe FOLDER OUTPUT.safetensors

loads a model folder where no network can be reached, and writes what it gives.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torch import Tensor

    from hydraudio.core.task import Task


DURATIONS_S = (1.0, 0.63, 1.47)
TIMEOUT_S = 600


def clips(sample_rate: int) -> list[Tensor]:
    """Three waveforms (time,) float32 in [-1, 1]: voices of falling, rising and wavering pitch."""
    import torch

    found = []
    for number, duration_s in enumerate(DURATIONS_S):
        t = torch.arange(round(duration_s * sample_rate), dtype=torch.float64) / sample_rate
        pitch_hz = (180 - 60 * t, 110 + 90 * t, 150 + 30 * torch.sin(2 * math.pi * 3 * t))[number]
        phase = 2 * math.pi * torch.cumsum(pitch_hz, 0) / sample_rate
        voice = sum(torch.sin(k * phase) / k for k in range(1, 6))
        found.append((0.2 * voice * (0.6 + 0.4 * torch.sin(2 * math.pi * 4 * t))).float())
    return found


def examples(task: Task) -> list[dict[str, Tensor]]:
    """Inputs of `Task.predict` for the three clips: one by one, then together.

    Where the inputs have lengths, clips of three lengths lie padded in the batch; else all are cut to the shortest.

    Raises:
        ValueError: the task has no size for an axis of its inputs.
    """
    import torch

    waveforms, rate = clips(task.sample_rate), task.sample_rate
    if "lengths" not in task.spec.inputs:
        waveforms = [waveform[: round(min(DURATIONS_S) * rate)] for waveform in waveforms]
    together = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batches = [(waveform[None], lengths[number : number + 1]) for number, waveform in enumerate(waveforms)]
    return [_example(task, *batch) for batch in [*batches, (together, lengths)]]


def _example(task: Task, waveform: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    import torch

    example = {}
    for name in task.spec.inputs:
        axes = task.spec.batch[name]
        sizes = [len(waveform), *(_size(task, axis, waveform.shape[-1]) for axis in axes.axes.split()[1:])]
        if name == "lengths":
            example[name] = lengths
        elif axes.is_waveform:
            example[name] = waveform.reshape(len(waveform), *[1] * (len(sizes) - 2), -1).expand(sizes).contiguous()
        else:
            row = torch.rand(sizes[1:], generator=torch.Generator().manual_seed(0)).to(getattr(torch, axes.dtype))
            example[name] = row.expand(sizes).contiguous()
    return example


def _size(task: Task, axis: str, n_samples: int) -> int:
    """Of an axis of the inputs: the samples of the clip, what the task has names for, or its attribute n_<axis>."""
    if axis == "time":
        return n_samples
    if axis in task.spec.names:
        return len(getattr(task, task.spec.names[axis]))
    size = getattr(task, f"n_{axis}", None)
    if size is None:
        raise ValueError(f"{type(task).__name__} does not say how long the axis {axis} of its inputs is: n_{axis}")
    return int(size)


def probe_outputs(task: Task) -> dict[str, Tensor]:
    """What the task predicts from the clips, by `clip0/<name>` ... and `batch/<name>`."""
    outputs: dict[str, Tensor] = {}
    for number, example in enumerate(examples(task)):
        kind = f"clip{number}" if number < len(DURATIONS_S) else "batch"
        outputs |= {f"{kind}/{name}": value for name, value in task.predict(example).items()}
    return outputs


def probe_in_clean_process(folder: Path, trusted_prefixes: Sequence[str] = ()) -> dict[str, Tensor]:
    """Load a folder in a process without network, caches of the hub or logins, and return :func:`probe_outputs`.

    Raises:
        ValueError: it cannot be loaded there; the message is that of the process.
    """
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as empty:
        output = Path(empty) / "outputs.safetensors"
        package = Path(__file__).parents[2]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
        paths = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HOME": empty, "PYTHONPATH": paths}
        trusted = [argument for prefix in trusted_prefixes for argument in ("--trusted-target", prefix)]
        result = subprocess.run(
            [sys.executable, "-m", "hydraudio.share.probe", str(folder.resolve()), str(output), *trusted],
            env=kept | offline,
            cwd=empty,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if result.returncode:
            raise ValueError(f"it cannot be loaded by itself: {_last_line(result.stderr)}")
        return load_file(output)


def forbid_network() -> None:
    """Let every connection of this process fail."""

    def refuse(*_: Any) -> NoReturn:
        raise OSError("this process may not use the network: a shared model must load from its folder alone")

    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, refuse)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--trusted-target", action="append", default=[], help="as extras.trusted_targets")
    arguments = parser.parse_args(argv)
    forbid_network()

    from safetensors.torch import save_file

    from hydraudio.share.model_folder import load_model_folder

    try:
        task = load_model_folder(arguments.folder, arguments.trusted_target)
        outputs = probe_outputs(task)
    except (ValueError, OSError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    save_file({name: value.contiguous() for name, value in outputs.items()}, arguments.output)
    return 0


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")


if __name__ == "__main__":
    sys.exit(main())
