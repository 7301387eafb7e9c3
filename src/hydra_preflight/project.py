"""What the check knows of the project that it serves: names and places. Nothing of it is imported from here."""

from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parents[1] / "hydraudio"
FLOORS = "hydraudio.tasks"
"""Below it stands one package per task; a configuration takes its targets from one of them only."""

RESOLVERS = {"pretrained_config": "hydraudio.core.pretrained.pretrained_config"}
"""Interpolations that the project brings: dotted names, imported when one is first read."""

EXTRAS = {"hydra/sweeper/optuna": "hydraudio[sweep]", "hydra/sweeper/sampler": "hydraudio[sweep]"}
"""Options (or whole groups) that are there only after ``pip install`` of an extra."""

REQUIRED = ("task", "data", "model", "trainer", "paths", "extras")
"""Groups without which a primary configuration that has them cannot run; all others may be null."""

TASK_GROUP = "task"
"""Its files say what belongs together; they write into several groups and declare keys of their own."""

DELTA_GROUPS = ("experiment", "hparams_search", "debug", "local")
"""Files of these groups change the run as a whole: they need ``# @package _global_`` and declare no keys."""

STAGES = ("train", "val", "test")
"""What comes before the slash in the name of a metric."""
