"""A trained separation network becomes a folder, goes to a hub, and comes back as the same model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[3] / "share"))

import hub_server

pytestmark = pytest.mark.slow
TOKEN = "hf_" + "owner" * 5


def test_from_a_run_to_a_validated_model_on_the_hub(command, tiny_run, tmp_path):
    checkpoint, shared, report = tiny_run / "checkpoints" / "best.ckpt", tmp_path / "shared", tmp_path / "hub.json"
    command("scripts/share/push_to_hub.py", str(checkpoint), "--dry-run", "--output", str(shared))
    card = (shared / "README.md").read_text()
    assert "pipeline_tag: audio-to-audio" in card
    assert "licence of the corpus" in card
    scores = json.loads((tiny_run / "metrics.json").read_text())["scores"]
    value, low, high = (scores["si_sdri"][key] for key in ("value", "low", "high"))
    assert f"| SI-SDRi / dB | {value:.2f} [{low:.2f}, {high:.2f}] | {scores['si_sdri']['n']} |" in card
    assert f"value: {value}" in card
    checks = ["--ckpt", str(checkpoint), "--n-items", "4"]
    result = command("scripts/share/validate_hub_model.py", str(shared), *checks)
    assert "si_sdri" in result.stdout
    assert result.stdout.count("ok  ") == 9

    with hub_server.running_hub({TOKEN: "me"}) as hub:
        environment = hub_server.environment(hub, tmp_path, TOKEN)
        command("scripts/share/push_to_hub.py", str(checkpoint), "--repo", "me/separator", env=environment)
        files = {name: data for name, data in hub.repos["me/separator"].files.items() if name != ".gitattributes"}
        assert files == {file.name: file.read_bytes() for file in shared.iterdir()}
        asked = ["--private", "--json", str(report)]
        command("scripts/share/validate_hub_model.py", "me/separator", *checks, *asked, env=environment)
        assert json.loads(report.read_text())["revision"] == hub.repos["me/separator"].head
        spoiled = {**hub.repos["me/separator"].files, "model.safetensors": b"x" * 9000}
        hub.repos["me/separator"].commit(spoiled)
        failed = command("scripts/share/validate_hub_model.py", "me/separator", *checks, env=environment, check=False)
    assert failed.returncode == 1
    assert "FAIL  checksums" in failed.stdout


def test_the_folder_separates_like_the_checkpoint(tiny_run, tmp_path, monkeypatch, repository):
    from hydra_preflight.compose import compose_run
    from hydraudio.share.model_folder import load_model_folder, open_trained, write_model_folder
    from hydraudio.share.probe import examples

    monkeypatch.setenv("PROJECT_ROOT", str(repository))
    trained = open_trained(compose_run(["ckpt_path=."], tmp_path, "eval.yaml"), tiny_run / "checkpoints" / "best.ckpt")
    task = load_model_folder(write_model_folder(tmp_path / "shared", trained))
    config = json.loads((tmp_path / "shared" / "config.json").read_text())
    assert (config["sample_rate"], config["n_sources"]) == (8000, 2)
    for example in examples(task):
        assert example.keys() == {"mixture"}
        found, expected = task.predict(example)["estimate"], trained.task.predict(example)["estimate"]
        assert found.shape == (len(example["mixture"]), 2, 5040)
        assert torch.equal(found, expected)
