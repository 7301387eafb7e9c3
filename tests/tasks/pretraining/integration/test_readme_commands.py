"""The commands that the README gives for masked-autoencoder pretraining, really run, on a tiny corpus."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import soundfile
from page_commands import README, part_of, python_commands

SMALL = ["trainer.max_epochs=1", "data.crops_per_clip=1", "data.num_workers=0", "report.n_bootstrap=20"]


@pytest.mark.slow
def test_readme_commands_run_one_after_the_other(esc50_root, command, tmp_path):
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(30000), 16000)
    for line in python_commands(part_of(README.read_text(), "pretraining")):
        _, script, *arguments = shlex.split(line)
        command(script, *arguments, *([*SMALL, f"data.root={esc50_root}"] if script == "src/train.py" else []))
    assert np.load(tmp_path / "embeddings" / "a.npy").shape == (480,)
