"""What this project promises: its configuration files compose, its network and corpus keep the house's contracts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from hydraudio.tasks.pretraining.encoding import WaveformEncoder
from hydraudio.testing import (
    CorpusContract,
    NetworkContract,
    assert_configs_compose,
    assert_predicts,
    compose,
    make_data,
    make_network,
    make_task,
    noise,
    spec_of,
)

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """The training that runs without arguments, without workers."""
    return compose(["data.num_workers=0"], tmp_path_factory.mktemp("run"))


def test_every_configuration_file_composes() -> None:
    assert_configs_compose(CONFIGS)


@pytest.mark.parametrize("promise", NetworkContract.PROMISES)
def test_encoder(cfg: DictConfig, promise: str) -> None:
    task: Any = make_task(cfg)
    getattr(NetworkContract(WaveformEncoder(task.spectrogram, task.net.encoder, cfg.model.pooling)), promise)()


def test_autoencoder_learns_from_the_masked_patches_in_every_parameter(cfg: DictConfig) -> None:
    net: Any = make_network(cfg)
    output = net(noise(2, net.grid.channels, net.grid.n_frames, net.grid.n_bins, amplitude=1.0))
    output.loss.backward()
    assert output.masked.sum(1).unique().tolist() == [round(net.masker.ratio * net.grid.n_tokens)]
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("promise", CorpusContract.PROMISES)
def test_corpus(cfg: DictConfig, promise: str) -> None:
    getattr(CorpusContract(partial(make_data, cfg), spec_of(cfg)), promise)()


def test_prediction(cfg: DictConfig) -> None:
    data = make_data(cfg)
    data.prepare_data()
    data.setup("test")
    assert_predicts(make_task(cfg), next(iter(data.test_dataloader())))
