"""Which parts of an upstream are trained: names, modules, order, and a learning rate for each.

The parts in the order of computation are `convolutions`, `feature_projection`, `positional`, `block_0` ... `block_N`
and, where the blocks normalise their inputs, `final_norm`. Every parameter belongs to exactly one part.
"""

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn


def upstream_parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """The modules of each part of a transformers model, in the order of computation.

    A norm in front of the blocks (encoders with post-normalised blocks) belongs to `positional`; one behind them
    (pre-normalised blocks) is `final_norm`. The embedding of masked frames, a bare parameter of the model, is added to
    `feature_projection` by :func:`part_parameters`.
    """
    whole: Any = model
    encoder = whole.encoder
    final = (encoder.layer_norm,)
    behind = whole.config.do_stable_layer_norm
    parts: dict[str, tuple[nn.Module, ...]] = {
        "convolutions": (whole.feature_extractor,),
        "feature_projection": (whole.feature_projection,),
        "positional": (encoder.pos_conv_embed, encoder.dropout, *(() if behind else final)),
    }
    parts |= {f"block_{i}": (block,) for i, block in enumerate(encoder.layers)}
    return parts | ({"final_norm": final} if behind else {})


def part_parameters(model: nn.Module, name: str) -> Iterator[nn.Parameter]:
    """The parameters of one part."""
    for module in upstream_parts(model)[name]:
        yield from module.parameters()
    if name == "feature_projection" and hasattr(model, "masked_spec_embed"):
        yield model.masked_spec_embed  # type: ignore[misc]


def trained_parts(names: Collection[str], n_blocks: int | str, extras: Collection[str]) -> set[str]:
    """The parts to train: the top `n_blocks` blocks and the extras.

    Args:
        names: all parts of the model.
        n_blocks: number of blocks counted from the top, or "all".
        extras: other parts by name; "all" stands for all that the model has.

    Raises:
        ValueError: more blocks than there are, or an extra that the model does not have.
    """
    blocks = [name for name in names if name.startswith("block_")]
    others = [name for name in names if not name.startswith("block_")]
    wanted = len(blocks) if n_blocks == "all" else n_blocks
    if not isinstance(wanted, int) or not 0 <= wanted <= len(blocks):
        raise ValueError(f"trainable_blocks={n_blocks!r}: give 0 to {len(blocks)}, the blocks in use, or all")
    unknown = sorted(set(extras) - {*others, "all"})
    if unknown:
        raise ValueError(f"trainable_extras: {', '.join(unknown)} unknown; this model has {', '.join(others)}, or all")
    return {*blocks[len(blocks) - wanted :], *(others if "all" in extras else extras)}


def is_trained(model: nn.Module, name: str) -> bool:
    """Whether any parameter of the part gets gradients."""
    return any(parameter.requires_grad for parameter in part_parameters(model, name))


def mark_no_weight_decay(model: nn.Module) -> None:
    """Set `_no_weight_decay` on biases, the parameters of norms, and per-head or per-tap gains."""
    for parameter in model.parameters():
        if sum(size > 1 for size in parameter.shape) <= 1:
            parameter._no_weight_decay = True  # type: ignore[attr-defined]


def parameter_groups(model: nn.Module, lr: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups of trained parameters with layer-wise learning rates, from the bottom to the top.

    The top block and the final norm get `lr`, each block below `layer_decay` times that of the one above, the
    positional part and the projection one step less than the lowest block, the convolutions another.

    Returns:
        dicts with `params`, `lr` and `name` (of the part); parts without trained parameters are left out.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay} must be in (0, 1]; 1 gives every layer the same learning rate")
    n_blocks = len(model.encoder.layers)  # type: ignore[union-attr,arg-type]
    depth = {"convolutions": n_blocks + 1, "feature_projection": n_blocks, "positional": n_blocks, "final_norm": 0}
    depth |= {f"block_{i}": n_blocks - 1 - i for i in range(n_blocks)}
    groups = []
    for name in upstream_parts(model):
        parameters = [p for p in part_parameters(model, name) if p.requires_grad]
        if parameters:
            groups.append({"params": parameters, "lr": lr * layer_decay ** depth[name], "name": name})
    return groups
