"""Tiny encoders of the three families, with the real kernels and strides, saved in the hub's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hydraudio.core.torchaudio_standin import install_torchaudio_standin

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "mask_time_prob": 0.0,
}
LAYOUTS = {
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
}
FAMILIES = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every parameter moved, so that no bias, gate or norm is at its neutral initial value."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="session")
def encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by name: `wavlm_base`, `wavlm_large`, `hubert_base` ... Do not write into them."""
    install_torchaudio_standin()
    import transformers

    root = tmp_path_factory.mktemp("encoders")
    folders = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for family, prefix in FAMILIES.items():
            for layout, options in LAYOUTS.items():
                config = getattr(transformers, f"{prefix}Config")(**TINY, **options)
                model = shaken(getattr(transformers, f"{prefix}Model")(config))
                folder = root / f"{family}_{layout}"
                model.save_pretrained(folder)
                preprocessor = {"do_normalize": layout == "large", "sampling_rate": 16000}
                (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
                folders[folder.name] = folder
    return folders


@pytest.fixture(scope="session")
def references(encoder_folders: dict[str, Path]) -> dict[str, Any]:
    """The same encoders as transformers loads and computes them, with eager attention, in evaluation mode."""
    import transformers

    return {
        name: getattr(transformers, f"{FAMILIES[name.split('_')[0]]}Model")
        .from_pretrained(folder, attn_implementation="eager")
        .eval()
        for name, folder in encoder_folders.items()
    }
