"""What users of lightning-hydra-template call and expect: ``src.train.train(cfg)``, switches, resume, eval, sweeps."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from src.eval import evaluate
from src.train import train

from hydra_preflight.errors import ConfigError

SMALL = [
    *("model.net.n_filters=16", "model.net.kernel_size=32", "model.net.bottleneck_channels=8"),
    *("model.net.hidden_channels=8", "model.net.n_blocks=2", "model.net.n_repeats=1"),
]


@pytest.fixture(autouse=True)
def project_root(repository, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))


@pytest.fixture
def composed(repository, polsess_root, tmp_path):
    """Compose as such a user's ``conftest.py`` does, and set what it sets, in plain assignments."""

    def make(name: str = "train.yaml", overrides: tuple[str, ...] = ()) -> DictConfig:
        given = ["ckpt_path=."] if name == "eval.yaml" else SMALL
        with initialize_config_dir(version_base="1.3", config_dir=str(repository / "configs")):
            cfg = compose(config_name=name, return_hydra_config=True, overrides=[*given, *overrides])
        with open_dict(cfg):
            cfg.paths.root_dir = str(repository)
            cfg.paths.output_dir = cfg.paths.log_dir = str(tmp_path)
            cfg.trainer.accelerator, cfg.trainer.devices = "cpu", 1
            cfg.extras.print_config = cfg.extras.enforce_tags = False
            cfg.report.metrics = "fast"
            if name == "train.yaml":
                cfg.data.root, cfg.data.num_workers = str(polsess_root), 0
                cfg.trainer.max_epochs, cfg.trainer.limit_train_batches = 1, 2
                cfg.trainer.limit_val_batches = cfg.trainer.limit_test_batches = 1
                cfg.report.n_bootstrap, cfg.report.n_examples = 20, 0
                cfg.logger = None
        HydraConfig().set_config(cfg)
        return cfg

    return make


def test_parts_are_instantiated_from_their_nodes(composed):
    cfg = composed()
    for node in (cfg.data, cfg.trainer):
        assert instantiate(node) is not None


@pytest.mark.parametrize("batch_size", [2, 3])
def test_datamodule_gives_batches_of_the_size(composed, batch_size):
    cfg = composed()
    datamodule = instantiate(cfg.data, batch_size=batch_size)
    datamodule.prepare_data()
    datamodule.setup("fit")
    batch = next(iter(datamodule.train_dataloader()))
    assert len(batch["mixture"]) == len(batch["target"]) == batch_size
    assert batch["mixture"].dtype == torch.float32


