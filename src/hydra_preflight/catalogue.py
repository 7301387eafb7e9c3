"""Every configuration that a folder of YAML files offers: each primary file, and in it each option of each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode

from hydra_preflight.errors import ConfigError
from hydra_preflight.launch import check_sweep, compose_job, running_job
from hydra_preflight.resolvers import register_resolvers
from hydra_preflight.sources import DELTA_GROUPS
from hydra_preflight.targets import check_targets

SWEEP_GROUP = "hparams_search"
MAX_EXPERIMENT_LINES = 40


@dataclass(frozen=True)
class Case:
    """A primary configuration with at most one group set to another option.

    Attributes:
        within: the choice that brings the group, where the primary configuration has it only then.
    """

    primary: str
    group: str = ""
    option: str = ""
    within: str = ""

    def __str__(self) -> str:
        return " ".join([self.primary, *self.choices])

    @property
    def choices(self) -> list[str]:
        """As overrides."""
        return ([self.within] if self.within else []) + ([f"{self.group}={self.option}"] if self.group else [])


def cases(config_dir: Path) -> Iterator[Case]:
    """All cases; options that begin with an underscore are bases of others and checked through them."""
    for primary in sorted(path.name for path in config_dir.glob("*.yaml") if not path.name.startswith("_")):
        yield Case(primary)
        groups = _groups(config_dir, primary)
        for group, within in [*((group, "") for group in groups), *_nested_groups(config_dir, primary, groups)]:
            for option in _options(config_dir, group):
                yield Case(primary, group, option, within)


def unreachable(config_dir: Path, known: list[Case]) -> list[Path]:
    """YAML files in groups that no primary configuration has, whatever is chosen in it."""
    reached = {case.group.split("@")[0] for case in known}
    files = (path for path in sorted(config_dir.rglob("*.yaml")) if path.parent != config_dir)
    return [path for path in files if path.parent.relative_to(config_dir).as_posix() not in reached]


def check_case(config_dir: Path, case: Case, targets: bool = False) -> None:
    """Compose a case and check it as a run would; ``targets`` also imports what it names.

    Raises:
        ConfigError: something is wrong.
    """
    _check_length(config_dir, case)
    loader = _loader(config_dir, case.primary)
    overrides = case.choices + _required_values(config_dir / case.primary)
    if case.group == SWEEP_GROUP:
        check_sweep(loader, case.primary, [*overrides, "hydra.mode=MULTIRUN"])
        return
    cfg = compose_job(loader, case.primary, overrides)
    if targets:
        with running_job(cfg):
            check_targets(cfg, cfg.hydra, trusted_prefixes=cfg.extras.trusted_targets)


def _check_length(config_dir: Path, case: Case) -> None:
    path = config_dir / case.group / f"{case.option}.yaml"
    if case.group in DELTA_GROUPS and len(path.read_text(encoding="utf-8").splitlines()) > MAX_EXPERIMENT_LINES:
        raise ConfigError(
            f"{path}: more than {MAX_EXPERIMENT_LINES} lines: an experiment says only what it changes. "
            "Leave out what is the default, and use -m key=a,b for variants."
        )


def _options(config_dir: Path, group: str) -> list[str]:
    paths = sorted((config_dir / group.split("@")[0]).glob("*.yaml"))
    return [path.stem for path in paths if not path.name.startswith("_")]


def _nested_groups(config_dir: Path, primary: str, groups: list[str]) -> Iterator[tuple[str, str]]:
    """Groups that come with an option of another group only, each with the first choice that brings it."""
    for group in groups:
        folder = config_dir / group.split("@")[0]
        missing = {f"{group}/{path.name}" for path in folder.iterdir() if path.is_dir()} - set(groups)
        for option in _options(config_dir, group):
            if not missing:
                break
            choice = f"{group}={option}"
            found = sorted(missing.intersection(_groups(config_dir, primary, [choice])))
            yield from ((name, choice) for name in found)
            missing.difference_update(found)


def _groups(config_dir: Path, primary: str, overrides: Sequence[str] = ()) -> list[str]:
    """Groups of the folder that a primary configuration chooses from, also inside other groups."""
    cfg = _loader(config_dir, primary).load_configuration(primary, list(overrides), RunMode.RUN)
    names = [str(key) for key in cfg.hydra.runtime.choices]
    return [name for name in names if (config_dir / name.split("@")[0]).is_dir()]


def _loader(config_dir: Path, primary: str) -> ConfigLoaderImpl:
    register_resolvers(read_sources=False)
    setup_globals()
    JobRuntime.instance().set("name", Path(primary).stem)
    return ConfigLoaderImpl(create_config_search_path(str(config_dir)))


def _required_values(primary: Path) -> list[str]:
    """Stand-ins for the values that a user must give on the command line."""
    content = yaml.safe_load(primary.read_text(encoding="utf-8")) or {}
    return [f"{key}=given" for key, value in content.items() if value == "???"]
