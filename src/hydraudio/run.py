"""The three verbs: train, evaluate, predict. Each checks its configuration before anything heavy is imported."""

from __future__ import annotations

import copy
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from hydra_preflight import check_structure, check_targets
from hydra_preflight.errors import ConfigError, DataMismatchError
from hydra_preflight.foreign import SECTIONS, admit, read_text
from hydra_preflight.project import drawn_seed
from hydra_preflight.resolvers import bind_data_attributes, register_resolvers
from hydra_preflight.task_rules import floor_of
from hydraudio.core.files import naming_full_disk, remove_dead_partials, write_text
from hydraudio.core.run_folder import (
    changed_settings,
    hold,
    how_to_continue,
    link_if_none,
    open_run_folder,
    portable_config,
    removing_failed_start,
)
from hydraudio.core.spec import load_spec

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import LightningDataModule, Trainer

    from hydraudio.core.task import Task
    from hydraudio.report.callback import Report

log = logging.getLogger(__name__)

_GENERATED = (
    "%s was trained on the generated corpus, not on recordings: on real ones it can make things worse; "
    "train with data.root=FOLDER"
)


Outcome = tuple[dict[str, "torch.Tensor"], dict[str, Any]]
"""Metrics by their names, and the objects of a run: cfg, datamodule, model, callbacks, logger, trainer."""


def train(cfg: DictConfig) -> Outcome:
    """Fit, test the best weights and write the report.

    Args:
        cfg: composed from ``configs/train.yaml``, with or without its ``hydra`` node.

    Returns:
        What the last epoch and the test logged, and the objects of the run.
    """
    cfg = _of_the_run(cfg)
    folder = Path(cfg.paths.output_dir)
    with removing_failed_start(folder):
        check_structure(cfg, HydraConfig.get())
        _check_tags(cfg)
        check_targets(cfg, HydraConfig.get(), trusted_prefixes=cfg.extras.trusted_targets)
        with naming_full_disk(folder), _ending_with_words(folder):
            return _train(cfg, folder)


def _train(cfg: DictConfig, folder: Path) -> Outcome:
    import lightning.pytorch as pl

    from hydraudio.core.cpu_memory import keep_freed_memory
    from hydraudio.core.online_loggers import ending_loggers
    from hydraudio.core.precision import settle_precision

    _apply_extras(cfg)
    settle_precision(cfg.trainer)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    _say_what_stands_in(cfg.data)
    datamodule: LightningDataModule = instantiate(cfg.data)
    bind_data_attributes(datamodule)
    config_text = portable_config(cfg)
    with _holding(folder):
        resume_from = _resume_from(cfg, folder, config_text, datamodule)
        _open_run_folder(cfg, folder, config_text, resume_from)
        task: Task = instantiate(cfg.model)
        _check_monitor(cfg, task)
        if resume_from is None:
            _load_initial_weights(cfg, task)
        trainer = _build_trainer(cfg)
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
                weights = _best_checkpoint(trainer) if cfg.train else _tested_checkpoint(cfg, resume_from)
                trainer.test(task, datamodule=datamodule, ckpt_path=weights, verbose=False)
                metrics |= trainer.callback_metrics
        if trainer.is_global_zero:
            link_if_none(folder)
    return metrics, _objects(cfg, datamodule, task, trainer)


def _objects(cfg: DictConfig, datamodule: LightningDataModule, task: Task, trainer: Trainer) -> dict[str, Any]:
    loggers, callbacks = list(trainer.loggers), list(getattr(trainer, "callbacks", []))
    run = {"cfg": cfg, "datamodule": datamodule, "model": task}
    return run | {"callbacks": callbacks, "logger": loggers, "trainer": trainer}


def _of_the_run(cfg: DictConfig) -> DictConfig:
    """A copy without the ``hydra`` node and with a seed, whoever composed it."""
    if not OmegaConf.has_resolver("run_dir"):
        register_resolvers()
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.pop("hydra", None)
    if cfg.seed is None:
        cfg.seed = drawn_seed()
    return cfg


