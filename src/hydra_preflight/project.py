"""What the check knows of the house and of the project that it serves: names and places, and nothing is imported.

A project is a folder with a pyproject.toml and a folder ``configs``: a checkout of the house, or a project of one's
own, which finds the house's configuration files behind its own.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

import rootutils

from hydra_preflight.errors import ConfigError

HOUSE_CONFIGS = "pkg://hydraudio.configs"
"""The house's configuration files, installed or in a checkout."""

FOLDERS = ("HYDRAUDIO_DATA_DIR", "HYDRAUDIO_LOG_DIR")
"""Environment variables that name folders of runs and data (configs/paths)."""

_HOME = re.compile(r"""(?<=[=,[])(['"]?)~(?=/)""")

TRAIN = "train.yaml"
"""The primary file of trainings."""

MAIN = "main.yaml"
"""The primary file of a project of one's own, in place of train.yaml."""

PACKAGE_DIR = Path(__file__).resolve().parents[1] / "hydraudio"
OWN_PACKAGES = (PACKAGE_DIR.name, "hydra_preflight", "hydra_plugins")
"""Packages whose ``raise ValueError(...)`` speaks to the user; so does that of packages in the project's folder."""

READ_FROM_SOURCE = ("lightning.pytorch.Trainer", "torch.optim")
"""Targets of others whose arguments are read from source, too, because to import them takes seconds."""

FLOORS = "hydraudio.tasks"
"""Below it stands one package per task; a configuration takes its targets from one of them only."""

RESOLVERS = {"pretrained_config": "hydraudio.core.pretrained.pretrained_config"}
"""Interpolations that the project brings: dotted names, imported when one is first read."""

TASK = "hydraudio.core.task.Task"
REPORT = "hydraudio.report.callback.Report"
PREDICTOR = "hydraudio.audio.files.FilePredictor"
"""Bases of what a configuration may name as model, report and predictor."""

SCHEDULES = ("hydraudio.nn.schedules.warmup_cosine",)
"""The functions of the project that a configuration may name; all else are classes."""

EXTRAS = {"hydra/sweeper/optuna": "hydraudio[sweep]", "hydra/sweeper/sampler": "hydraudio[sweep]"}
"""Options (or whole groups) that are there only after ``pip install`` of an extra."""

REPORT_METRICS = "report.metrics"
"""Key of the metrics that a report computes: full, fast (without those that need a package) or a list of names."""

METRICS_EXTRA = "hydraudio[metrics]"
"""What brings the packages that metrics need."""

INPUT_KEYS = {
    "data.root": "give the folder of the corpus, or null for the embedded one",
    "data.label_file": "give the file, or null",
    "data.labels_dir": "give the folder, or null",
    "data.audio_dir": "give the folder, or null",
    "input": "give an audio file or a folder",
}
"""Keys that name what must exist before a run begins, and the remedy."""

INPUT_FOLDERS = ("data.root", "data.labels_dir", "data.audio_dir")
"""Those of them that name folders only."""

CHECKPOINT_KEYS = ("ckpt_path", "init_from")
"""Keys that name checkpoint files."""

REQUIRED = ("task", "data", "model", "trainer", "paths", "extras")
"""Groups without which a primary configuration that has them cannot run; all others may be null."""

TASK_GROUP = "task"
"""Its files say what belongs together; they write into several groups and declare keys of their own."""

QUICK = "task.quick"
"""Key of the experiment that a command without arguments runs."""

DELTA_GROUPS = ("experiment", "hparams_search", "debug", "local")
"""Files of these groups change the run as a whole: they need ``# @package _global_`` and declare no keys."""

STAGES = ("train", "val", "test")
"""What comes before the slash in the name of a metric."""


def find_project() -> Path:
    """The nearest project at or above the working directory, or else the folder that ``PROJECT_ROOT`` names.

    Raises:
        ConfigError: there is none.
    """
    named = os.environ.get("PROJECT_ROOT")
    folder = Path.cwd()
    for candidate in [folder, *folder.parents, *([Path(named).resolve()] if named else [])]:
        if (candidate / "pyproject.toml").is_file() and (candidate / "configs").is_dir():
            return candidate
    raise ConfigError(
        f"{folder}: neither this folder nor one above it is a project, with a pyproject.toml and a folder configs. "
        "Go to yours, name it in the environment variable PROJECT_ROOT, or begin one: "
        "python -m hydraudio.new_project NAME"
    )


def with_home(override: str) -> str:
    """Expand ~ at the beginning of values on the command line, where a shell leaves it.

    >>> with_home("data.root=~/corpus") == f"data.root={os.path.expanduser('~')}/corpus", with_home("~data.root=x")
    (True, '~data.root=x')
    """
    return _HOME.sub(lambda match: match[1] + os.path.expanduser("~"), override)


def with_seed(override: str) -> str:
    """Draw a seed where ``seed=null`` asks for one; the run's configuration keeps it, so that it can be repeated."""
    return f"seed={drawn_seed()}" if override == "seed=null" else override


def drawn_seed() -> int:
    """Draw a seed for a run that gives none."""
    return secrets.randbelow(2**32)


def enter_project(project: Path) -> None:
    """Set ``PROJECT_ROOT``, read the project's ``.env``, and let its packages be imported without installing them."""
    rootutils.set_root(project)
    for name in FOLDERS:
        if os.environ.get(name, "").startswith("~"):  # no shell has expanded what .env says
            os.environ[name] = os.path.expanduser(os.environ[name])
    if str(project) not in sys.path:
        sys.path.append(str(project))


def primary_file(project: Path, name: str) -> tuple[str, bool]:
    """The file with which a composition begins, and whether it is the project's own or lies in the house.

    Args:
        project: its folder.
        name: train.yaml, eval.yaml or predict.yaml; in place of the first, a project may have ``main.yaml``.
    """
    configs = project / "configs"
    chosen = MAIN if name == TRAIN and (configs / MAIN).is_file() else name
    return chosen, (configs / chosen).is_file()
