"""Speech encoders of transformers, built from a configuration or loaded from a folder, strictly."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.emotion.networks.upstream.attention import use_fused_attention

MODEL_TYPES = ("wavlm", "hubert", "wav2vec2")
SAMPLE_RATE = 16000
# Heads of pretraining and fine-tuning that published checkpoints carry beside the encoder.
HEADS = re.compile(
    r"(wavlm\.|hubert\.|wav2vec2\.)?"
    r"(lm_head|quantizer|project_hid|project_q|final_proj|label_embs_concat|classifier|projector)\b.*"
)
SPAN_EMBEDDING = re.compile(r"(wavlm\.|hubert\.|wav2vec2\.)?masked_spec_embed")


def plain(value: Any) -> Any:
    """Nested dicts and lists of plain Python types, from any mapping and sequence."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def check_architecture(architecture: Mapping[str, Any], origin: str) -> None:
    """Refuse what this wrapper does not compute.

    Args:
        architecture: content of config.json.
        origin: named in the errors.

    Raises:
        ValueError: another kind of model, another sample rate, or layers that are not supported.
    """
    model_type = architecture.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"{origin}: model_type is {model_type!r}; the upstream must be one of {', '.join(MODEL_TYPES)}"
        )
    rate = architecture.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise ValueError(f"{origin}: the model takes audio at {rate} Hz, emotion networks work at {SAMPLE_RATE} Hz")
    for key in ("add_adapter", "conv_pos_batch_norm"):
        if architecture.get(key):
            raise ValueError(f"{origin}: {key} is set, which is not supported; choose a model without it")


def build_model(architecture: Mapping[str, Any], attention: str) -> nn.Module:
    """The bare encoder with random weights, drawn from torch's CPU generator."""
    config, model_class = _classes(architecture)
    own_sdpa = architecture["model_type"] != "wavlm" and attention == "sdpa"
    model = model_class._from_config(config, attn_implementation="sdpa" if own_sdpa else "eager")
    return _prepared(model, attention)


def load_model(folder: Path, architecture: Mapping[str, Any], attention: str) -> nn.Module:
    """The bare encoder with the weights of a folder, in float32.

    Raises:
        ValueError: the file lacks weights, or has weights that the encoder does not, other than those of known heads.
    """
    config, model_class = _classes(architecture)
    own_sdpa = architecture["model_type"] != "wavlm" and attention == "sdpa"
    model, info = model_class.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation="sdpa" if own_sdpa else "eager",
        output_loading_info=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,
    )
    _check_loading(folder, info, ignore_span=not hasattr(model, "masked_spec_embed"))
    return _prepared(model, attention)


def _classes(architecture: Mapping[str, Any]) -> tuple[Any, Any]:
    """Configuration and model class; transformers takes seconds to import, so it is imported here."""
    install_torchaudio_standin()
    import transformers

    name = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}[architecture["model_type"]]
    own = {"do_normalize", "sampling_rate", "layerdrop", "dtype", "torch_dtype"}  # weights are float32
    values = {key: value for key, value in architecture.items() if key not in own}
    config = getattr(transformers, f"{name}Config")(**values, layerdrop=0.0)
    return config, getattr(transformers, f"{name}Model")


def _prepared(model: nn.Module, attention: str) -> nn.Module:
    if model.config.model_type == "wavlm" and attention == "sdpa":  # type: ignore[union-attr]
        use_fused_attention(model.encoder.layers)  # type: ignore[union-attr,arg-type]
    return model


def _check_loading(folder: Path, info: Mapping[str, Any], ignore_span: bool) -> None:
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(key) for key in info["mismatched_keys"])
    unexpected = [key for key in sorted(info["unexpected_keys"]) if not HEADS.fullmatch(key)]
    if ignore_span:
        unexpected = [key for key in unexpected if not SPAN_EMBEDDING.fullmatch(key)]
    for what, keys in (("lack", missing), ("have other shapes for", mismatched), ("have unknown", unexpected)):
        if keys:
            more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            raise ValueError(
                f"{folder}: the weights {what} {', '.join(keys[:4])}{more}: they are not those of the encoder that "
                "config.json describes. Fetch both files again from the same revision"
            )
