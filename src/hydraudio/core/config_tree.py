"""The configuration of a run as a tree on the console."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich import get_console
from rich.syntax import Syntax
from rich.tree import Tree


@rank_zero_only
def print_tree(cfg: DictConfig) -> None:
    """Print every group of a resolved configuration as a branch, in the order of ``configs/train.yaml``."""
    tree = Tree("configuration")
    for name, node in cfg.items():
        text = OmegaConf.to_yaml(node, resolve=True) if OmegaConf.is_config(node) else str(node)
        tree.add(str(name)).add(Syntax(text.rstrip(), "yaml", background_color="default"))
    get_console().print(tree)
