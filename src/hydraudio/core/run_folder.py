"""The files of a run folder that are not written by callbacks, and the link to the newest run."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from hydraudio.core.environment import environment_report
from hydraudio.core.files import write_text


def portable_config(cfg: DictConfig) -> str:
    """Resolve a configuration to YAML whose folders can be moved to another machine.

    Everything is resolved but interpolations to ``paths.*``; ``paths`` itself holds this machine's folders, which
    :func:`restore_config` replaces.
    """
    paths = {str(key): value for key, value in cfg.paths.items()}
    portable = copy.deepcopy(cfg)
    OmegaConf.set_struct(portable, False)
    for key in paths:  # an escaped interpolation resolves to the interpolation itself
        portable.paths[key] = f"\\${{paths.{key}}}"
    container = OmegaConf.to_container(portable, resolve=True)
    assert isinstance(container, dict), "a mapping gives a mapping"
    container["paths"] = paths
    return OmegaConf.to_yaml(OmegaConf.create(container))


def restore_config(text: str, paths: DictConfig | None = None) -> DictConfig:
    """Read what :func:`portable_config` wrote, with the folders of this machine; None leaves them as they were."""
    try:
        cfg = OmegaConf.create(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the configuration inside the checkpoint is not YAML: {error}") from error
    if not isinstance(cfg, DictConfig):
        raise ValueError("the configuration inside the checkpoint is not a mapping")
    if paths is not None:
        cfg.paths = OmegaConf.to_container(paths, resolve=True)
    return cfg


def best_checkpoint(folder: Path) -> Path:
    """Return the file of the best weights in a run folder.

    Raises:
        FileNotFoundError: there is none; the message names what is there instead.
    """
    best = folder / "checkpoints" / "best.ckpt"
    if best.is_file():
        return best
    others = sorted(str(path) for path in (folder / "checkpoints").glob("*.ckpt"))
    runs = sorted(str(path.parents[1]) for path in folder.glob("*/checkpoints/best.ckpt"))
    if others:
        raise FileNotFoundError(f"{folder}: the run has no best checkpoint; give one of {', '.join(others)}")
    if runs:
        raise FileNotFoundError(f"{folder}: holds several runs; give one of them, such as {runs[-1]}")
    raise FileNotFoundError(
        f"{folder}: neither the folder of a run (checkpoints/best.ckpt) nor that of a shared model (config.json)"
    )


def open_run_folder(folder: Path, config_text: str) -> None:
    """Write ``config.yaml`` and ``environment.txt`` and point ``latest`` at the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", config_text)
    with (folder / "environment.txt").open("a", encoding="utf-8") as file:  # a resumed run adds a paragraph
        file.write(environment_report() + "\n")
    link_latest(folder)


def link_latest(folder: Path) -> None:
    """Point ``<folder>/../latest`` at the folder, atomically; nothing but a link is ever replaced."""
    link = folder.parent / "latest"
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} is not a link; move it away so that it can point at the newest run")
    temporary = folder.parent / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name, target_is_directory=True)
    temporary.replace(link)
