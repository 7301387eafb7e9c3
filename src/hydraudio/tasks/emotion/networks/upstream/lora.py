"""Low-rank adapters in the blocks of an upstream, on targets that have an effect.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. The adapters are those of the package peft.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
FEED_FORWARD_TARGETS = ("intermediate_dense", "output_dense")


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
    """Whether a parameter belongs to an adapter."""
    return ".lora_" in parameter_name


def merge_lora(model: nn.Module) -> None:
    """Fold the adapters into the weights, in place: the same function without adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