def _check_tags(cfg: DictConfig) -> None:
    """Refuse a run without tags where ``extras.enforce_tags`` wants them."""
    if cfg.extras.enforce_tags and not cfg.tags:
        raise ConfigError("tags: extras.enforce_tags wants at least one: tags=[WORD]")


@contextmanager
def _ending_with_words(folder: Path) -> Iterator[None]:
    """After SIGTERM and Ctrl-C say how to continue, and exit with the status of the signal."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        with _raising_at(signal.SIGTERM, SIGTERMException):  # in training LastCheckpoint takes its place
            yield
        return
    except SIGTERMException as error:
        signum = getattr(error, "signum", signal.SIGTERM)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the first into the second
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signum = signal.SIGINT
    log.warning(how_to_continue(folder, is_sweep=HydraConfig.get().mode == RunMode.MULTIRUN))
    sys.exit(128 + signum)


@contextmanager
def _raising_at(signum: signal.Signals, exception: type[BaseException]) -> Iterator[None]:
    """Raise at a signal instead of ending without a word; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise exception

    before = signal.signal(signum, stop)
    try:
        yield
    finally:
        signal.signal(signum, before)


def _holding(folder: Path) -> AbstractContextManager[None]:
    """Give the lock of the run folder to the process that speaks for all."""
    from lightning.pytorch.utilities import rank_zero_only

    held: AbstractContextManager[None] | None = rank_zero_only(hold)(folder)
    return held or nullcontext()


def _open_run_folder(cfg: DictConfig, folder: Path, config_text: str, resume_from: str | None = None) -> None:
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


def evaluate(cfg: DictConfig) -> Outcome:
    """Test one or several checkpoints, each with the data and model of the configuration inside it.

    Args:
        cfg: composed from ``configs/eval.yaml``, with or without its ``hydra`` node.

    Returns:
        What the test logged, and the objects of the run; of several checkpoints the metrics are ``name/metric``, and
        the objects are those of the last.
    """
    cfg = _of_the_run(cfg)
    check_structure(cfg, HydraConfig.get())

    _apply_extras(cfg)
    paths = list(cfg.ckpt_path) if isinstance(cfg.ckpt_path, ListConfig) else [cfg.ckpt_path]
    folder = Path(cfg.paths.output_dir)
    with removing_failed_start(folder), naming_full_disk(folder), _holding(folder):
        _open_run_folder(cfg, folder, portable_config(cfg))
        outcome = _evaluate(cfg, paths, folder)
        link_if_none(folder)
    return outcome


def _evaluate(cfg: DictConfig, paths: Sequence[str], folder: Path) -> Outcome:
    if len(paths) == 1:
        return evaluate_checkpoint(cfg, paths[0], folder)
    report: type[Report] = get_class(_common_config(cfg, paths).report._target_)
    names = distinct_names(paths)
    metrics: dict[str, torch.Tensor] = {}
    objects: dict[str, Any] = {}
    for name, path in zip(names, paths, strict=True):
        scores, objects = evaluate_checkpoint(cfg, path, folder / name)
        metrics |= {f"{name}/{metric}": value for metric, value in scores.items()}
    report.compare({name: folder / name / "report" for name in names}, folder / "report", cfg.seed)
    return metrics, objects


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
    _apply_extras(first)
    common = _common_config(first, ckpt_paths)
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

    trained, checkpoint = open_checkpoint(cfg, cfg.ckpt_path)
    if "predict" not in trained:
        raise ConfigError(
            f"{cfg.ckpt_path}: its configuration has no key predict, which says what is done with audio files; train "
            "with a task that has one (configs/task)"
        )
    _lay_over(trained, cfg, "predict")
    origin = f"command line, laid over {cfg.ckpt_path}"
    check_targets(trained, trusted_prefixes=cfg.extras.trusted_targets, origin=origin)
    predictor = instantiate(trained.predict)
    if _is_generated(trained):
        log.warning(_GENERATED, cfg.ckpt_path)
    task = restore_task(trained, checkpoint)
    remove_dead_partials(Path(cfg.output), "**/.*.partial")
    trainer = _make_trainer(cfg)
    device = trainer.strategy.root_device
    with _forward_context(trainer):
        failures = predictor.run(task, cfg.input, cfg.output, device=device, overwrite=cfg.overwrite)
    log.info("The results are in %s", cfg.output)
    return not failures


