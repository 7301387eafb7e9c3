"""What a run needs beside its task and data: its folder, a checkpoint to go on from, a trainer, weights to test."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_preflight import check_targets
from hydra_preflight.errors import ConfigError
from hydra_preflight.foreign import read_text
from hydra_preflight.project import drawn_seed
from hydra_preflight.resolvers import bind_data_attributes, register_resolvers
from hydraudio.core.objective import check_logged
from hydraudio.core.run_folder import changed_settings, open_run_folder

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import Trainer

    from hydraudio.core.task import Task

log = logging.getLogger(__name__)


def of_the_run(cfg: DictConfig) -> DictConfig:
    """A copy without the ``hydra`` node and with a seed, whoever composed it."""
    if not OmegaConf.has_resolver("run_dir"):
        register_resolvers()
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.pop("hydra", None)
    if cfg.seed is None:
        cfg.seed = drawn_seed()
    return cfg


def check_tags(cfg: DictConfig) -> None:
    """Refuse a run without tags where ``extras.enforce_tags`` wants them."""
    if cfg.extras.enforce_tags and not cfg.tags:
        raise ConfigError("tags: extras.enforce_tags wants at least one: tags=[WORD]")


def filter_warnings(cfg: DictConfig) -> None:
    """Silence what Lightning says of every run, and all warnings where ``extras.ignore_warnings`` wants that."""
    # Lightning 2.6 under torch 2.13, at every start; there is nothing that a user could do about it.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # Lightning takes it for an oversight that frozen parts of a network stay in evaluation mode.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
    # Said of every epoch before the first validation; Task refuses a metric that will never come.
    warnings.filterwarnings("ignore", message="ReduceLROnPlateau conditioned on metric")
    if cfg.extras.ignore_warnings:
        warnings.filterwarnings("ignore")


def begin_folder(cfg: DictConfig, folder: Path, config_text: str, resume_from: str | None = None) -> None:
    """Write down what begins here; of a resumed run also what is configured differently now."""
    from lightning.pytorch.utilities import rank_zero_only

    from hydraudio.core.checkpoints import read_checkpoint
    from hydraudio.core.config_tree import print_tree

    if cfg.extras.print_config:
        print_tree(cfg)
    note = ""
    if resume_from is not None and cfg.train:
        changes = changed_settings(read_checkpoint(resume_from, mmap=True)["hydraudio_config"], config_text)
        note = f"continued from: {resume_from}\nwith other settings: {'; '.join(changes) or 'none'}\n"
        if changes:
            log.warning("From %s on these settings are others than before: %s", resume_from, "; ".join(changes))
    overrides = HydraConfig.get().overrides.task
    rank_zero_only(open_run_folder)(folder, config_text, cfg, overrides, note)


def checkpoint_to_continue(cfg: DictConfig, folder: Path, config_text: str, datamodule: object) -> str | None:
    """Checkpoint to continue from or to test, which must hold the networks of this configuration and suit its data.

    Raises:
        DataMismatchError: it was trained with other classes, another sample rate ... or on another corpus.
    """
    from hydraudio.core.checkpoints import read_checkpoint, require_same_corpus, require_same_model, trained_config

    if not cfg.ckpt_path:
        return None
    path = folder / "checkpoints" / "last.ckpt" if cfg.ckpt_path == "last" else Path(cfg.ckpt_path)
    if cfg.ckpt_path == "last" and not path.is_file():
        raise ConfigError(f"{path}: the run was stopped before its first checkpoint; start it again without ckpt_path")
    model = read_text(config_text, "this configuration")["model"]
    checkpoint = read_checkpoint(path, mmap=True)
    task_class: type[Task] = get_class(model["_target_"])
    require_same_model(task_class, model, trained_config(checkpoint, path)["model"], path)
    require_same_corpus(checkpoint, datamodule)
    return str(path)


def best_weights(trainer: Trainer) -> str | None:
    """Best checkpoint of this run; None means the weights as they are."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not best:
        log.info("There is no best checkpoint: testing the current weights.")
    return best or None


def weights_to_test(cfg: DictConfig, given: str | None) -> str | None:
    """Checkpoint that a run tests without training; None means the weights with which a training would begin."""
    if given is None and not cfg.init_from:
        log.warning("train=false without ckpt_path tests weights that were never trained; give ckpt_path=FILE")
    return given


def build_trainer(cfg: DictConfig) -> Trainer:
    """Build the Trainer of a training, with the callbacks, the report and the loggers of its configuration."""
    from lightning.pytorch.loggers.logger import DummyLogger

    from hydraudio.core.switches import BAREBONES, switched_on

    if "WANDB_TOKEN" in os.environ:
        os.environ.setdefault("WANDB_API_KEY", os.environ["WANDB_TOKEN"])
    callbacks = [instantiate(node) for node in [*(cfg.get("callbacks") or {}).values(), cfg.get("report")] if node]
    loggers = [instantiate(node) for node in (cfg.get("logger") or {}).values() if node]
    if cfg.trainer.get("barebones"):
        log.info("trainer.barebones=true: no callbacks, loggers, checkpoints and test")
        return make_trainer(cfg, **BAREBONES)
    return make_trainer(cfg, callbacks=switched_on(callbacks, cfg.trainer), logger=loggers or DummyLogger())


def make_trainer(cfg: DictConfig, **arguments: Any) -> Trainer:
    """Build the Trainer; what it refuses is a mistake in ``cfg.trainer``.

    Raises:
        ConfigError: an argument does not fit, or there is no such device.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    make = instantiate(cfg.trainer, _partial_=True)
    try:
        trainer: Trainer = make(**arguments)
    except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
        device = f" (accelerator={cfg.trainer.accelerator}, devices={cfg.trainer.devices})"
        raise ConfigError(
            f"trainer{device}: {str(error).rstrip('.!')}. trainer=cpu runs everywhere; configs/trainer lists the others"
        ) from error
    return trainer


def choose_device(cfg: DictConfig) -> torch.device:
    """Return the device that ``cfg.trainer`` stands for."""
    return make_trainer(cfg).strategy.root_device


def forward_context(trainer: Trainer) -> AbstractContextManager[Any]:
    """Compute as ``trainer.precision`` says.

    Raises:
        ConfigError: it asks for weights of another type, which recordings are not converted to.
    """
    precision = trainer.precision
    if precision not in ("32-true", "16-mixed", "bf16-mixed"):
        raise ConfigError(f"trainer.precision={precision}: prediction takes 32-true, bf16-mixed or 16-mixed")
    return trainer.precision_plugin.forward_context()


def build_untrained(cfg: DictConfig) -> Task:
    """Return the task with which :func:`hydraudio.run.train` begins, of a configuration from ``configs/train.yaml``."""
    check_targets(cfg, HydraConfig.get(), trusted_prefixes=cfg.extras.trusted_targets)

    import torch
    from lightning.pytorch.utilities.seed import isolate_rng

    from hydraudio.core.initial_weights import load_initial_weights

    with isolate_rng():
        torch.manual_seed(cfg.seed)
        bind_data_attributes(instantiate(cfg.data))
        task: Task = instantiate(cfg.model)
    check_logged(cfg, task)
    load_initial_weights(cfg, task)
    return task
