"""Weights of SpeechBrain's Conv-TasNet to ours and back.

SpeechBrain's mask net is `speechbrain.lobes.models.conv_tasnet.MaskNet`. The converted net computes the same function,
which takes two precautions:

- SpeechBrain's non-causal convolutions reflect the signal at its ends, so the net gets padding="reflect".
- SpeechBrain's causal convolutions pad twice and come out (taps - 1) / 2 dilations late: no tap reads the present
  frame. The same function is a longer kernel whose last taps are zero. With gLN such a net is not causal (gLN averages
  over the future), so ours is then a non-causal one, whose kernels have zeros for all later frames.
"""

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.layers.normalization import BatchNorm, GlobalLayerNorm
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet, ConvTasNetMaskNet, TemporalBlock
from hydraudio.tasks.separation.networks.converters.files import (
    FRAME_KEYS,
    SPEECHBRAIN_FILES,
    StateDict,
    check_all_used,
)

SPEECHBRAIN_EPS = 1e-8  # module constant EPS of speechbrain.lobes.models.conv_tasnet (1.1)

_BLOCK_KEYS = {  # ours: SpeechBrain's
    "expand.weight": "conv.conv.weight",
    "prelu1.weight": "act.weight",
    "norm1.weight": "norm.gamma",
    "norm1.bias": "norm.beta",
    "depthwise.weight": "DSconv.conv_0.conv.weight",
    "prelu2.weight": "DSconv.act.weight",
    "norm2.weight": "DSconv.act_0.gamma",
    "norm2.bias": "DSconv.act_0.beta",
    "project.weight": "DSconv.conv_1.conv.weight",
}
_KEYS = FRAME_KEYS | {  # ours: (SpeechBrain's part, key), of all but the blocks
    "mask_net.norm.weight": ("masknet", "layer_norm.gamma"),
    "mask_net.norm.bias": ("masknet", "layer_norm.beta"),
    "mask_net.bottleneck.weight": ("masknet", "bottleneck_conv1x1.conv.weight"),
    "mask_net.mask.weight": ("masknet", "mask_conv1x1.conv.weight"),
}


def conv_tasnet_from_speechbrain(parts: dict[str, StateDict], norm: str, causal: bool) -> ConvTasNet:
    """Return the net with these weights. `norm` ("gLN", "cLN") and `causal` as given to SpeechBrain: no shape tells
    them.
    """
    given = arguments(parts, norm, causal)
    net = ConvTasNet(**given)
    keys = _speechbrain_keys(net)
    check_all_used(parts, set(keys.values()), "Conv-TasNet")
    n_taps = given["block_kernel_size"]
    state = {ours: _to_ours(ours, parts[part][theirs], n_taps) for ours, (part, theirs) in keys.items()}
    net.load_state_dict(state)
    return net


def conv_tasnet_to_speechbrain(net: ConvTasNet, causal: bool) -> dict[str, StateDict]:
    """Make the three state dicts for SpeechBrain's modules, `causal` as for MaskNet; refuse what differs there."""
    options = _options(net)
    _check_expressible(options, causal)
    n_taps = options["block_kernel_size"]
    kept = _speechbrain_taps(n_taps, options["norm"]) if causal else n_taps
    parts: dict[str, StateDict] = {part: {} for part in SPEECHBRAIN_FILES}
    keys = _speechbrain_keys(net)
    for ours, value in net.state_dict().items():
        part, theirs = keys[ours]
        parts[part][theirs] = _to_speechbrain(ours, theirs, value, kept)
    return parts


def _speechbrain_keys(net: ConvTasNet) -> dict[str, tuple[str, str]]:
    """ours: (SpeechBrain's part, key), for every tensor of the net."""
    n_blocks = len({block.depthwise.dilation for block in _blocks(net)})
    return {ours: _KEYS.get(ours) or ("masknet", _speechbrain_block_key(ours, n_blocks)) for ours in net.state_dict()}


def _blocks(net: ConvTasNet) -> list[TemporalBlock]:
    return cast(list[TemporalBlock], list(cast(ConvTasNetMaskNet, net.mask_net).blocks))


