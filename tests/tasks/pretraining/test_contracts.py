"""What every network and corpus of this floor promises to a waveform. New files are picked up by themselves.

What an autoencoder promises to a spectrogram, its masks and its size: networks/test_presets.py, test_autoencoder.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate

from hydra_preflight.compose import compose_run
from hydra_preflight.resolvers import bind_data_attributes
from hydraudio.tasks.pretraining.encoding import WaveformEncoder
from hydraudio.tasks.pretraining.spec import SPEC
from hydraudio.testing import CorpusContract, NetworkContract, make_data

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "configs" / "model" / "pretraining"
NETWORKS = sorted(path.stem for path in MODELS.glob("[!_]*.yaml"))
ONE_PER_KIND = ("audiomaepp_tiny", "audiomaepp_224", "mae_baseline", "classifier")
ON_ALL = "padding_changes_nothing"
"""The promise of every YAML; the others are asked of one per kind of front-end and block, and of the classifier."""
CLASSES = SimpleNamespace(n_classes=3, class_names=["a", "b", "c"], class_counts=[5, 4, 3], multilabel=False)
TINY = {"width": 24, "depth": 2, "n_heads": 3}
SMALL = {  # corpus -> size of its miniature here
    "esc50": {"n_classes": 2, "n_per_fold": 2},
    "folder": {"n_classes": 2, "n_sources": 6},
}


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """Compose train.yaml for this floor."""
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    return lambda *overrides: compose_run(["task=pretraining", *overrides], tmp_path)


@pytest.fixture
def contract(compose):
    """The contract of the encoder of a YAML, narrow and shallow, with its front-end."""

    def make(option: str) -> NetworkContract:
        parts = ("encoder",) if option == "classifier" else ("encoder", "decoder")
        size = [f"model.net.{part}.{key}={value}" for part in parts for key, value in TINY.items()]
        cfg = compose(f"model=pretraining/{option}", *size)
        bind_data_attributes(CLASSES)
        torch.manual_seed(0)
        task = instantiate(cfg.model)
        return NetworkContract(WaveformEncoder(task.spectrogram, task.net.encoder, "cls+mean"))

    return make


@pytest.mark.parametrize("option", NETWORKS)
def test_promise_of_every_network(option, contract):
    getattr(contract(option), ON_ALL)()


PROMISES = [
    pytest.param(promise, marks=[pytest.mark.slow] if promise == "compiles_in_place" else [])
    for promise in NetworkContract.PROMISES
    if promise != ON_ALL
]


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("option", ONE_PER_KIND)
def test_promise_of_every_kind(option, promise, contract):
    getattr(contract(option), promise)()


@pytest.mark.parametrize("promise", CorpusContract.PROMISES)
@pytest.mark.parametrize("corpus", SMALL)
def test_promise_of_every_corpus(corpus, promise, compose, shared):
    places = [f"data.data_dir={shared}", f"data.cache_dir={shared}/cache", "data.root=null"]
    size = [f"++data.embedded.{key}={value}" for key, value in {**SMALL[corpus], "n_processes": 1}.items()]
    cfg = compose(f"data=pretraining/{corpus}", *places, *size)
    getattr(CorpusContract(partial(make_data, cfg, num_workers=0, batch_size=4), SPEC), promise)()


def test_every_corpus_is_asked():
    assert {path.stem for path in (ROOT / "configs" / "data" / "pretraining").glob("*.yaml")} == set(SMALL)
