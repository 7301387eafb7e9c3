"""A trained run becomes a folder, goes to a hub, and comes back as the same model."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow
TOKEN = "hf_" + "owner" * 5


@pytest.fixture(scope="module")
def server_module(repository: Path) -> ModuleType:
    path = repository / "tests" / "unit" / "sharing" / "hub_server.py"
    spec = importlib.util.spec_from_file_location("hydraudio_test_hub_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    if not hasattr(module, "running_hub"):
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(server_module: ModuleType) -> Iterator[Any]:
    with server_module.running_hub({TOKEN: "me"}) as server:
        yield server


@pytest.fixture
def environment(hub: Any, tmp_path: Path) -> dict[str, str]:
    """Of commands that know this hub and nothing of the machine's logins and caches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    folders = {"HYDRAUDIO_LOG_DIR": str(tmp_path / "logs"), "HYDRAUDIO_DATA_DIR": str(tmp_path / "data")}
    return {**kept, **own, **folders, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


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


def test_a_separation_network_is_shared_in_the_same_way(command, tiny_run, tmp_path):
    checkpoint, shared = tiny_run / "checkpoints" / "best.ckpt", tmp_path / "shared"
    command("scripts/share/push_to_hub.py", str(checkpoint), "--dry-run", "--output", str(shared))
    assert "pipeline_tag: audio-to-audio" in (shared / "README.md").read_text()
    result = command("scripts/share/validate_hub_model.py", str(shared), "--ckpt", str(checkpoint), "--n-items", "4")
    assert "si_sdri" in result.stdout
    assert result.stdout.count("ok  ") == 9


def test_the_clean_process_has_no_network_and_says_what_is_wrong(hub, repository, tmp_path):
    from hydraudio.share.probe import probe_in_clean_process

    address = ("127.0.0.1", hub.server_port)
    code = f"import hydraudio.share.probe as p, socket; p.forbid_network(); socket.create_connection({address})"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository / "src", capture_output=True, text=True)
    assert "may not use the network" in result.stderr
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not a model that Hydraudio wrote"):
        probe_in_clean_process(tmp_path)


def test_mistakes_on_the_command_line_are_answered_in_words(command, tmp_path):
    missing = command("scripts/share/push_to_hub.py", "none.ckpt", "--dry-run", "--output", "x", check=False)
    assert missing.returncode == 1
    assert "no such checkpoint" in missing.stderr
    nowhere = command("scripts/share/push_to_hub.py", "none.ckpt", check=False)
    assert nowhere.returncode == 2
    assert "--repo" in nowhere.stderr
