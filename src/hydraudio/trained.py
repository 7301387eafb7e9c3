"""What a checkpoint was trained as: its configuration, which may name trusted classes only, its task, its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hydra_preflight import check_targets
from hydra_preflight.errors import ConfigError, DataMismatchError
from hydra_preflight.foreign import SECTIONS, admit
from hydra_preflight.task_rules import floor_of
from hydraudio.core.generated import is_generated, say_what_stands_in, warn_of_generated

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

    from hydraudio.core.task import Task


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
    from hydraudio.core.checkpoints import read_checkpoint, trained_config

    checkpoint = read_checkpoint(ckpt_path)
    content = trained_config(checkpoint, ckpt_path)
    origin = f"{ckpt_path} (its configuration)"
    sections = SECTIONS if paths is not None else ("model",)
    return admit(content, origin, paths=paths, trusted_prefixes=trusted_targets, sections=sections), checkpoint


def common_config(cfg: DictConfig, paths: Sequence[str]) -> DictConfig:
    """The configuration of the first of several checkpoints, which must all have the same task."""
    from hydraudio.core.checkpoints import read_checkpoint, trained_config

    first, _ = open_checkpoint(cfg, paths[0])  # checks that its targets can be trusted
    for path in paths[1:]:
        spec = trained_config(read_checkpoint(path, mmap=True), path).get("task", {}).get("spec")
        if spec != first.task.spec:
            raise ConfigError(
                f"ckpt_path: checkpoints of different tasks cannot be compared: {paths[0]} has task.spec="
                f"{first.task.spec}, {path} {spec}"
            )
    return first


def build_task(trained: DictConfig) -> Task:
    """Return the task of a configuration whose targets are checked, with weights that a state dict is to replace."""
    from hydraudio.core.pretrained import weights_come_later

    with weights_come_later():
        task: Task = instantiate(trained.model)
    return task


def restore_task(trained: DictConfig, checkpoint: dict[str, Any], ckpt_path: str | Path) -> Task:
    """Return the trained task, in evaluation mode, from what :func:`read_trained` returned for a file.

    Raises:
        ConfigError: the file holds other weights than the networks of its configuration have.
    """
    from hydraudio.core.checkpoints import require_weights_of

    task = build_task(trained)
    require_weights_of(task, checkpoint, ckpt_path)
    task.load_state_dict(checkpoint["state_dict"])
    return task.eval()


def restore_data(cfg: DictConfig, trained: DictConfig, ckpt_path: str | Path) -> LightningDataModule:
    """Return the datamodule of a trained configuration with what ``cfg.data`` gives (root, problem ...) laid over it.

    A ``cfg.data`` that is a whole corpus (an option of ``configs/data``) takes its place instead.
    """
    was_generated = is_generated(trained)
    if "_target_" in cfg.data:
        if floor_of(cfg.data._target_) not in (None, trained.task.name):
            raise DataMismatchError("task", floor_of(cfg.data._target_), trained.task.name)
        say_what_stands_in(cfg.data)
        trained.data = OmegaConf.to_container(cfg.data, resolve=True)
    else:
        lay_over(trained, cfg, "data")
    if was_generated and not is_generated(trained):
        warn_of_generated(ckpt_path)
    check_targets(trained, trusted_prefixes=cfg.extras.trusted_targets, origin=f"{ckpt_path} (its configuration)")
    return instantiate(trained.data)


def lay_over(trained: DictConfig, cfg: DictConfig, group: str) -> None:
    given = OmegaConf.create(OmegaConf.to_container(cfg[group], resolve=True))
    trained[group] = OmegaConf.merge(trained[group], {key: value for key, value in given.items() if value is not None})
