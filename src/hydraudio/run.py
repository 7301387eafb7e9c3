"""The three verbs: train, evaluate, predict. Each checks its configuration before anything heavy is imported."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, ListConfig

from hydra_preflight import check_structure, check_targets
from hydra_preflight.errors import ConfigError, DataMismatchError
from hydra_preflight.resolvers import bind_data_attributes
from hydraudio.core.files import naming_full_disk, remove_dead_partials, write_text
from hydraudio.core.generated import is_generated, say_what_stands_in, warn_of_generated
from hydraudio.core.imports import import_lightning
from hydraudio.core.objective import check_logged
from hydraudio.core.run_folder import holding, link_if_none, portable_config, removing_failed_start
from hydraudio.core.spec import load_spec
from hydraudio.core.stopping import ending_with_words
from hydraudio.prepare import (
    begin_folder,
    best_weights,
    build_trainer,
    check_tags,
    checkpoint_to_continue,
    filter_warnings,
    forward_context,
    make_trainer,
    of_the_run,
    weights_to_test,
)
from hydraudio.trained import common_config, lay_over, open_checkpoint, restore_data, restore_task

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import LightningDataModule, Trainer

    from hydraudio.core.task import Task
    from hydraudio.report.callback import Report

log = logging.getLogger(__name__)

Outcome = tuple[dict[str, "torch.Tensor"], dict[str, Any]]
"""Metrics by their names, and the objects of a run: cfg, datamodule, model, callbacks, logger, trainer."""


def train(cfg: DictConfig) -> Outcome:
    """Fit, test the best weights and write the report.

    Args:
        cfg: composed from ``configs/train.yaml``, with or without its ``hydra`` node.

    Returns:
        What the last epoch and the test logged, and the objects of the run.
    """
    cfg = of_the_run(cfg)
    folder = Path(cfg.paths.output_dir)
    with removing_failed_start(folder):
        check_structure(cfg, HydraConfig.get())
        check_tags(cfg)
        import_lightning()
        check_targets(cfg, HydraConfig.get(), trusted_prefixes=cfg.extras.trusted_targets)
        is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        with naming_full_disk(folder), ending_with_words(folder, is_sweep):
            return _train(cfg, folder)


def _train(cfg: DictConfig, folder: Path) -> Outcome:
    import lightning.pytorch as pl

    from hydraudio.core.checkpoints import read_checkpoint, require_weights_of
    from hydraudio.core.cpu_memory import keep_freed_memory
    from hydraudio.core.initial_weights import load_initial_weights
    from hydraudio.core.online_loggers import ending_loggers
    from hydraudio.core.precision import settle_precision

    filter_warnings(cfg)
    settle_precision(cfg.trainer)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    say_what_stands_in(cfg.data)
    datamodule: LightningDataModule = instantiate(cfg.data)
    bind_data_attributes(datamodule)
    config_text = portable_config(cfg)
    with holding(folder):
        resume_from = checkpoint_to_continue(cfg, folder, config_text, datamodule)
        begin_folder(cfg, folder, config_text, resume_from)
        task: Task = instantiate(cfg.model)
        check_logged(cfg, task)
        if resume_from is None:
            load_initial_weights(cfg, task)
        else:
            require_weights_of(task, read_checkpoint(resume_from, mmap=True), resume_from)
        trainer = build_trainer(cfg)
        if trainer.is_global_zero:
            log.info("This run goes to %s", folder)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        metrics: dict[str, torch.Tensor] = {}
        with ending_loggers(trainer.loggers):
            for logger in trainer.loggers:
                logger.log_hyperparams(yaml.safe_load(config_text))
            if cfg.train:
                trainer.fit(task, datamodule=datamodule, ckpt_path=resume_from)
                metrics |= trainer.callback_metrics
            if cfg.test and not trainer.barebones:
                weights = best_weights(trainer) if cfg.train else weights_to_test(cfg, resume_from)
                trainer.test(task, datamodule=datamodule, ckpt_path=weights, verbose=False)
                metrics |= trainer.callback_metrics
        if trainer.is_global_zero:
            link_if_none(folder)
    return metrics, _objects(cfg, datamodule, task, trainer)


def _objects(cfg: DictConfig, datamodule: LightningDataModule, task: Task, trainer: Trainer) -> dict[str, Any]:
    loggers, callbacks = list(trainer.loggers), list(getattr(trainer, "callbacks", []))
    run = {"cfg": cfg, "datamodule": datamodule, "model": task}
    return run | {"callbacks": callbacks, "logger": loggers, "trainer": trainer}


def evaluate(cfg: DictConfig) -> Outcome:
    """Test one or several checkpoints, each with the data and model of the configuration inside it.

    Args:
        cfg: composed from ``configs/eval.yaml``, with or without its ``hydra`` node.

    Returns:
        What the test logged, and the objects of the run; of several checkpoints the metrics are ``name/metric``, and
        the objects are those of the last.
    """
    cfg = of_the_run(cfg)
    check_structure(cfg, HydraConfig.get())

    import_lightning()
    filter_warnings(cfg)
    paths = list(cfg.ckpt_path) if isinstance(cfg.ckpt_path, ListConfig) else [cfg.ckpt_path]
    folder = Path(cfg.paths.output_dir)
    with removing_failed_start(folder), naming_full_disk(folder), holding(folder):
        begin_folder(cfg, folder, portable_config(cfg))
        outcome = _evaluate(cfg, paths, folder)
        link_if_none(folder)
    return outcome


def _evaluate(cfg: DictConfig, paths: Sequence[str], folder: Path) -> Outcome:
    if len(paths) == 1:
        return evaluate_checkpoint(cfg, paths[0], folder)
    report: type[Report] = get_class(common_config(cfg, paths).report._target_)
    names = distinct_names(paths)
    metrics: dict[str, torch.Tensor] = {}
    objects: dict[str, Any] = {}
    for name, path in zip(names, paths, strict=True):
        scores, objects = evaluate_checkpoint(cfg, path, folder / name)
        metrics |= {f"{name}/{metric}": value for metric, value in scores.items()}
    report.compare({name: folder / name / "report" for name in names}, folder / "report", cfg.seed)
    return metrics, objects


def evaluate_checkpoint(cfg: DictConfig, ckpt_path: str | Path, folder: Path) -> Outcome:
    """Test one checkpoint and write its report.

    Args:
        cfg: composed from ``configs/eval.yaml``; its ``ckpt_path`` plays no part.
        ckpt_path: the file.
        folder: gets the folder ``report``.

    Returns:
        What the test logged, and the objects of the run.

    Raises:
        DataMismatchError: the corpus disagrees with the network, such as in the sample rate.
    """
    trained, checkpoint = open_checkpoint(cfg, ckpt_path)
    trained.report.output_dir, trained.report.checkpoint = str(folder / "report"), str(ckpt_path)
    lay_over(trained, cfg, "report")

    import lightning.pytorch as pl

    from hydraudio.core.callbacks.progress import RunProgressBar
    from hydraudio.core.switches import switched_on

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = restore_data(cfg, trained, ckpt_path)
    task = restore_task(trained, checkpoint, ckpt_path)
    task.check_data(datamodule)
    callbacks = [RunProgressBar(), instantiate(trained.report)]
    trainer = make_trainer(cfg, callbacks=switched_on(callbacks, cfg.trainer))
    trainer.test(task, datamodule=datamodule, verbose=False)
    return dict(trainer.callback_metrics), _objects(cfg, datamodule, task, trainer)


def evaluate_matrix(corpora: Mapping[str, DictConfig], ckpt_paths: Sequence[str], folder: Path) -> Path:
    """Test every checkpoint on every corpus and write one table of all.

    Args:
        corpora: name of each corpus with a configuration composed from ``configs/eval.yaml``.
        ckpt_paths: the checkpoint files.
        folder: gets a folder per pair, with its report, and ``matrix.csv`` and ``index.html``.

    Returns:
        Path of the page.
    """
    from hydraudio.report.matrix import write_matrix

    first = next(iter(corpora.values()))
    filter_warnings(first)
    common = common_config(first, ckpt_paths)
    cells: dict[tuple[str, str], Path | str] = {}
    for name, cfg in corpora.items():
        cfg.paths.output_dir = str(folder / name)
        write_text(folder / name / "config.yaml", portable_config(cfg))
        for model, path in zip(distinct_names(ckpt_paths), ckpt_paths, strict=True):
            try:
                evaluate_checkpoint(cfg, path, folder / name / model)
            except DataMismatchError as error:
                cells[model, name] = error.reason
            else:
                cells[model, name] = folder / name / model
    return write_matrix(cells, load_spec(common.task.spec, first.extras.trusted_targets), folder)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Name checkpoints by their run folders, numbered where that is ambiguous."""
    names = [Path(path).resolve().parent.parent.parent.name + "_" + Path(path).stem for path in paths]
    return [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def predict(cfg: DictConfig) -> None:
    """Process a file or a folder of audio with a checkpoint, as the predictor of its configuration does.

    Args:
        cfg: composed from ``configs/predict.yaml``.
    """
    folder = Path(cfg.paths.output_dir)
    with removing_failed_start(folder), naming_full_disk(folder):
        all_went_well = _predict(cfg)
    if not all_went_well:
        sys.exit(1)


def _predict(cfg: DictConfig) -> bool:
    check_structure(cfg, HydraConfig.get())

    import_lightning()
    trained, checkpoint = open_checkpoint(cfg, cfg.ckpt_path)
    if "predict" not in trained:
        raise ConfigError(
            f"{cfg.ckpt_path}: its configuration has no key predict, which says what is done with audio files; train "
            "with a task that has one (configs/task)"
        )
    lay_over(trained, cfg, "predict")
    origin = f"command line, laid over {cfg.ckpt_path}"
    check_targets(trained, trusted_prefixes=cfg.extras.trusted_targets, origin=origin)
    predictor = instantiate(trained.predict)
    if is_generated(trained):
        warn_of_generated(cfg.ckpt_path)
    task = restore_task(trained, checkpoint, cfg.ckpt_path)
    remove_dead_partials(Path(cfg.output), "**/.*.partial")
    trainer = make_trainer(cfg)
    device = trainer.strategy.root_device
    with forward_context(trainer):
        failures = predictor.run(task, cfg.input, cfg.output, device=device, overwrite=cfg.overwrite)
    log.info("The results are in %s", cfg.output)
    return not failures
