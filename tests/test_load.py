"""`hydraudio.load`: a run, a file or a shared model become the same task; nothing else gets in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import hydraudio

sys.path.append(str(Path(__file__).parent / "toy"))

import toy_run

TRUSTED = ["toy_floor."]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder. Do not write into it."""
    return toy_run.write_run(tmp_path_factory.mktemp("logs") / "toys" / "2026-01-01_00-00-00").parents[1]


def outputs(task):
    from hydraudio.share.probe import probe_outputs

    return probe_outputs(task)


def test_a_run_a_file_and_a_shared_model_are_one_task(run, tmp_path, repository, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))
    from hydraudio.share.model_folder import open_trained, write_model_folder

    checkpoint = run / "checkpoints" / "best.ckpt"
    shared = write_model_folder(tmp_path / "shared", open_trained(toy_run.eval_config(), checkpoint))
    monkeypatch.delenv("PROJECT_ROOT")  # none of it is needed from here on
    monkeypatch.chdir(tmp_path)
    tasks = [hydraudio.load(path, TRUSTED) for path in (run, str(checkpoint), shared)]
    assert not any(task.training for task in tasks)
    expected, *others = map(outputs, tasks)
    for found in others:
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_only_trusted_classes_are_made(run):
    with pytest.raises(ValueError, match=r"toy_floor\.ToyTask.*may not be instantiated"):
        hydraudio.load(run)


@pytest.mark.parametrize("target", ["os.system", "toy_floor.os.system", "builtins.exec"])
def test_what_a_checkpoint_names_is_no_command(run, tmp_path, target):
    contents = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    config = OmegaConf.create(contents["hydraudio_config"])
    config.model.net = {"_target_": target, "command": f"touch {tmp_path / 'executed'}"}
    config.extras.trusted_targets = [*TRUSTED, "os"]
    torch.save({**contents, "hydraudio_config": OmegaConf.to_yaml(config)}, tmp_path / "hostile.ckpt")
    with pytest.raises(ValueError, match=r"hostile\.ckpt"):
        hydraudio.load(tmp_path / "hostile.ckpt", TRUSTED)
    assert not (tmp_path / "executed").exists()


def test_mistakes_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt: no such checkpoint"):
        hydraudio.load(tmp_path / "none.ckpt")
    with pytest.raises(FileNotFoundError, match="neither the folder of a run"):
        hydraudio.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"holds several runs.*{run}"):
        hydraudio.load(run.parent)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run / "checkpoints", unfinished / "checkpoints")
    (unfinished / "checkpoints" / "best.ckpt").rename(unfinished / "checkpoints" / "last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"no best checkpoint; give one of .*last\.ckpt"):
        hydraudio.load(unfinished)
    whole = (run / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.ckpt: damaged"):
        hydraudio.load(tmp_path / "cut.ckpt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"foreign\.ckpt: has no state_dict"):
        hydraudio.load(tmp_path / "foreign.ckpt")
    for broken, words in (("a: [", "not YAML"), ("- 1", "not a mapping")):
        torch.save({"state_dict": {}, "hydraudio_config": broken}, tmp_path / "broken.ckpt")
        with pytest.raises(ValueError, match=words):
            hydraudio.load(tmp_path / "broken.ckpt")
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(ValueError, match="not a model that Hydraudio wrote"):
        hydraudio.load(tmp_path)
