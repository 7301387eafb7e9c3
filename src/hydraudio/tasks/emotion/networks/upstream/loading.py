"""Speech encoders of transformers, built from a configuration or loaded from a folder, strictly.

The miniature is a small encoder in the layout of WavLM large, for trying everything out without a download. Its weights
are random but shaped so that pooled states tell emotions apart: the first convolution is a bank of windowed cosines
over the frequencies of speech, and the others mostly average over time, so that its rectified outputs arrive at the
frame rate as levels per band instead of being scrambled.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hydraudio.core.pretrained import are_weights_coming_later, pretrained_config, pretrained_folder
from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.emotion.networks.upstream.attention import use_fused_attention

MODEL_TYPES = ("wavlm", "hubert", "wav2vec2")
SAMPLE_RATE = 16000
# Heads of pretraining and fine-tuning that published checkpoints carry beside the encoder.
HEADS = re.compile(
    r"(wavlm\.|hubert\.|wav2vec2\.)?"
    r"(lm_head|quantizer|project_hid|project_q|final_proj|label_embs_concat|classifier|projector)\b.*"
)
_CODE = re.compile("auto_map|implementation|quantization|trust_remote_code")
"""Keys of a config.json by which transformers takes code from elsewhere."""
SPAN_EMBEDDING = re.compile(r"(wavlm\.|hubert\.|wav2vec2\.)?masked_spec_embed")
MINIATURE: dict[str, Any] = {
    "model_type": "wavlm",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32, 32, 32, 48, 64, 64, 64],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 32,
    "max_bucket_distance": 80,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "do_normalize": False,
    "sampling_rate": SAMPLE_RATE,
}

LOWEST_HZ, HIGHEST_HZ = 150.0, 6000.0
AVERAGING = 0.8
"""Share of a kernel, beyond the first layer, that is the same at all its taps."""


class TransformerBlocks(nn.Module):
    """Names of what is used of the encoder of a :class:`SpeechModel`."""

    pos_conv_embed: nn.Module
    layer_norm: nn.Module
    dropout: nn.Module
    layers: nn.ModuleList


class SpeechModel(nn.Module):
    """Names of what is used of transformers' `WavLMModel`, `HubertModel` and `Wav2Vec2Model`, which are untyped."""

    config: Any
    feature_extractor: Any
    feature_projection: nn.Module
    masked_spec_embed: nn.Parameter
    encoder: TransformerBlocks


def open_model(
    source: str | None, architecture: Mapping[str, Any] | None, revision: str | None, attention: str
) -> tuple[dict[str, Any], SpeechModel]:
    """Return the content of config.json and the bare encoder, with the source's weights unless a state dict is to
    follow.

    Args:
        source: folder or name on the hub; None: random weights, of `architecture` or else of the miniature.
        architecture: content of config.json where it is known.
        revision: of a hub name.
        attention: "sdpa" or "eager".
    """
    if source is not None and not are_weights_coming_later():
        stored = pretrained_config(source, revision)
        if architecture is not None and plain(architecture) != stored:
            raise ValueError(f"architecture is not config.json of {source}; give ${{pretrained_config:{source}}}")
        check_architecture(stored or {}, source)
        return stored or {}, load_model(pretrained_folder(source, revision), stored or {}, attention)
    if source is not None and architecture is None:
        raise ValueError(f"architecture: without the content of config.json the network of {source} cannot be restored")
    if architecture is None:
        model = build_model(MINIATURE, attention)
        shape_convolutions(model)
        return plain(MINIATURE), model
    described = plain(architecture)
    check_architecture(described, "architecture")
    return described, build_model(described, attention)


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


def build_model(architecture: Mapping[str, Any], attention: str) -> SpeechModel:
    """Return the bare encoder with random weights, drawn from torch's CPU generator."""
    config, model_class = _classes(architecture)
    model = model_class._from_config(config, attn_implementation=_implementation(architecture, attention))
    return _prepared(model, attention)


def load_model(folder: Path, architecture: Mapping[str, Any], attention: str) -> SpeechModel:
    """Return the bare encoder with the weights of a folder, in float32.

    Raises:
        ValueError: the file lacks weights, or has weights that the encoder does not, other than those of known heads.
    """
    config, model_class = _classes(architecture)
    model, info = model_class.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation=_implementation(architecture, attention),
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
    values = {key: value for key, value in architecture.items() if key not in own and not _CODE.search(key)}
    config = getattr(transformers, f"{name}Config")(**values, layerdrop=0.0)
    return config, getattr(transformers, f"{name}Model")


def _implementation(architecture: Mapping[str, Any], attention: str) -> str:
    """The attention of transformers; WavLM has eager alone, which `_prepared` replaces."""
    return "eager" if architecture["model_type"] == "wavlm" else attention


def _prepared(model: SpeechModel, attention: str) -> SpeechModel:
    if model.config.model_type == "wavlm" and attention == "sdpa":
        use_fused_attention(model.encoder.layers)
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


@torch.no_grad()
def shape_convolutions(model: SpeechModel) -> None:
    """Give the convolutions of a model with random weights the form that the head of this file describes, in place.

    The first layer takes waveforms of variance 1. Draws from torch's CPU generator.
    """
    first, *others = [layer.conv for layer in model.feature_extractor.conv_layers]
    n_filters, _, taps = first.weight.shape
    frequency = torch.logspace(math.log10(LOWEST_HZ), math.log10(HIGHEST_HZ), n_filters)[:, None] / SAMPLE_RATE
    phase = 2 * math.pi * torch.rand(n_filters, 1)
    time = torch.arange(taps) - (taps - 1) / 2
    wave = torch.cos(2 * math.pi * frequency * time + phase) * torch.hann_window(taps + 2, periodic=False)[1:-1]
    first.weight.copy_((wave / wave.norm(dim=1, keepdim=True)).unsqueeze(1))
    first.bias.normal_()  # with it the norm behind the layer lets the level of the waveform through
    for convolution in others:
        weight = convolution.weight
        mean = weight.mean(2, keepdim=True) * math.sqrt(weight.shape[2])  # as strong as one tap was
        weight.lerp_(mean.expand_as(weight), AVERAGING)
