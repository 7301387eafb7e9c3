"""The commands that the README gives for emotion recognition, really run, with tiny networks and corpora."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from page_commands import README, part_of, python_commands

SMALL = ["model.net.category.hidden_dim=8", "trainer.max_epochs=1", "report.n_bootstrap=20"]


def write_wavlm(folder: Path) -> None:
    """A WavLM of the base layout with random weights, in the hub's format and tiny."""
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    install_torchaudio_standin()
    from transformers import WavLMConfig, WavLMModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    WavLMModel(WavLMConfig(**sizes, conv_dim=[8] * 7, num_conv_pos_embeddings=8)).save_pretrained(folder)


@pytest.mark.slow
def test_readme_commands_run_one_after_the_other(msp_root, command, tmp_path):
    write_wavlm(tmp_path / "data" / "models" / "wavlm-base-plus")
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(30000), 16000)
    for line in python_commands(part_of(README.read_text(), "emotion")):
        _, script, *arguments = shlex.split(line.replace("/data/MSP-PODCAST", str(msp_root)))
        arguments = ["trainer=cpu" if argument == "trainer=gpu" else argument for argument in arguments]
        if script == "src/train.py":
            arguments += SMALL
            arguments += [] if any("data.root" in argument for argument in arguments) else [f"data.root={msp_root}"]
        command(script, *arguments)
    assert (tmp_path / "emotions" / "emotions.csv").is_file()
