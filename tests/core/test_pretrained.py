"""Where a source lies, what its configuration says, and errors with a remedy; nothing here reaches a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hydra_preflight.resolvers import register_resolvers
from hydraudio.core.pretrained import (
    are_weights_coming_later,
    pretrained_config,
    pretrained_folder,
    weights_come_later,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wavlm", "conv_dim": [8, 8]}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "padding_side": "right"}))
    return tmp_path


def test_configuration_with_what_the_preprocessor_adds(folder):
    expected = {"model_type": "wavlm", "conv_dim": [8, 8], "do_normalize": True}
    assert pretrained_config(str(folder)) == expected
    (folder / "preprocessor_config.json").unlink()
    expected.pop("do_normalize")
    assert pretrained_config(str(folder)) == expected
    assert pretrained_config(None) is None


def test_interpolation(folder):
    register_resolvers()
    text = "{source: null, revision: null, architecture: '${pretrained_config:${source},${revision}}'}"
    cfg = OmegaConf.create(text)
    assert cfg.architecture is None
    cfg.source = str(folder)
    assert cfg.architecture == pretrained_config(str(folder))
    assert OmegaConf.to_container(cfg, resolve=True)["architecture"]["conv_dim"] == [8, 8]


def test_interpolation_does_not_touch_sources_where_none_are_needed(folder):
    register_resolvers(read_sources=False)
    try:
        assert OmegaConf.create({"a": "${pretrained_config:owner/name,null}"}).a is None
    finally:
        register_resolvers()


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_broken_configuration(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        pretrained_config(str(folder))


def test_folders_and_their_files(folder):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        pretrained_folder(str(folder))
    assert pretrained_folder(str(folder), weights=False) == folder
    (folder / "pytorch_model.bin").touch()
    assert pretrained_folder(str(folder)) == folder
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        pretrained_folder(str(folder))


def test_revision_of_a_folder_is_refused(folder):
    with pytest.raises(ValueError, match="abc"):
        pretrained_folder(str(folder), "abc")


@pytest.mark.parametrize("source", ["data/models/wavlm/base", "./wavlm", "/data/wavlm", "wavlm-base"])
def test_missing_folders_name_the_remedy(source):
    with pytest.raises(FileNotFoundError, match=r"download_model\.py"):
        pretrained_folder(source)


def test_a_hub_that_does_not_answer(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"microsoft/x at revision abc .*download_model\.py microsoft/x"):
        pretrained_folder("microsoft/x", "abc")


@pytest.mark.parametrize("held", ["model.safetensors", "pytorch_model.bin"])
def test_only_what_is_needed_is_fetched(monkeypatch, folder, held):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        if held in allow_patterns:
            (folder / held).touch()
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert pretrained_folder("owner/name", "main") == folder
    fetched = [pattern for _, _, patterns in asked for pattern in patterns]
    assert ("pytorch_model.bin" in fetched) == (held == "pytorch_model.bin")
    asked.clear()
    pretrained_config("owner/name")
    assert asked == [("owner/name", None, ["config.json", "preprocessor_config.json"])]


def test_context_ends_also_after_an_error():
    assert not are_weights_coming_later()

    def fail() -> None:
        with weights_come_later():
            assert are_weights_coming_later()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not are_weights_coming_later()
