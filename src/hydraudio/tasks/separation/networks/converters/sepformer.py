"""Weights of SpeechBrain's SepFormer to ours and back.

SpeechBrain's mask net is a `Dual_Path_Model` of `SBTransformerBlock` with norm_before=True, without linear layers after
them. In older checkpoints the transformer is called `transformer` instead of `mdl`. The tables of the positional
encoding are not weights: whether they are there tells whether the net uses it.
"""

from typing import Any, cast

from hydraudio.nn.layers.transformer import sinusoids
from hydraudio.tasks.separation.networks.converters import dual_path
from hydraudio.tasks.separation.networks.converters.files import StateDict
from hydraudio.tasks.separation.networks.dual_path import DualPathMaskNet
from hydraudio.tasks.separation.networks.sepformer import SepFormer

SPEECHBRAIN_MAX_STEPS = 2500  # length of the tables
_TABLE = "pos_enc.pe"


def sepformer_from_speechbrain(parts: dict[str, StateDict], chunk_size: int, n_heads: int) -> SepFormer:
    """Build the net with these weights. `chunk_size` [K] and `n_heads` as given to SpeechBrain: no shape tells them."""
    net = SepFormer(**arguments(parts, chunk_size, n_heads))
    weights = {key: value for key, value in _mask_net(parts).items() if not key.endswith(_TABLE)}
    dual_path.load(net, parts | {"masknet": weights}, _block_key, "SepFormer")
    return net


def sepformer_to_speechbrain(net: SepFormer) -> dict[str, StateDict]:
    """Return the three state dicts for SpeechBrain's modules."""
    parts = dual_path.dump(net, _block_key)
    if net.positional_encoding:
        table = sinusoids(SPEECHBRAIN_MAX_STEPS, net.n_filters)[None]
        for layer in range(len(cast(DualPathMaskNet, net.mask_net).layers)):
            for role in ("intra", "inter"):
                parts["masknet"][f"dual_mdl.{layer}.{role}_mdl.{_TABLE}"] = table.clone()
    return parts


def _mask_net(parts: dict[str, StateDict]) -> StateDict:
    return {key.replace("_mdl.transformer.", "_mdl.mdl."): value for key, value in parts["masknet"].items()}


def arguments(parts: dict[str, StateDict], chunk_size: int, n_heads: int) -> dict[str, Any]:
    """Return the constructor arguments, read from the shapes; options as in `sepformer_from_speechbrain`."""
    mask_net = _mask_net(parts)
    frame = dual_path.frame_arguments(parts)
    prefix = "dual_mdl.0.intra_mdl.mdl.layers."
    layers = [int(key.removeprefix(prefix).split(".")[0]) for key in mask_net if key.startswith(prefix)]
    if not layers:
        raise ValueError("masknet.ckpt is not a SepFormer of SpeechBrain: it has no transformer layers")
    return {
        "n_sources": frame["n_sources"],
        "n_filters": frame["n_filters"],
        "kernel_size": frame["kernel_size"],
        "n_blocks": frame["n_layers"],
        "n_layers": 1 + max(layers),
        "feedforward_channels": len(mask_net[f"{prefix}0.pos_ffn.ffn.0.weight"]),
        "chunk_size": chunk_size,
        "n_heads": n_heads,
        "positional_encoding": any(key.endswith(_TABLE) for key in mask_net),
    }


def _block_key(role: str, ours: str) -> str:
    return f"{role}_mdl.mdl.{transformer_key(ours)}"


def transformer_key(ours: str) -> str:
    """Return the key of `hydraudio.nn.layers.transformer.TransformerEncoder` -> of SpeechBrain's TransformerEncoder."""
    if ours.startswith("norm."):
        return ours.replace("norm.", "norm.norm.")
    _, index, rest = ours.split(".", 2)
    for prefix, theirs in (
        ("norm1.", "norm1.norm."),
        ("norm2.", "norm2.norm."),
        ("attention.in_proj.", "self_att.att.in_proj_"),
        ("attention.out_proj.", "self_att.att.out_proj."),
        ("linear1.", "pos_ffn.ffn.0."),
        ("linear2.", "pos_ffn.ffn.3."),
    ):
        if rest.startswith(prefix):
            return f"layers.{index}.{theirs}{rest.removeprefix(prefix)}"
    raise KeyError(f"{ours} is not a key of TransformerEncoder")
