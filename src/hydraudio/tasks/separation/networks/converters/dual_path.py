"""What the converters of dual-path networks share.

SpeechBrain's mask net is `speechbrain.lobes.models.dual_path.Dual_Path_Model`.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hydraudio.tasks.separation.networks.converters.files import (
    FRAME_KEYS,
    SPEECHBRAIN_FILES,
    StateDict,
    check_all_used,
)
from hydraudio.tasks.separation.networks.tasnet import TasNet

BlockKey = Callable[[str, str], str]  # ("intra" or "inter", our key in the block) -> SpeechBrain's in the layer

_KEYS = {  # ours: SpeechBrain's, in the mask net
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
    "bottleneck.weight": "conv1d.weight",
    "prelu.weight": "prelu.weight",
    "sources.weight": "conv2d.weight",
    "sources.bias": "conv2d.bias",
    "output.weight": "output.0.weight",
    "output.bias": "output.0.bias",
    "output_gate.weight": "output_gate.0.weight",
    "output_gate.bias": "output_gate.0.bias",
    "mask.weight": "end_conv1x1.weight",
}
_KERNEL_AXES = {"conv1d": 1, "conv2d": 2, "output": 1, "output_gate": 1, "end_conv1x1": 1}  # of 1x1 convolutions


def load(net: TasNet, parts: dict[str, StateDict], block_key: BlockKey, network: str) -> None:
    """SpeechBrain's weights into `net`, which must have the same shapes. `network`: its name in messages."""
    state = net.state_dict()
    keys = {ours: _speechbrain_key(ours, block_key) for ours in state}
    check_all_used(parts, set(keys.values()), network)
    net.load_state_dict({ours: parts[part][key].view_as(state[ours]) for ours, (part, key) in keys.items()})


def dump(net: TasNet, block_key: BlockKey) -> dict[str, StateDict]:
    """Return the three state dicts for SpeechBrain's modules."""
    parts: dict[str, StateDict] = {part: {} for part in SPEECHBRAIN_FILES}
    for ours, value in net.state_dict().items():
        part, key = _speechbrain_key(ours, block_key)
        parts[part][key] = _with_kernel_axes(key, value) if part == "masknet" else value
    return parts


def frame_arguments(parts: dict[str, StateDict]) -> dict[str, Any]:
    """Return the constructor arguments of the frame, read from the shapes; `n_layers` counts the dual-path layers."""
    mask_net = parts["masknet"]
    n_filters, _, kernel_size = parts["encoder"]["conv1d.weight"].shape
    layers = [int(key.split(".")[1]) for key in mask_net if key.startswith("dual_mdl.")]
    if not layers or "conv2d.weight" not in mask_net:
        raise ValueError("masknet.ckpt is not a Dual_Path_Model of SpeechBrain: it lacks dual_mdl or conv2d")
    return {
        "n_sources": len(mask_net["conv2d.weight"]) // n_filters,
        "n_filters": n_filters,
        "kernel_size": kernel_size,
        "n_layers": 1 + max(layers),
    }


def _speechbrain_key(ours: str, block_key: BlockKey) -> tuple[str, str]:
    if ours in FRAME_KEYS:
        return FRAME_KEYS[ours]
    name = ours.removeprefix("mask_net.")
    if name in _KEYS:
        return "masknet", _KEYS[name]
    _, index, role, rest = name.split(".", 3)
    key = f"{role}.{rest}" if role.endswith("_norm") else block_key(role, rest)
    return "masknet", f"dual_mdl.{index}.{key}"


def _with_kernel_axes(key: str, value: Tensor) -> Tensor:
    if not key.endswith("weight"):
        return value
    return value[(...,) + (None,) * _KERNEL_AXES.get(key.split(".")[0], 0)]
