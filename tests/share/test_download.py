"""Downloads, from a hub on the loopback interface: pinned, verified, only what is needed, resumed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hydraudio.core.pretrained import pretrained_config
from hydraudio.core.spec import Pin
from hydraudio.share import download
from hydraudio.share.download import download_model, recommended
from hydraudio.share.hub import HubError

NAME = "org/encoder"
WEIGHTS = b"w" * 300_000
FILES = {
    "config.json": b'{"model_type": "wavlm"}',
    "preprocessor_config.json": b'{"do_normalize": true, "sampling_rate": 16000}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    "README.md": b"x",
    "flax_model.msgpack": b"y",
}
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "encoder"


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.is_file()}


def test_only_what_is_needed_is_fetched_and_recorded(hub, folder):
    commit = hub.add(NAME, FILES)
    result = download_model(NAME, folder)
    assert (result.revision, result.pinned, result.fetched) == (commit, False, True)
    assert names(folder) == {"config.json", "preprocessor_config.json", "model.safetensors", "source.json"}
    record = json.loads((folder / "source.json").read_text())
    assert record["model_id"] == NAME
    assert record["revision"] == commit
    assert record["sha256"]["model.safetensors"] == DIGEST
    assert pretrained_config(str(folder)) == {"model_type": "wavlm", "do_normalize": True, "sampling_rate": 16000}


def test_weights_without_safetensors_are_taken_from_the_bin(hub, folder):
    hub.add(NAME, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    download_model(NAME, folder)
    assert names(folder) == {"config.json", "pytorch_model.bin", "source.json"}


def test_a_commit_stays_the_commit_when_the_branch_moves_on(hub, folder):
    commit = hub.add(NAME, FILES)
    hub.repos[NAME].commit({**FILES, "model.safetensors": b"newer"})
    result = download_model(NAME, folder, revision=commit, sha256=DIGEST.upper())
    assert (result.revision, result.pinned) == (commit, True)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_the_recommended_models_are_pinned(hub, folder, monkeypatch):
    commit = hub.add(NAME, FILES)
    hub.repos[NAME].commit({"config.json": b"{}", "model.safetensors": b"newer"})
    monkeypatch.setattr(download, "recommended", lambda: {NAME: Pin(commit, DIGEST)})
    assert download_model(NAME, folder).revision == commit
    monkeypatch.setattr(download, "recommended", lambda: {NAME: Pin(commit, "0" * 64)})
    with pytest.raises(ValueError, match="expected 000"):
        download_model(NAME, folder)


def test_a_pin_is_a_commit_and_a_checksum():
    for pin in recommended().values():
        assert (len(pin.revision), len(pin.sha256)) == (40, 64)
        assert int(pin.revision, 16)
        assert int(pin.sha256, 16)


def test_repeating_verifies_without_a_network(hub, folder):
    hub.add(NAME, FILES)
    download_model(NAME, folder)
    hub.requests.clear()
    assert not download_model(NAME, folder).fetched
    assert not download_model(NAME, folder, offline=True, sha256=DIGEST).fetched
    assert hub.requests == []
    (folder / "model.safetensors").write_bytes(b"x" + WEIGHTS[1:])
    with pytest.raises(ValueError, match="has changed since"):
        download_model(NAME, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="is gone"):
        download_model(NAME, folder)


def test_an_interrupted_download_goes_on(hub, folder, fault):
    hub.add(NAME, FILES)
    hub.faults.append(fault("GET", "model.safetensors", 404, times=1))
    with pytest.raises(HubError, match="what has arrived is kept"):
        download_model(NAME, folder)
    assert not (folder / "source.json").exists()
    arrived = {path: path.stat().st_mtime_ns for path in folder.glob("*.*")}  # files are fetched side by side
    hub.requests.clear()
    download_model(NAME, folder)
    assert {path: path.stat().st_mtime_ns for path in arrived} == arrived
    gets = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert {path.rpartition("/")[2] for path in gets} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    } - {path.name for path in arrived}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_another_revision_or_model_does_not_slip_into_a_folder(hub, folder):
    first = hub.add(NAME, FILES)
    download_model(NAME, folder, revision=first)
    second = hub.repos[NAME].commit({**FILES, "model.safetensors": b"newer"})
    with pytest.raises(ValueError, match=f"holds revision {first}"):
        download_model(NAME, folder, revision=second)
    with pytest.raises(ValueError, match="holds org/encoder, not org/other"):
        download_model("org/other", folder)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_errors_say_why(hub, folder, as_guest, fault):
    for name, words in (("encoder", "OWNER/NAME"), ("org/none", "there is no such repository")):
        with pytest.raises(ValueError, match=words):
            download_model(name, folder)
    commit = hub.add(NAME, FILES)
    with pytest.raises(HubError, match="no such revision"):
        download_model(NAME, folder, revision="0" * 40)
    with pytest.raises(ValueError, match="expected 111"):
        download_model(NAME, folder, revision=commit, sha256="1" * 64)
    assert not (folder / "source.json").exists()
    hub.add("org/empty", {"README.md": b"x"})
    with pytest.raises(HubError, match=r"no model\.safetensors"):
        download_model("org/empty", folder)
    hub.add("org/gated", FILES, gated=True)
    with pytest.raises(HubError, match="gated: accept its terms"):
        download_model("org/gated", folder)
    hub.faults.append(fault("GET", "/api/models", 500, times=100))
    with pytest.raises(HubError, match=r"the hub failed \(500\)"):
        download_model(NAME, folder)
    with pytest.raises(HubError, match="cannot be reached"):
        download_model(NAME, folder, endpoint="http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match="copy the folder"):
        download_model("org/none", folder.with_name("none"), offline=True)
