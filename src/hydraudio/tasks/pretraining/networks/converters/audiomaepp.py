"""Weights of the public code of AudioMAE++ (Yadav et al. 2025), of its checkpoints `checkpoint-N.pth` as well.

They belong to the block and the order of embeddings of that code: `model.net.encoder.compat=released`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

StateDict = dict[str, Tensor]
LAYERS = {  # of a block: ours -> theirs
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
    "ffn1.expand": "ffn1.layer1",
    "ffn1.project": "ffn1.layer2",
    "attention.qkv": "attn.qkv_layer",
    "attention.project": "attn.proj_layer",
    "ffn2.inner_norm": "ffn2.ln",
    "ffn2.project": "ffn2.project",
}
OUTER = {  # ours -> theirs
    "encoder.norm": "encoder.encoder_norm",
    "decoder.embedding": "decoder.decoder_embed",
    "decoder.norm": "decoder.decoder_norm",
    "decoder.prediction": "decoder.decoder_pred",
}
STACKS = {"encoder.blocks": "encoder.blocks", "decoder.blocks": "decoder.decoder_blocks"}
GATE, VALUE = "ffn2.linear2", "ffn2.linear1"
TABLES = {"encoder.pos_embed", "decoder.decoder_pos_embed"}  # fixed, and computed by ours


def read_checkpoint(path: str | Path) -> StateDict:
    """Return the weights of a checkpoint of the public code; nothing that the file names is imported or called.

    Beside `model` such a file holds the optimizer and the arguments of the training, objects of foreign classes. Where
    these stand an empty object is put.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights under `model`.
    """
    inert: list[Any] = [(_Foreign, name) for name in get_unsafe_globals_in_checkpoint(path)]
    with safe_globals(inert):
        content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no weights under `model`, as a checkpoint of AudioMAE++ does")
    return state


class _Foreign:
    """Stand for an object of a class that is not to be imported."""

    def __new__(cls, *_: Any, **__: Any) -> _Foreign:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def from_audiomaepp(theirs: StateDict) -> StateDict:
    """Return the state dict of our `MaskedAutoencoder` of the same sizes.

    Raises:
        ValueError: tensors are missing, or there are others (of rotary positions, or of layers without SwiGLU).
    """
    ours, used = {}, set(TABLES)
    for name, parts in _names(theirs):
        missing = [part for part in parts if part not in theirs]
        if missing:
            raise ValueError(f"not weights of AudioMAE++ with SwiGLU: there is no {missing[0]}")
        ours[name] = torch.cat([theirs[part] for part in parts])
        used.update(parts)
    kernel = theirs["patch_embed.proj.weight"]  # (width, channels, frames, bins)
    ours["encoder.patch_embedding.weight"] = kernel.permute(0, 2, 3, 1).flatten(1)
    left = sorted(theirs.keys() - used - {"patch_embed.proj.weight"})
    if left:
        raise ValueError(f"not weights of AudioMAE++ with SwiGLU: {len(left)} tensors too many ({left[0]})")
    return ours


def _names(theirs: StateDict) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Ours, and theirs that it consists of, one below the other."""
    yield "decoder.mask_token", ("decoder.mask_token",)
    yield "encoder.patch_embedding.bias", ("patch_embed.proj.bias",)
    if "cls_token" in theirs:
        yield "encoder.cls_token", ("cls_token",)
    for kind in ("weight", "bias"):
        for ours, name in OUTER.items():
            yield f"{ours}.{kind}", (f"{name}.{kind}",)
        for stack, theirs_stack in STACKS.items():
            for i in range(_depth(theirs, theirs_stack)):
                for ours, name in LAYERS.items():
                    yield f"{stack}.{i}.{ours}.{kind}", (f"{theirs_stack}.{i}.{name}.{kind}",)
                parts = tuple(f"{theirs_stack}.{i}.{name}.{kind}" for name in (GATE, VALUE))
                yield f"{stack}.{i}.ffn2.gate_value.{kind}", parts


def _depth(theirs: StateDict, stack: str) -> int:
    return len({key.removeprefix(f"{stack}.").split(".")[0] for key in theirs if key.startswith(f"{stack}.")})
