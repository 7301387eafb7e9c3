"""Weights of SpeechBrain's RE-SepFormer to ours and back.

SpeechBrain's mask net is `speechbrain.lobes.models.resepformer.ResourceEfficientSeparator` with mem_type="av" and
blocks `SBTransformerBlock_wnormandskip` with norm_before=True and norm_type="gln". The converted net computes the same
function of one recording; in a batch SpeechBrain's memory runs over the segments of all recordings together. The tables
of the positional encoding are not weights: whether they are there tells whether the net uses it.
"""

from typing import Any, Literal, cast

from torch import Tensor

from hydraudio.nn.layers.transformer import sinusoids
from hydraudio.tasks.separation.networks.converters.files import (
    FRAME_KEYS,
    SPEECHBRAIN_FILES,
    StateDict,
    check_all_used,
)
from hydraudio.tasks.separation.networks.converters.sepformer import transformer_key
from hydraudio.tasks.separation.networks.resepformer import RESepFormer, RESepFormerMaskNet

SPEECHBRAIN_MAX_STEPS = 100_000  # length of the tables
_TABLE = "pos_enc.pe"
_KEYS = FRAME_KEYS | {  # ours: (SpeechBrain's part, key)
    "mask_net.prelu.weight": ("masknet", "model.output_fc.0.weight"),
    "mask_net.mask.weight": ("masknet", "model.output_fc.1.weight"),
    "mask_net.mask.bias": ("masknet", "model.output_fc.1.bias"),
}
_BLOCKS = {"segment_blocks": "seg_model", "memory_blocks": "mem_model"}


def resepformer_from_speechbrain(
    parts: dict[str, StateDict], n_heads: int, segment_frames: int, mask_activation: Literal["relu", "sigmoid"] = "relu"
) -> RESepFormer:
    """Return the net with these weights.

    `n_heads` [nhead], `segment_frames` [segment_size] and `mask_activation` [nonlinear] as given to SpeechBrain: no
    shape tells them.
    """
    net = RESepFormer(**arguments(parts, n_heads, segment_frames, mask_activation))
    parts = parts | {"masknet": {k: value for k, value in parts["masknet"].items() if not k.endswith(_TABLE)}}
    keys = {ours: _speechbrain_key(ours) for ours in net.state_dict()}
    check_all_used(parts, set(keys.values()), "RE-SepFormer")
    net.load_state_dict({ours: _to_ours(ours, parts[part][key], net.n_sources) for ours, (part, key) in keys.items()})
    return net


def resepformer_to_speechbrain(net: RESepFormer) -> dict[str, StateDict]:
    """Return the three state dicts for SpeechBrain's modules."""
    parts: dict[str, StateDict] = {part: {} for part in SPEECHBRAIN_FILES}
    for ours, value in net.state_dict().items():
        part, key = _speechbrain_key(ours)
        parts[part][key] = _to_speechbrain(ours, value, net.n_sources)
    if net.positional_encoding:
        table = sinusoids(SPEECHBRAIN_MAX_STEPS, net.n_filters)[None]
        n_blocks = len(cast(RESepFormerMaskNet, net.mask_net).segment_blocks)
        for name, count in (("seg_model", n_blocks), ("mem_model", n_blocks - 1)):
            for index in range(count):
                parts["masknet"][f"model.{name}.{index}.{_TABLE}"] = table.clone()
    return parts


def arguments(
    parts: dict[str, StateDict], n_heads: int, segment_frames: int, mask_activation: Literal["relu", "sigmoid"] = "relu"
) -> dict[str, Any]:
    """Return the constructor arguments, read from the shapes; options as in `resepformer_from_speechbrain`."""
    mask_net, layers = parts["masknet"], "model.seg_model.0.mdl.layers."
    if f"{layers}0.pos_ffn.ffn.0.weight" not in mask_net:
        raise ValueError(
            "masknet.ckpt is not an RE-SepFormer of SpeechBrain: model.seg_model has no transformer layers"
        )
    n_filters, _, kernel_size = parts["encoder"]["conv1d.weight"].shape
    return {
        "n_sources": len(mask_net["model.output_fc.1.weight"]) // n_filters,
        "n_filters": n_filters,
        "kernel_size": kernel_size,
        "n_blocks": _count(mask_net, "model.seg_model."),
        "n_layers": _count(mask_net, layers),
        "feedforward_channels": len(mask_net[f"{layers}0.pos_ffn.ffn.0.weight"]),
        "n_heads": n_heads,
        "segment_frames": segment_frames,
        "mask_activation": mask_activation,
        "positional_encoding": any(key.endswith(_TABLE) for key in mask_net),
    }


def _count(state: StateDict, prefix: str) -> int:
    return 1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in state if key.startswith(prefix))


def _speechbrain_key(ours: str) -> tuple[str, str]:
    if ours in _KEYS:
        return _KEYS[ours]
    _, blocks, index, part, rest = ours.split(".", 4)
    key = f"mdl.{transformer_key(rest)}" if part == "transformer" else f"norm.{rest}"
    return "masknet", f"model.{_BLOCKS[blocks]}.{index}.{key}"


def _to_ours(ours: str, value: Tensor, n_sources: int) -> Tensor:
    """SpeechBrain's mask has the sources of a filter side by side, ours the filters of a source."""
    if ours.startswith("mask_net.mask."):
        return value.view(-1, n_sources, *value.shape[1:2]).transpose(0, 1).flatten(0, 1)
    return value.flatten() if _is_block_norm(ours) else value


def _to_speechbrain(ours: str, value: Tensor, n_sources: int) -> Tensor:
    if ours.startswith("mask_net.mask."):
        rows = value.view(n_sources, -1, *value.shape[1:]).transpose(0, 1).flatten(0, 1)
        return rows.unsqueeze(-1) if rows.ndim == 2 else rows
    return value.unsqueeze(-1) if _is_block_norm(ours) else value


def _is_block_norm(ours: str) -> bool:
    return "_blocks." in ours and ours.split(".")[3] == "norm"