def test_train_returns_metrics_and_objects(composed, tmp_path, capsys, caplog):
    cfg = composed()
    with caplog.at_level(logging.INFO):
        metrics, objects = train(cfg)
    assert f"This run goes to {tmp_path}" in caplog.text
    assert re.search(r"Epoch 1/1: train/loss [\d.-]+, val/loss [\d.-]+, val/si_sdri [\d.-]+, 0:00:00 left", caplog.text)
    shown = capsys.readouterr().out
    assert re.search(r"0\.\d{3} G MACs per second of audio at 8000 Hz", shown)
    assert "FLOPs" not in shown
    assert {"train/loss", "val/si_sdri", "test/si_sdri"} <= set(metrics)
    assert set(objects) == {"cfg", "datamodule", "model", "callbacks", "logger", "trainer"}
    assert objects["trainer"].current_epoch == 1
    assert {"last.ckpt", "best.ckpt"} <= {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert "hydra" in cfg
    assert cfg.logger is None


def test_fast_dev_run(composed, tmp_path):
    cfg = composed()
    with open_dict(cfg):
        cfg.trainer.fast_dev_run = True
    metrics, _ = train(cfg)
    assert "test/loss" in metrics
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_double_validation_loop(composed):
    cfg = composed()
    with open_dict(cfg):
        cfg.trainer.val_check_interval, cfg.test = 0.5, False
    _, objects = train(cfg)
    assert objects["trainer"].fit_loop.epoch_loop.val_loop.batch_progress.total.completed == 2


@pytest.mark.slow
def test_resume_adds_epochs(composed, tmp_path):
    cfg = composed()
    with open_dict(cfg):
        cfg.test = False
    first, _ = train(cfg)
    with open_dict(cfg):
        cfg.ckpt_path, cfg.trainer.max_epochs = str(tmp_path / "checkpoints" / "last.ckpt"), 2
    second, objects = train(cfg)
    assert objects["trainer"].current_epoch == 2
    assert second["train/loss"] != first["train/loss"]


def test_eval_gives_what_the_test_of_the_training_gave(composed, tmp_path):
    cfg = composed()
    with open_dict(cfg):
        cfg.trainer.limit_test_batches = None
    trained, _ = train(cfg)
    checking = composed("eval.yaml")
    with open_dict(checking):
        checking.ckpt_path = str(tmp_path / "checkpoints" / "best.ckpt")
        checking.paths.output_dir = str(tmp_path / "eval")
    tested, objects = evaluate(checking)
    assert tested["test/si_sdri"] == pytest.approx(float(trained["test/si_sdri"]), abs=1e-6)
    assert objects["trainer"].state.finished


@pytest.mark.parametrize(
    ("switch", "absent"),
    [("enable_progress_bar", "progress"), ("enable_checkpointing", "checkpoint"), ("enable_model_summary", "summary")],
)
def test_switches_of_the_trainer_leave_callbacks_out(composed, tmp_path, switch, absent):
    cfg = composed()
    with open_dict(cfg):
        cfg.trainer[switch], cfg.test = False, False
        cfg.trainer.limit_train_batches = 1
    _, objects = train(cfg)
    kinds = " ".join(type(callback).__name__ for callback in objects["callbacks"]).lower()
    assert absent not in kinds
    assert (tmp_path / "checkpoints").exists() == (switch != "enable_checkpointing")


def test_barebones(composed, tmp_path):
    cfg = composed()
    with open_dict(cfg):
        cfg.trainer.barebones, cfg.trainer.limit_train_batches = True, 1
    _, objects = train(cfg)
    assert objects["trainer"].global_step == 1
    assert objects["logger"] == []
    assert not (tmp_path / "checkpoints").exists()


def test_a_seed_is_drawn_and_kept(composed):
    cfg = composed()
    with open_dict(cfg):
        cfg.seed, cfg.train, cfg.test = None, False, False
    _, objects = train(cfg)
    assert objects["cfg"].seed == objects["datamodule"].seed
    assert isinstance(objects["cfg"].seed, int)


def test_tags_are_enforced(composed):
    cfg = composed()
    with open_dict(cfg):
        cfg.extras.enforce_tags = True
    with pytest.raises(ConfigError, match=r"tags: extras.enforce_tags wants at least one"):
        train(cfg)


def test_configuration_is_printed_as_a_tree(composed, capsys):
    cfg = composed()
    with open_dict(cfg):
        cfg.extras.print_config, cfg.train, cfg.test = True, False, False
    train(cfg)
    shown = capsys.readouterr().out
    assert "configuration\n├── " in shown
    assert "n_sources: 1" in shown


def test_a_test_of_nothing_trained_is_said(composed, caplog):
    cfg = composed()
    with open_dict(cfg):
        cfg.train = False
    with caplog.at_level(logging.WARNING):
        metrics, _ = train(cfg)
    assert "train=false without ckpt_path" in caplog.text
    assert "test/loss" in metrics


@pytest.mark.parametrize("key", ["task.monitor", "optimized_metric"])
def test_metrics_that_will_never_come_are_refused_before_an_epoch(composed, key):
    cfg = composed()
    with open_dict(cfg):
        cfg.optimized_metric = "test/si_sdri" if key == "optimized_metric" else None
        cfg.task.monitor = "val/loss_of_nothing" if key == "task.monitor" else cfg.task.monitor
    with pytest.raises(ConfigError, match=key):
        train(cfg)


def test_a_wrong_choice_is_named_before_anything_is_made(composed, tmp_path):
    cfg = composed()
    with open_dict(cfg):
        cfg.data.problem = "XX"
    with pytest.raises(ConfigError, match=r"data.problem: 'XX' is not one of ES, EB, SB"):
        train(cfg)
    assert list(tmp_path.iterdir()) == []


def test_what_the_trainer_refuses_is_a_sentence(composed):
    cfg = composed()
    with open_dict(cfg):
        cfg.trainer.accelerator = "tpu"
    with pytest.raises(ConfigError, match=r"trainer \(accelerator=tpu, devices=1\): .*trainer=cpu runs everywhere"):
        train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["model.optimizer.lr=0.005,0.01"],
        ["experiment=separation/polsess_quick,separation/libri2mix_quick", "logger=null"],
        [
            "hparams_search=separation/conv_tasnet_optuna",
            "hydra.sweeper.n_trials=2",
            "hydra.sweeper.sampler.n_startup_trials=1",
        ],
        ["logger=wandb", "logger.wandb.offline=true", "seed=1"],
    ],
    ids=["rates", "experiments", "optuna", "wandb"],
)
def test_sweeps_and_wandb_from_the_command_line(command, tmp_path, arguments):
    if "logger=wandb" in arguments:
        pytest.importorskip("wandb")
    result = command("src/train.py", "-m", "debug=fdr", "test=false", *arguments)
    assert "Traceback" not in result.stderr
    assert any(Path(tmp_path / "logs").rglob("config.yaml"))