def _forward_context(trainer: Trainer) -> AbstractContextManager[Any]:
    """Compute as ``trainer.precision`` says.

    Raises:
        ConfigError: it asks for weights of another type, which recordings are not converted to.
    """
    precision = trainer.precision
    if precision not in ("32-true", "16-mixed", "bf16-mixed"):
        raise ConfigError(f"trainer.precision={precision}: prediction takes 32-true, bf16-mixed or 16-mixed")
    return trainer.precision_plugin.forward_context()


def open_checkpoint(cfg: DictConfig, ckpt_path: str | Path) -> tuple[DictConfig, dict[str, Any]]:
    """Read a checkpoint and the configuration inside it, which may name trusted classes only.

    Args:
        cfg: composed from ``configs/eval.yaml`` or ``configs/predict.yaml``: its ``paths`` and ``extras`` count.
        ckpt_path: the file.

    Returns:
        The configuration that the checkpoint was trained with, with the folders of this machine, and all its contents.
    """
    return read_trained(ckpt_path, cfg.extras.trusted_targets, cfg.paths)


def read_trained(
    ckpt_path: str | Path, trusted_targets: Sequence[str] = (), paths: DictConfig | None = None
) -> tuple[DictConfig, dict[str, Any]]:
    """As :func:`open_checkpoint`, without a configuration; without `paths`, of the checkpoint's own only the model."""
    from hydraudio.core.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(ckpt_path)
    content = trained_config(checkpoint, ckpt_path)
    origin = f"{ckpt_path} (its configuration)"
    sections = SECTIONS if paths is not None else ("model",)
    return admit(content, origin, paths=paths, trusted_prefixes=trusted_targets, sections=sections), checkpoint


def trained_config(checkpoint: Mapping[str, Any], ckpt_path: str | Path) -> dict[str, Any]:
    """The configuration inside a checkpoint as plain values to look at; :func:`read_trained` makes things of it."""
    return read_text(checkpoint["hydraudio_config"], f"{ckpt_path} (its configuration)")


def restore_task(trained: DictConfig, checkpoint: dict[str, Any]) -> Task:
    """Return the trained task, in evaluation mode, from what :func:`read_trained` returned."""
    task = build_task(trained)
    task.load_state_dict(checkpoint["state_dict"])
    return task.eval()


def build_task(trained: DictConfig) -> Task:
    """Return the task of a configuration whose targets are checked, with weights that a state dict is to replace."""
    from hydraudio.core.pretrained import weights_come_later

    with weights_come_later():
        task: Task = instantiate(trained.model)
    return task


def build_untrained(cfg: DictConfig) -> Task:
    """Return the task of a configuration composed from ``configs/train.yaml``, as :func:`train` begins with it."""
    check_targets(cfg, HydraConfig.get(), trusted_prefixes=cfg.extras.trusted_targets)

    import torch
    from lightning.pytorch.utilities.seed import isolate_rng

    with isolate_rng():
        torch.manual_seed(cfg.seed)
        bind_data_attributes(instantiate(cfg.data))
        task: Task = instantiate(cfg.model)
    _check_monitor(cfg, task)
    _load_initial_weights(cfg, task)
    return task


def restore_data(cfg: DictConfig, trained: DictConfig, ckpt_path: str | Path) -> LightningDataModule:
    """Return the datamodule of a trained configuration with what ``cfg.data`` gives (root, problem ...) laid over it.

    A ``cfg.data`` that is a whole corpus (an option of ``configs/data``) takes its place instead.
    """
    was_generated = _is_generated(trained)
    if "_target_" in cfg.data:
        if floor_of(cfg.data._target_) not in (None, trained.task.name):
            raise DataMismatchError("task", floor_of(cfg.data._target_), trained.task.name)
        _say_what_stands_in(cfg.data)
        trained.data = OmegaConf.to_container(cfg.data, resolve=True)
    else:
        _lay_over(trained, cfg, "data")
    if was_generated and not _is_generated(trained):
        log.warning(_GENERATED, ckpt_path)
    check_targets(trained, trusted_prefixes=cfg.extras.trusted_targets, origin=f"{ckpt_path} (its configuration)")
    return instantiate(trained.data)


