"""A small encoder in the layout of WavLM large, for trying everything out without a download.

Its weights are random but shaped so that pooled states tell emotions apart: the first convolution is a bank of windowed
cosines over the frequencies of speech, and the others mostly average over time, so that its rectified outputs arrive at
the frame rate as levels per band instead of being scrambled.
"""

import math
from typing import Any

import torch
from torch import nn

SAMPLE_RATE = 16000
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


@torch.no_grad()
def shape_convolutions(model: nn.Module) -> None:
    """Give the convolutions of a model with random weights the form described above, in place.

    The first layer takes waveforms of variance 1. Draws from torch's CPU generator.
    """
    encoder: Any = model.feature_extractor
    first, *others = [layer.conv for layer in encoder.conv_layers]
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
