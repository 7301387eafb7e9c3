"""`run.predict` on a checkpoint of this floor: the predictor of the checkpoint with the command line laid over it."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hydra_preflight.compose import compose_run
from hydra_preflight.errors import ConfigError
from hydra_preflight.resolvers import bind_data_attributes
from hydraudio import run
from hydraudio.core.run_folder import portable_config
from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.emotion.predict import EmotionPredictor

DATA = SimpleNamespace(
    n_classes=2,
    class_names=["Neutral", "Happy"],
    class_counts=[2, 1],
    attribute_names=["arousal"],
    waveform_mean=0.0,
    waveform_std=1.0,
)


@pytest.fixture(scope="module")
def trained(repository, tmp_path_factory):
    """Configuration and weights of a network that was never trained."""
    install_torchaudio_standin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        cfg = compose_run(["task=emotion", "trainer=cpu"], tmp_path_factory.mktemp("run"))
        bind_data_attributes(DATA)
        return OmegaConf.create(portable_config(cfg)), instantiate(cfg.model).state_dict()


@pytest.fixture
def predict(trained, repository, tmp_path, monkeypatch):
    """Call with overrides of configs/predict.yaml."""
    monkeypatch.setenv("PROJECT_ROOT", str(repository))
    soundfile.write(tmp_path / "x.wav", 0.1 * np.ones(1600), 16000)
    content = {"state_dict": trained[1], "hydraudio_config": OmegaConf.to_yaml(trained[0])}
    torch.save(content, tmp_path / "net.ckpt")

    def call(*overrides):
        given = [f"ckpt_path={tmp_path}/net.ckpt", f"input={tmp_path}/x.wav", "trainer=cpu"]
        run.predict(compose_run([*given, *overrides], tmp_path / "run", "predict.yaml"))

    return call


def test_priors_of_the_command_line_reach_the_predictor(predict, monkeypatch):
    found = []
    monkeypatch.setattr(EmotionPredictor, "run", lambda self, *args, **options: found.append(self.priors) or {})
    predict("predict.priors={Neutral: 0.75, Happy: 0.25}")
    assert found == [{"Neutral": 0.75, "Happy": 0.25}]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+predict.streaming=true", r"predict\.streaming: .*EmotionPredictor has no argument 'streaming'"),
        ("predict.priors={A: often}", r"predict\.priors: .*wrong type"),
    ],
)
def test_what_the_predictor_does_not_have_is_refused(predict, override, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        predict(override)