def _is_generated(trained: DictConfig) -> bool:
    """Say whether the corpus of a configuration is the embedded one."""
    data = trained.get("data") or {}
    return data.get("embedded") is not None and data.get("root") is None


def _say_what_stands_in(data: DictConfig) -> None:
    """Say that recordings are replaced by generated ones where this machine has no folder of the corpus.

    An experiment that asks for the generated corpus says ``root: null`` itself, and nothing is said of it.
    """
    if "root" in data and OmegaConf.is_interpolation(data, "root") and data.root is None:
        written: Any = OmegaConf.to_container(data, resolve=False)
        log.warning(
            "%s names no folder: a small generated corpus stands in for the recordings. Name theirs in .env (see "
            ".env.example), or give data.root=FOLDER",
            written["root"].strip("${}"),
        )


def choose_device(cfg: DictConfig) -> torch.device:
    """Return the device that ``cfg.trainer`` stands for."""
    return _make_trainer(cfg).strategy.root_device


def _lay_over(trained: DictConfig, cfg: DictConfig, group: str) -> None:
    given = OmegaConf.create(OmegaConf.to_container(cfg[group], resolve=True))
    trained[group] = OmegaConf.merge(trained[group], {key: value for key, value in given.items() if value is not None})


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
    _lay_over(trained, cfg, "report")

    import lightning.pytorch as pl

    from hydraudio.core.callbacks.progress import RunProgressBar
    from hydraudio.core.switches import switched_on

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = restore_data(cfg, trained, ckpt_path)
    task = restore_task(trained, checkpoint)
    task.check_data(datamodule)
    callbacks = [RunProgressBar(), instantiate(trained.report)]
    trainer = _make_trainer(cfg, callbacks=switched_on(callbacks, cfg.trainer))
    trainer.test(task, datamodule=datamodule, verbose=False)
    return dict(trainer.callback_metrics), _objects(cfg, datamodule, task, trainer)


def _common_config(cfg: DictConfig, paths: Sequence[str]) -> DictConfig:
    """The configuration of the first of several checkpoints, which must all have the same task."""
    from hydraudio.core.checkpoints import read_checkpoint

    first, _ = open_checkpoint(cfg, paths[0])  # checks that its targets can be trusted
    for path in paths[1:]:
        spec = trained_config(read_checkpoint(path, mmap=True), path).get("task", {}).get("spec")
        if spec != first.task.spec:
            raise ConfigError(
                f"ckpt_path: checkpoints of different tasks cannot be compared: {paths[0]} has task.spec="
                f"{first.task.spec}, {path} {spec}"
            )
    return first


def _check_monitor(cfg: DictConfig, task: Task) -> None:
    """Refuse a headline or an objective of a search that the task never logs as it is configured, before an epoch."""
    names: list[str] = task.metric_names("val")
    if cfg.train and cfg.task.monitor not in names:
        raise ConfigError(_not_logged("task.monitor", cfg.task.monitor, task, names))
    names = [*names, *task.metric_names("train")]
    objectives = cfg.optimized_metric if isinstance(cfg.optimized_metric, ListConfig) else [cfg.optimized_metric]
    for metric in objectives:
        if metric is not None and metric.startswith(("train/", "val/", "test/")) and metric not in names:
            raise ConfigError(_not_logged("optimized_metric", metric, task, names))


def _not_logged(key: str, metric: str, task: Task, names: Sequence[str]) -> str:
    return (
        f"{key}={metric}: {type(task).__name__} as it is configured logs no such metric in training and validation; "
        f"choose one of {', '.join(names)}"
    )


