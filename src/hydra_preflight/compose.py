"""Compose a configuration outside of the entry scripts: for scripts, notebooks and tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from hydra_preflight import check_structure
from hydra_preflight.errors import ConfigError
from hydra_preflight.resolvers import register_resolvers


def compose_run(overrides: Sequence[str], output_dir: str | Path, primary: str = "train.yaml") -> DictConfig:
    """Compose and check a configuration of this project as ``src/train.py`` would.

    Args:
        overrides: as on the command line.
        output_dir: what ``paths.output_dir`` names; not created.
        primary: file in ``configs/``.

    Raises:
        ConfigError: something is wrong with the configuration or the overrides.
    """
    register_resolvers()
    folder = Path(os.environ["PROJECT_ROOT"]) / "configs"  # set by rootutils
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            runtime = f"hydra.runtime.output_dir={Path(output_dir).resolve()}"
            cfg = compose(primary, [*overrides, runtime], return_hydra_config=True)
    except HydraException as error:
        raise ConfigError(str(error)) from error
    HydraConfig.instance().set_config(cfg)
    check_structure(cfg, HydraConfig.get())
    with open_dict(cfg):
        del cfg.hydra
    return cfg
