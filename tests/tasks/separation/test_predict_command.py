"""`run.predict`: the predictor of a checkpoint with the command line laid over it."""

import numpy as np
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hydra_preflight.compose import compose_run
from hydra_preflight.errors import ConfigError
from hydraudio import run
from hydraudio.core.run_folder import portable_config
from hydraudio.tasks.separation.predict import SeparationPredictor

SIZE = {
    "n_filters": 8,
    "kernel_size": 16,
    "bottleneck_channels": 4,
    "hidden_channels": 4,
    "n_blocks": 1,
    "n_repeats": 1,
}
NETWORK = [f"model.net.{key}={value}" for key, value in {**SIZE, "n_sources": 2}.items()]


@pytest.fixture(scope="module")
def trained(repository, tmp_path_factory):
    """Configuration and weights of a network that was never trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        cfg = compose_run([*NETWORK, "trainer=cpu", "data.sample_rate=8000"], tmp_path_factory.mktemp("run"))
        return OmegaConf.create(portable_config(cfg)), instantiate(cfg.model).state_dict()


@pytest.fixture
def predict(trained, repository, tmp_path, monkeypatch):
    """Call with overrides of configs/predict.yaml and a change of the configuration inside the checkpoint."""
    monkeypatch.setenv("PROJECT_ROOT", str(repository))
    soundfile.write(tmp_path / "x.wav", 0.1 * np.ones(800), 8000)

    def call(*overrides, change=lambda cfg: None):
        cfg = trained[0].copy()
        change(cfg)
        content = {"state_dict": trained[1], "hydraudio_config": OmegaConf.to_yaml(cfg)}
        torch.save(content, tmp_path / "net.ckpt")
        given = [f"ckpt_path={tmp_path}/net.ckpt", f"input={tmp_path}/x.wav", "trainer=cpu"]
        run.predict(compose_run([*given, *overrides], tmp_path / "run", "predict.yaml"))

    return call


def test_results_go_to_the_run_folder_unless_told_otherwise(predict, tmp_path, monkeypatch):
    predict()
    assert sorted(path.name for path in (tmp_path / "run" / "output").iterdir()) == ["x_s1.wav", "x_s2.wav"]
    predict(f"output={tmp_path}/elsewhere")
    assert (tmp_path / "elsewhere" / "x_s2.wav").is_file()


def test_a_checkpoint_with_other_weights_is_named(predict, trained):
    def widen(cfg):
        cfg.model.net.n_filters = 2 * cfg.model.net.n_filters

    with pytest.raises(ConfigError, match=r"net\.ckpt: holds other weights than the networks of its configuration"):
        predict(change=widen)


def test_short_names_are_laid_over_what_was_trained(predict, monkeypatch):
    settings = []
    monkeypatch.setattr(SeparationPredictor, "run", lambda self, *args, **options: settings.append(vars(self)) or {})

    def longer(cfg):
        cfg.predict.chunk_s = 30.0

    predict("overlap_s=1", "channels=each", "predict.batch_size=3", change=longer)
    expected = {
        "chunk_s": 30.0,
        "overlap_s": 1,
        "channels": "each",
        "batch_size": 3,
        "streaming": False,
        "level": "input",
    }
    assert settings == [expected]


def test_precision_has_an_effect(predict, tmp_path):
    soundfile.write(tmp_path / "x.wav", 0.1 * np.random.default_rng(0).standard_normal(800), 8000)
    predict(f"output={tmp_path}/full")
    predict(f"output={tmp_path}/half", "trainer.precision=bf16-mixed")
    full, half = (soundfile.read(tmp_path / name / "x_s1.wav")[0] for name in ("full", "half"))
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, atol=0.1 * np.abs(full).max())
    with pytest.raises(ConfigError, match=r"trainer\.precision=64-true: .*bf16-mixed"):
        predict("trainer.precision=64-true")


@pytest.mark.parametrize("root", [None, "/corpora/PolSESS"])
def test_a_network_of_the_generated_corpus_says_so(predict, caplog, root):
    predict(change=lambda cfg: cfg.data.update(root=root))
    assert ("trained on the generated corpus" in caplog.text) == (root is None)


@pytest.mark.parametrize(
    ("override", "change", "message"),
    [
        (
            "predict.window_s=3",
            lambda cfg: None,
            r"predict\.window_s: .*SeparationPredictor has no argument 'window_s'",
        ),
        ("chunk_s=long", lambda cfg: None, r"predict\.chunk_s: .*wrong type"),
        ("streaming=true", lambda cfg: None, "ConvTasNet is not causal"),
        ("overwrite=true", lambda cfg: cfg.pop("predict"), "has no key predict"),
    ],
)
def test_what_the_predictor_does_not_have_is_refused(predict, override, change, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        predict(override, change=change)
