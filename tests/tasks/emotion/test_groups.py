"""The interchangeable parts of emotion networks: every YAML of model/emotion/loss, pooling, gender and normalization."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hydra_preflight import check_targets
from hydra_preflight.resolvers import bind_data_attributes

MODEL = Path(__file__).parents[3] / "configs" / "model" / "emotion"


class Corpus:
    class_counts = [6716, 6400, 16652, 2992, 1134, 1419, 2519, 29144]
    waveform_mean, waveform_std = 0.0, 0.09


def options(*groups: str) -> list[str]:
    return sorted(f"{group}/{path.stem}" for group in groups for path in (MODEL / group).glob("*.yaml"))


def part(option: str, **shape: int) -> object:
    """The object of a YAML; what it takes from the network is `shape`."""
    bind_data_attributes(Corpus())
    cfg = OmegaConf.load(MODEL / f"{option}.yaml")
    check_targets(OmegaConf.create({"part": cfg}))
    made = instantiate(cfg if "_target_" in cfg else next(iter(cfg.values())), _convert_="all")
    return made(**shape) if made is not None and not isinstance(made, torch.nn.Module) else made


@pytest.mark.parametrize("option", options("loss"))
def test_losses_prefer_the_truth(option):
    loss = part(option)
    target = torch.eye(8)
    right, wrong = (loss(logits, target).sum() for logits in (4 * target, 4 * target.roll(1, 0)))
    assert right < wrong
    assert (loss.reduction_weights(target) > 0).all()
    assert not list(loss.state_dict()), "counts come from the configuration, not from the checkpoint"


@pytest.mark.parametrize("option", options("pooling"))
def test_poolings_say_their_width(option):
    pooling = part(option, in_features=16)
    assert pooling(torch.randn(2, 7, 16), torch.tensor([7, 3])).shape == (2, pooling.out_features)


@pytest.mark.parametrize("option", options("gender"))
def test_gender_modes_are_named_as_their_files(option):
    gender = part(option, in_features=16)
    assert option == f"gender/{'none' if gender is None else gender.mode}"


@pytest.mark.parametrize("option", options("normalization"))
def test_normalizations_keep_the_shape(option):
    normalization = part(option)
    assert normalization is None or normalization(torch.randn(2, 500)).shape == (2, 500)