def _load_initial_weights(cfg: DictConfig, task: Task) -> None:
    """Give a new task the weights of ``cfg.init_from``, all or those of the parts ``cfg.init_only``."""
    from hydraudio.core.checkpoints import read_checkpoint
    from hydraudio.core.initial_weights import load_weights

    path, parts = cfg.init_from, cfg.init_only
    if parts is not None:
        if not path:
            raise ConfigError("init_only: names parts of another run's checkpoint; give that, too: init_from=FILE")
        if not (isinstance(parts, ListConfig) and parts and all(isinstance(part, str) for part in parts)):
            raise ConfigError(f"init_only={parts}: give a list of parts, such as init_only=[{task.parts[0]}]")
    if path:
        checkpoint = read_checkpoint(path, mmap=True)
        load_weights(task, checkpoint["state_dict"], trained_config(checkpoint, path)["model"], path, parts)


def _build_trainer(cfg: DictConfig) -> Trainer:
    from lightning.pytorch.loggers.logger import DummyLogger

    from hydraudio.core.switches import BAREBONES, switched_on

    if "WANDB_TOKEN" in os.environ:
        os.environ.setdefault("WANDB_API_KEY", os.environ["WANDB_TOKEN"])
    callbacks = [instantiate(node) for node in [*(cfg.get("callbacks") or {}).values(), cfg.get("report")] if node]
    loggers = [instantiate(node) for node in (cfg.get("logger") or {}).values() if node]
    if cfg.trainer.get("barebones"):
        log.info("trainer.barebones=true: no callbacks, loggers, checkpoints and test")
        return _make_trainer(cfg, **BAREBONES)
    return _make_trainer(cfg, callbacks=switched_on(callbacks, cfg.trainer), logger=loggers or DummyLogger())


def _make_trainer(cfg: DictConfig, **arguments: Any) -> Trainer:
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


def _resume_from(cfg: DictConfig, folder: Path, config_text: str, datamodule: object) -> str | None:
    """Checkpoint to continue from or to test, which must hold the networks of this configuration and suit its data.

    Raises:
        DataMismatchError: it was trained with other classes, another sample rate ... or on another corpus.
    """
    from hydraudio.core.checkpoints import read_checkpoint, require_same_corpus, require_same_model

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


def _best_checkpoint(trainer: Trainer) -> str | None:
    """Best checkpoint of this run; None means the weights as they are."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not best:
        log.info("There is no best checkpoint: testing the current weights.")
    return best or None


def _tested_checkpoint(cfg: DictConfig, given: str | None) -> str | None:
    """Checkpoint that a run tests without training; None means the weights with which a training would begin."""
    if given is None and not cfg.init_from:
        log.warning("train=false without ckpt_path tests weights that were never trained; give ckpt_path=FILE")
    return given


def optimized_value(outcome: Outcome) -> float | tuple[float, ...] | None:
    """Return what a search reads of a training: ``cfg.optimized_metric``.

    Returns:
        One number for a name, a tuple for a list of names; None if not asked for. Of the best checkpoint where that was
        chosen by the metric, else of the last epoch.
    """
    metrics, objects = outcome
    wanted = objects["cfg"].optimized_metric
    if isinstance(wanted, ListConfig):
        return tuple(_optimized_value(objects["trainer"], metrics, name) for name in wanted)
    return None if wanted is None else _optimized_value(objects["trainer"], metrics, wanted)


def _optimized_value(trainer: Trainer, metrics: Mapping[str, torch.Tensor], metric: str) -> float:
    checkpoint = trainer.checkpoint_callback
    best = getattr(checkpoint, "best_model_score", None)
    if best is not None and getattr(checkpoint, "monitor", None) == metric:
        return float(best)
    if metric not in metrics:
        names = ", ".join(sorted(metrics))
        raise ConfigError(f"optimized_metric: there is no metric {metric!r} after training; there are {names}")
    return float(metrics[metric])


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Name checkpoints by their run folders, numbered where that is ambiguous."""
    names = [Path(path).resolve().parent.parent.parent.name + "_" + Path(path).stem for path in paths]
    return [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _apply_extras(cfg: DictConfig) -> None:
    # Lightning 2.6 under torch 2.13, at every start; there is nothing that a user could do about it.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # Lightning takes it for an oversight that frozen parts of a network stay in evaluation mode.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
    # Said of every epoch before the first validation; Task refuses a metric that will never come.
    warnings.filterwarnings("ignore", message="ReduceLROnPlateau conditioned on metric")
    if cfg.extras.ignore_warnings:
        warnings.filterwarnings("ignore")
