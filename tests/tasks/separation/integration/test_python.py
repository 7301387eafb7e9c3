"""Separation from Python: what the README shows, and what `hydraudio.build` gives and refuses."""

from __future__ import annotations

import pytest
import torch
from page_commands import README, part_of, run_examples
from untrained import write_run

import hydraudio

QUICK = "experiment=separation/polsess_quick"


@pytest.fixture(autouse=True)
def project_root(repository, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))


def test_the_examples_of_the_readme(tmp_path, monkeypatch):
    write_run(tmp_path / "logs" / "polsess_quick" / "latest", QUICK)
    monkeypatch.chdir(tmp_path)
    assert run_examples(part_of(README.read_text(), "separation"), "README.md") == 5


def test_what_is_built_is_what_a_training_begins_with(tmp_path, monkeypatch):
    from hydraudio import run

    begun = []
    monkeypatch.setattr(run, "build_trainer", lambda cfg: begun.append(cfg))
    monkeypatch.setattr(run, "check_logged", lambda cfg, task: begun.append(task.state_dict()))
    from hydra_preflight.compose import compose_run

    with pytest.raises(AttributeError):  # there is no trainer
        run.train(compose_run([QUICK, "seed=3"], tmp_path))
    before = torch.get_rng_state()
    built = hydraudio.build(QUICK, "seed=3").state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    expected = begun[0]
    assert built.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in built.items())
    other = hydraudio.build(QUICK, "seed=4").state_dict()
    assert any(not torch.equal(value, expected[name]) for name, value in other.items())


def test_nothing_is_written(tmp_path, monkeypatch):
    for name in ("LOG", "DATA"):
        monkeypatch.setenv(f"HYDRAUDIO_{name}_DIR", str(tmp_path / name))
    task = hydraudio.build("model=separation/dprnn_small")
    assert task.training
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=separation/conv_tasnet_tny"], "conv_tasnet_tiny"),
        (["model.net.n_filtres=3"], "n_filters"),
        (["task.monitor=val/pesq"], "task.monitor"),
        (["model.net._target_=os.system"], "may not be"),
    ],
)
def test_mistakes_are_answered_as_by_the_commands(overrides, words):
    with pytest.raises(ValueError, match=words):
        hydraudio.build(*overrides)
