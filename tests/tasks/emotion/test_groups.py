"""The interchangeable parts of emotion networks: every YAML of model/emotion/loss, pooling, gender, normalization."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hydra_preflight import check_targets
from hydra_preflight.compose import compose_run
from hydra_preflight.resolvers import bind_data_attributes

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "configs" / "model" / "emotion"


class Corpus:
    class_counts = [6716, 6400, 16652, 2992, 1134, 1419, 2519, 29144]
    waveform_mean, waveform_std = 0.0, 0.09


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """Compose train.yaml for emotions as the entry script does."""
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(tmp_path / "logs"))
    return lambda *overrides: compose_run(("task=emotion", *overrides), tmp_path)


def options(*groups: str) -> list[str]:
    return sorted(f"{group}/{path.stem}" for group in groups for path in (MODEL / group).glob("*.yaml"))


def part(cfg: DictConfig | None, **shape: int) -> object:
    """The object of a part of the configuration; what it takes from the network is `shape`."""
    if cfg is None:
        return None
    bind_data_attributes(Corpus())
    check_targets(OmegaConf.create({"model": {"net": cfg}}))
    made = instantiate(cfg, _convert_="all")
    return made if isinstance(made, torch.nn.Module) else made(**shape)


def chosen(compose, option: str) -> DictConfig:
    """The model with an option GROUP/NAME; GROUP/null is what it is without one."""
    group, name = option.split("/")
    return compose(*([] if name == "null" else [f"model/emotion/{group}={name}"])).model


@pytest.mark.parametrize("option", options("loss"))
def test_losses_prefer_the_truth(compose, option):
    loss = part(chosen(compose, option).losses.category)
    target = torch.eye(8)
    right, wrong = (loss(logits, target).sum() for logits in (4 * target, 4 * target.roll(1, 0)))
    assert right < wrong
    assert (loss.reduction_weights(target) > 0).all()
    assert not list(loss.state_dict()), "counts come from the configuration, not from the checkpoint"


@pytest.mark.parametrize("option", [*options("pooling"), "pooling/null"])
def test_poolings_say_their_width(compose, option):
    pooling = part(chosen(compose, option).net.pooling, in_features=16)
    assert pooling(torch.randn(2, 7, 16), torch.tensor([7, 3])).shape == (2, pooling.out_features)


@pytest.mark.parametrize("option", [*options("gender"), "gender/null"])
def test_gender_modes_are_named_as_their_files(compose, option):
    gender = part(chosen(compose, option).net.gender, in_features=16)
    assert option == f"gender/{'null' if gender is None else gender.mode}"


@pytest.mark.parametrize("option", [*options("normalization"), "normalization/null"])
def test_normalizations_keep_the_shape(compose, option):
    normalization = part(chosen(compose, option).net.normalization)
    assert (normalization is None) == (option == "normalization/none")
    assert normalization is None or normalization(torch.randn(2, 500)).shape == (2, 500)
    assert normalization is None or normalization.per_utterance == (option == "normalization/utterance")


@pytest.mark.parametrize("option", options("upstream"))
def test_upstreams_are_pinned_to_a_revision(compose, option):
    group, name = option.split("/")
    chosen = compose(f"model/emotion/{group}={name}", "model.net.upstream.architecture=null")
    upstream = chosen.model.net.upstream
    assert "/" in upstream.source
    assert len(upstream.revision) == 40


def test_an_experiment_overrides_a_part(compose, tmp_path):
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /task: emotion\n  - override /model: emotion/joint\n"
        "  - override /model/emotion/loss: focal\n  - override /model/emotion/gender: auxiliary\n"
        "model:\n  losses:\n    category:\n      gamma: 3.0\n"
    )
    path = f"hydra.searchpath=[{tmp_path / 'own'}]"
    model = compose("experiment=mine", path).model
    assert (model.losses.category._target_, model.losses.category.gamma) == (
        "hydraudio.losses.classification.Focal",
        3.0,
    )
    assert model.net.gender._target_.endswith("GenderClassifier")
    model = compose("experiment=mine", path, "model/emotion/loss=cross_entropy", "~model.losses.category.gamma").model
    assert model.losses.category._target_.endswith("CrossEntropy")


def test_a_model_without_categories_has_no_loss_to_choose(compose):
    with pytest.raises((HydraException, ValueError), match="model/emotion/loss"):
        compose("model=emotion/attributes", "model/emotion/loss=focal")
