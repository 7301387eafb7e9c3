"""What every network of emotion recognition promises. New files are picked up by themselves."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from hydraudio.core.task import count_parameters
from hydraudio.tasks.emotion.spec import SPEC
from hydraudio.testing import CorpusContract, NetworkContract, make_data, noise

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "configs" / "model" / "emotion"
N_SAMPLES = 6003
TINY_UPSTREAM = yaml.safe_load(Path(__file__).with_name("tiny_upstream.yaml").read_text())
DATA = SimpleNamespace(  # what a network reads of its corpus
    n_classes=8,
    class_names=["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"],
    class_counts=[70, 60, 120, 10, 8, 8, 8, 160],
    attribute_names=["arousal", "valence", "dominance"],
    waveform_mean=1e-4,
    waveform_std=0.1,
)


SMALL = {  # corpus -> size of its miniature here
    "msp_podcast": {"n_train": 24, "n_val": 12, "n_test1": 8, "n_test2": 4, "n_test3": 4, "n_speakers": 12},
    "iemocap": {"n_turns": 10},
    "crema_d": {"n_actors": 5, "n_sentences": 1},
    "ravdess": {},
}
CORPORA = [pytest.param(name, marks=[] if name == "msp_podcast" else [pytest.mark.slow]) for name in SMALL]
EMOTION = sorted(path.stem for path in MODELS.glob("*.yaml") if not path.stem.startswith("_"))
_ARGUMENTS: dict[str, dict] = {}


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """Compose train.yaml for this floor."""
    from hydra_preflight.compose import compose_run

    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    return lambda *overrides: compose_run(["task=emotion", *overrides], tmp_path)


@pytest.fixture
def build(compose):
    """Make the network of a YAML; `tiny`: with the upstream of tiny_networks.yaml."""
    from hydra_preflight.resolvers import bind_data_attributes
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    install_torchaudio_standin()

    def make(option: str, tiny: bool = True) -> nn.Module:
        if option not in _ARGUMENTS:
            cfg = compose(f"model=emotion/{option}")
            bind_data_attributes(DATA)
            _ARGUMENTS[option] = OmegaConf.to_container(cfg.model.net, resolve=True)  # type: ignore[assignment]
        arguments: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(_ARGUMENTS[option]))  # type: ignore[assignment]
        if tiny:
            arguments["upstream"]["architecture"] = TINY_UPSTREAM
        torch.manual_seed(0)
        return instantiate(arguments, _convert_="all")

    return make


@pytest.fixture(params=EMOTION)
def network(request, build):
    """The network of a YAML, tiny."""
    return build(request.param)


def test_output_has_the_promised_shape(network):
    output = network(noise(2, N_SAMPLES), None, torch.tensor([0, 2]))
    assert output["embedding"].shape[0] == 2
    assert ("logits" in output, "attributes" in output) == (network.n_classes > 0, network.n_attributes > 0)
    assert output.get("logits", torch.zeros(2, 8)).shape == (2, 8)
    attributes = output.get("attributes", torch.full((2, 3), 0.5))
    assert attributes.shape == (2, 3)
    assert ((attributes > 0) & (attributes < 1)).all()


PROMISES = [
    pytest.param(promise, marks=[pytest.mark.slow] if promise == "compiles_in_place" else [])
    for promise in NetworkContract.PROMISES
]


@pytest.mark.parametrize("promise", PROMISES)
def test_promise_of_every_network(network, promise):
    further = {"gender": torch.tensor([0, 1, 2])}
    getattr(NetworkContract(network, N_SAMPLES, further, unscored=("embedding",)), promise)()


def test_features_give_what_waveforms_give(network):
    """Also in a padded batch: what is cached of a frozen encoder stands for the waveform."""
    net, lengths = network.eval(), torch.tensor([N_SAMPLES, 2500, 300])
    waveform, gender = noise(3, N_SAMPLES), torch.tensor([0, 1, 2])
    with torch.no_grad():
        expected, found = net(waveform, lengths, gender), net.classify(*net.encode(waveform, lengths), gender)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("promise", CorpusContract.PROMISES)
@pytest.mark.parametrize("corpus", CORPORA)
def test_promise_of_every_corpus(corpus, promise, compose, shared):
    size = {**SMALL[corpus], "min_s": 0.5, "max_s": 0.6, "n_processes": 1}
    places = [f"data.data_dir={shared}", f"data.cache_dir={shared}/cache"]
    cfg = compose(f"data=emotion/{corpus}", *places, *(f"+data.embedded.{key}={value}" for key, value in size.items()))
    getattr(CorpusContract(partial(make_data, cfg, num_workers=0, batch_size=4), SPEC), promise)()


def test_every_corpus_is_asked():
    assert {path.stem for path in (ROOT / "configs" / "data" / "emotion").glob("*.yaml")} == set(SMALL)


@pytest.mark.parametrize("option", EMOTION)
def test_parameter_count_is_the_documented_one(build, option):
    """With the embedded upstream: trained and all."""
    table = (ROOT / "docs/emotion/networks.md").read_text()
    row = re.search(rf"^\| `{option}` \|([^|]*)\|([^|]*)\|", table, re.MULTILINE)
    assert row, f"docs/emotion/networks.md has no row for {option}: run python scripts/docs_tables.py"
    documented = [int(cell.strip().replace(",", "")) for cell in row.groups()]
    net = build(option, tiny=False)
    assert documented == [count_parameters(net), sum(p.numel() for p in net.parameters())]
