"""What of an upstream is trained: parts by name with a learning rate for each, or low-rank adapters.

The parts in the order of computation are `convolutions`, `feature_projection`, `positional`, `block_0` ... `block_N`
and, where the blocks normalise their inputs, `final_norm`. Every parameter belongs to exactly one part.

The adapters (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022) are those of the package peft,
in every block, on targets that have an effect.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from hydraudio.nn.weight_decay import exempt_from_weight_decay
from hydraudio.tasks.emotion.networks.upstream.loading import SpeechModel

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
FEED_FORWARD_TARGETS = ("intermediate_dense", "output_dense")


def upstream_parts(model: SpeechModel) -> dict[str, tuple[nn.Module, ...]]:
    """Return the modules of each part of a transformers model, in the order of computation.

    A norm in front of the blocks (encoders with post-normalised blocks) belongs to `positional`; one behind them
    (pre-normalised blocks) is `final_norm`. The embedding of masked frames, a bare parameter of the model, is added to
    `feature_projection` by :func:`part_parameters`.
    """
    encoder, behind = model.encoder, model.config.do_stable_layer_norm
    final = (encoder.layer_norm,)
    parts: dict[str, tuple[nn.Module, ...]] = {
        "convolutions": (model.feature_extractor,),
        "feature_projection": (model.feature_projection,),
        "positional": (encoder.pos_conv_embed, encoder.dropout, *(() if behind else final)),
    }
    parts |= {f"block_{i}": (block,) for i, block in enumerate(encoder.layers)}
    return parts | ({"final_norm": final} if behind else {})


def part_parameters(model: SpeechModel, name: str) -> Iterator[nn.Parameter]:
    """Yield the parameters of one part."""
    for module in upstream_parts(model)[name]:
        yield from module.parameters()
    if name == "feature_projection" and hasattr(model, "masked_spec_embed"):
        yield model.masked_spec_embed


def trained_parts(names: Collection[str], n_blocks: int | str, extras: Collection[str]) -> set[str]:
    """Return the parts to train: the top `n_blocks` blocks and the extras.

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


def is_trained(model: SpeechModel, name: str) -> bool:
    """Say whether any parameter of the part gets gradients."""
    return any(parameter.requires_grad for parameter in part_parameters(model, name))


def mark_no_weight_decay(model: nn.Module) -> None:
    """Exempt from weight decay biases, the parameters of norms, and per-head or per-tap gains."""
    for parameter in model.parameters():
        if sum(size > 1 for size in parameter.shape) <= 1:
            exempt_from_weight_decay(parameter)


def parameter_groups(model: SpeechModel, lr: float, layer_decay: float) -> list[dict[str, Any]]:
    """Return the groups of trained parameters with layer-wise learning rates, from the bottom to the top.

    The top block and the final norm get `lr`, each block below `layer_decay` times that of the one above, the
    positional part and the projection one step less than the lowest block, the convolutions another.

    Returns:
        dicts with `params`, `lr` and `name` (of the part); parts without trained parameters are left out.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay} must be in (0, 1]; 1 gives every layer the same learning rate")
    n_blocks = len(model.encoder.layers)
    depth = {"convolutions": n_blocks + 1, "feature_projection": n_blocks, "positional": n_blocks, "final_norm": 0}
    depth |= {f"block_{i}": n_blocks - 1 - i for i in range(n_blocks)}
    groups = []
    for name in upstream_parts(model):
        parameters = [p for p in part_parameters(model, name) if p.requires_grad]
        if parameters:
            groups.append({"params": parameters, "lr": lr * layer_decay ** depth[name], "name": name})
    return groups


def check_lora(options: Mapping[str, Any], model_type: str, attention: str) -> tuple[int, int, list[str]]:
    """Rank, alpha and targets of {rank, alpha, targets}.

    Raises:
        ValueError: a key is missing or unknown, the rank is below 1, a target does not exist, or it has no effect.
    """
    if set(options) != {"rank", "alpha", "targets"}:
        raise ValueError(
            f"lora takes exactly the keys rank, alpha and targets, got {', '.join(sorted(options)) or 'none'}"
        )
    rank, alpha, targets = int(options["rank"]), int(options["alpha"]), list(options["targets"])
    if rank < 1:
        raise ValueError(f"lora.rank={rank} must be at least 1; lora=null trains without adapters")
    known = (*ATTENTION_TARGETS, *FEED_FORWARD_TARGETS)
    unknown = sorted(set(targets) - set(known))
    if unknown or not targets:
        raise ValueError(f"lora.targets: {', '.join(unknown) or 'an empty list'}; choose from {', '.join(known)}")
    _refuse_silent(targets, model_type, attention)
    return rank, alpha, targets


def _refuse_silent(targets: Collection[str], model_type: str, attention: str) -> None:
    silent = [target for target in targets if target in ATTENTION_TARGETS]
    if silent and model_type == "wavlm" and attention == "eager":
        raise ValueError(
            f"lora.targets: {', '.join(silent)} would have no effect and no gradient, because transformers' own WavLM "
            "attention reads the weights of its projections and never calls them. Use attention=sdpa, or the targets "
            f"{', '.join(FEED_FORWARD_TARGETS)}"
        )


def add_lora(model: nn.Module, rank: int, alpha: int, targets: list[str]) -> None:
    """Put adapters around the targets of every block, in place; only they stay trainable."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none"), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_lora(name))


def is_lora(parameter_name: str) -> bool:
    """Say whether a parameter belongs to an adapter."""
    return ".lora_" in parameter_name


def merge_lora(model: nn.Module) -> None:
    """Fold the adapters into the weights, in place: the same function without adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
