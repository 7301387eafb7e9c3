"""A trained run becomes a folder, goes to a hub, and comes back as the same model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[3] / "share"))

import hub_server

pytestmark = pytest.mark.slow
TOKEN = "hf_" + "owner" * 5


@pytest.fixture
def hub() -> Iterator[Any]:
    with hub_server.running_hub({TOKEN: "me"}) as server:
        yield server


@pytest.fixture
def environment(hub: Any, tmp_path: Path) -> dict[str, str]:
    return hub_server.environment(hub, tmp_path, TOKEN)


def encoder(folder: Path) -> dict[str, bytes]:
    """A tiny pretrained encoder in the hub's format."""
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    install_torchaudio_standin()
    from transformers import WavLMConfig, WavLMModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    layout = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "apply_spec_augment": False}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    WavLMModel(WavLMConfig(conv_dim=[8] * 7, **sizes, **layout, **positions)).save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_from_a_downloaded_encoder_to_a_validated_model(command, hub, environment, msp_root, tmp_path):
    revision = hub.add("org/encoder", encoder(tmp_path / "source"))
    models = tmp_path / "models"
    arguments = ["org/encoder", "--output", str(models), "--revision", revision]
    assert "fetched" in command("scripts/share/download_model.py", *arguments, env=environment).stdout
    offline = {**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}
    again = command("scripts/share/download_model.py", *arguments, "--offline", env=offline)
    assert "complete already" in again.stdout

    settings = ["experiment=emotion/msp_wavlm_joint", f"data.root={msp_root}", "data.num_workers=0", "trainer=cpu"]
    network = [f"model.net.upstream.source={models}", "model.net.upstream.trainable_blocks=1", "logger=none"]
    short = ["trainer.max_epochs=1", "report.n_bootstrap=20", "report.n_examples=0"]
    command("src/train.py", *settings, *network, *short, env=offline)
    checkpoint = tmp_path / "logs" / "msp_wavlm_joint" / "latest" / "checkpoints" / "best.ckpt"

    shared = tmp_path / "shared"
    dry = command(
        "scripts/share/push_to_hub.py", f"ckpt_path={checkpoint}", "--dry-run", "--output", str(shared), env=offline
    )
    assert "nothing was published" in dry.stdout
    front = (shared / "README.md").read_text()
    assert "base_model: org/encoder" in front
    assert "Macro-F1" in front
    shutil.rmtree(models)
    checks = ["--ckpt", str(checkpoint), "--n-items", "12", "--data-root", str(msp_root)]

    push = [str(checkpoint), "--repo", "me/model", "--base-model", "org/encoder"]
    published = command("scripts/share/push_to_hub.py", *push, env=environment)
    assert TOKEN not in published.stdout + published.stderr
    files = {name: data for name, data in hub.repos["me/model"].files.items() if name != ".gitattributes"}
    assert files == {file.name: file.read_bytes() for file in shared.iterdir()}
    report = tmp_path / "hub.json"
    asked = ["--private", "--json", str(report)]
    command("scripts/share/validate_hub_model.py", "me/model", *checks, *asked, env=environment)
    content = json.loads(report.read_text())
    assert content["passed"]
    assert content["revision"] == hub.repos["me/model"].head
    assert len(content["checks"]) == 9

    hub.repos["me/model"].commit({**hub.repos["me/model"].files, "model.safetensors": b"x" * 9000})
    failed = command("scripts/share/validate_hub_model.py", "me/model", *checks, env=environment, check=False)
    assert failed.returncode == 1
    assert "FAIL  checksums" in failed.stdout
    assert "FAIL  loading" in failed.stdout