def _options(net: ConvTasNet) -> dict[str, Any]:
    """What a converted net must agree in, by the names of its constructor."""
    block, mask_net = _blocks(net)[0], cast(ConvTasNetMaskNet, net.mask_net)
    by_batch = "BN" if isinstance(block.norm1, BatchNorm) else "cLN"
    return {
        "block_kernel_size": block.depthwise.kernel_size[0],
        "norm": "gLN" if isinstance(block.norm1, GlobalLayerNorm) else by_batch,
        "causal": net.causal,
        "mask_activation": mask_net.mask_activation,
        "padding": "reflect" if block.depthwise.geometry.reflect else "zero",
        "eps": block.norm1.eps,
    }


def arguments(parts: dict[str, StateDict], norm: str, causal: bool) -> dict[str, Any]:
    """Return the constructor arguments, read from the shapes; options as in `conv_tasnet_from_speechbrain`."""
    if norm not in ("gLN", "cLN"):
        raise ValueError(f"norm={norm!r}: SpeechBrain's Conv-TasNet runs with 'gLN' or 'cLN' alone")
    mask_net = parts["masknet"]
    blocks = _speechbrain_blocks(mask_net)
    n_repeats = 1 + max(int(prefix.split("_")[-2]) for prefix in blocks)
    n_filters, _, kernel_size = parts["encoder"]["conv1d.weight"].shape
    hidden, _, taps = mask_net[f"{blocks[0]}.layers.DSconv.conv_0.conv.weight"].shape
    late = (taps - 1) * 3 // 2 if causal else 0  # the earliest tap, in dilations before the present
    lengthened = {"gLN": 2 * late + 1, "cLN": late + 1}[norm]
    return {
        "n_sources": mask_net["mask_conv1x1.conv.weight"].shape[0] // n_filters,
        "n_filters": n_filters,
        "kernel_size": kernel_size,
        "bottleneck_channels": mask_net["bottleneck_conv1x1.conv.weight"].shape[0],
        "hidden_channels": hidden,
        "block_kernel_size": lengthened if causal else taps,
        "n_blocks": len(blocks) // n_repeats,
        "n_repeats": n_repeats,
        "norm": norm,
        "causal": causal and norm == "cLN",
        "padding": "zero" if causal else "reflect",
        "eps": SPEECHBRAIN_EPS,
    }


def _speechbrain_taps(n_taps: int, norm: str) -> int:
    """Taps of SpeechBrain's causal kernel whose lengthened form has `n_taps`; inverse of the rule in `arguments`."""
    late = (n_taps - 1) // 2 if norm == "gLN" else n_taps - 1
    if late % 3:
        raise ValueError(f"block_kernel_size={n_taps} does not come from a causal SpeechBrain net")
    return 2 * late // 3 + 1


def _speechbrain_blocks(mask_net: StateDict) -> list[str]:
    """Prefixes of the blocks in the order of the net."""
    return list(dict.fromkeys(key.split(".layers.")[0] for key in mask_net if ".layers." in key))


def _speechbrain_block_key(ours: str, n_blocks: int) -> str:
    _, _, index, rest = ours.split(".", 3)
    repeat, block = divmod(int(index), n_blocks)
    return f"temporal_conv_net.temporalblock_{repeat}_{block}.layers.{_BLOCK_KEYS[rest]}"


def _check_expressible(options: dict[str, Any], causal: bool) -> None:
    """SpeechBrain fixes these, so another value would silently compute something else there."""
    required = {"mask_activation": "relu", "eps": SPEECHBRAIN_EPS, "padding": "zero" if causal else "reflect"}
    for name, value in required.items():
        if options[name] != value:
            raise ValueError(f"SpeechBrain's Conv-TasNet needs {name}={value!r}, the net has {options[name]!r}")
    if options["norm"] == "BN":
        raise ValueError("SpeechBrain's Conv-TasNet does not run with norm='BN'")
    if options["causal"] and not causal:
        raise ValueError("the net is causal: convert it with causal=True")


def _to_ours(key: str, value: Tensor, n_taps: int) -> Tensor:
    """Norms as (channels,); depthwise kernels lengthened by zero taps at the end."""
    if ".norm" in key:
        return value.flatten()
    return F.pad(value, (0, n_taps - value.shape[-1])) if ".depthwise." in key else value


def _to_speechbrain(ours: str, theirs: str, value: Tensor, n_taps: int) -> Tensor:
    if theirs.endswith(("gamma", "beta")):
        return value.view(1, 1, -1)
    if ".depthwise." not in ours:
        return value
    if value[..., n_taps:].any():
        raise ValueError(f"{ours}: taps from {n_taps} on are not zero; SpeechBrain's causal convolutions lack them")
    return value[..., :n_taps].contiguous()
