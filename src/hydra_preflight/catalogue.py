"""Every configuration that a folder of YAML files offers, composed and checked as before a run.

Each primary file, in it each option of each group with the task that it belongs to, each option of a group that only
some option brings, each experiment with each debug option, and each job of a search. What no case reached is reported.
Of a project of one's own these are its own files; those of the house, which lie behind them, are only composed with.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import create_config_search_path

from hydra_preflight.compose import check_sweep, compose_job, open_loader, running_job
from hydra_preflight.errors import ConfigError
from hydra_preflight.loading import Loader
from hydra_preflight.project import TASK_GROUP
from hydra_preflight.resolvers import register_resolvers
from hydra_preflight.sources import Sources
from hydra_preflight.targets import check_targets

SWEEP_GROUP = "hparams_search"
PAIRS = ("experiment", "debug")
"""Two groups whose options are all composed with each other, too."""

MAX_EXPERIMENT_LINES = 40


@dataclass(frozen=True)
class Case:
    """A primary configuration with some choices."""

    primary: str
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.primary, *self.choices])

    @property
    def is_sweep(self) -> bool:
        return any(choice.startswith(f"{SWEEP_GROUP}=") for choice in self.choices)


@dataclass
class Result:
    """What checking a case has shown.

    Attributes:
        groups: that were chosen from.
        files: that were composed, by their names in Hydra.
        n_jobs: configurations; more than one for a search.
        seconds: of processor time.
        failure: what is wrong.
    """

    groups: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    n_jobs: int = 0
    seconds: float = 0.0
    failure: str | None = None

    def add(self, sources: Sources) -> None:
        self.groups |= sources.groups
        self.files |= {file.config_path for file in sources.files}
        self.n_jobs += 1


class Catalogue:
    """The cases of a folder: ``first_cases``, and then ``further_cases`` of groups that their results show."""

    def __init__(self, config_dir: Path, targets: bool = False) -> None:
        self.config_dir = config_dir
        self.targets = targets
        register_resolvers(read_sources=False)
        self.loader: Loader = open_loader(create_config_search_path(str(config_dir)), "check")
        self.primaries = sorted(path.name for path in config_dir.glob("*.yaml") if not path.name.startswith("_"))
        for primary in self.primaries:
            self.loader.open_folders(primary)
        self.folders = [Path(source.path) for source in self.loader.get_sources() if source.scheme() == "file"]
        self.tasks = sorted({path.stem for folder in self.folders for path in (folder / TASK_GROUP).glob("*.yaml")})
        paths = (path for folder in self.folders for path in sorted(folder.rglob("*.yaml")) if path.is_file())
        self.contents = {path: _content(path) for path in paths}
        self.inner = self._inner_groups()

    def first_cases(self) -> Iterator[Case]:
        """Every primary file, every option of its groups, and the pairs."""
        for primary in self.primaries:
            yield Case(primary)
            groups = [group for group in self._groups(primary) if (self.config_dir / group).is_dir()]
            for group in groups:
                yield from (self._case(primary, group, option) for option in self.options(group))
            if set(PAIRS) <= set(groups):
                first, second = PAIRS
                for option in self.options(first):
                    yield from (Case(primary, (f"{first}={option}", f"{second}={o}")) for o in self.options(second))

    def further_cases(self, results: dict[Case, Result]) -> Iterator[Case]:
        """Options of groups that some case brought and none has chosen from, each within the first such case."""
        known = {(case.primary, choice.partition("=")[0]) for case in results for choice in case.choices}
        for case, result in results.items():
            for group in sorted(result.groups):
                if (case.primary, group) not in known and (self.config_dir / group).is_dir():
                    known.add((case.primary, group))
                    for option in self.options(group):
                        yield Case(case.primary, (*case.choices, f"{group}={option}"))

    def options(self, group: str) -> list[str]:
        """Options of a group, also in folders below it; those with an underscore are bases of others."""
        folder = self.config_dir / group
        paths = [path for path in sorted(folder.rglob("*.yaml")) if not path.name.startswith("_")]
        return [path.relative_to(folder).with_suffix("").as_posix() for path in paths if self._is_of(path, group)]

    def check(self, case: Case) -> Result:
        """Compose a case and check it as a run would."""
        result, start = Result(), time.process_time()
        try:
            self._check(case, result)
        except ConfigError as error:
            result.failure = str(error)
            result.files |= {choice.replace("=", "/", 1) for choice in case.choices}
        result.seconds = time.process_time() - start
        return result

    def unreached(self, results: Iterable[Result]) -> list[Path]:
        """Files that no case has composed: nothing can choose them, and no other file inherits from them.

        Bases of a whole group are there for the next task, too.
        """
        reached = set().union(*(result.files for result in results))
        files = {path.relative_to(self.config_dir).with_suffix("").as_posix(): path for path in self._files()}
        return [path for name, path in files.items() if not {name, f"{name}.yaml"} & reached]

    def _check(self, case: Case, result: Result) -> None:
        for choice in case.choices[:1]:
            self._check_length(*choice.split("="))
        overrides = [*case.choices, *self._required_values(case.primary)]
        if case.is_sweep:
            for _, sources in check_sweep(self.loader, case.primary, [*overrides, "hydra.mode=MULTIRUN"]):
                result.add(sources)
            return
        cfg, sources = compose_job(self.loader, case.primary, overrides)
        result.add(sources)
        if self.targets:
            with running_job(cfg):
                check_targets(cfg, cfg.hydra, trusted_prefixes=cfg.extras.trusted_targets)

    def _check_length(self, group: str, option: str) -> None:
        path = self.config_dir / group / f"{option}.yaml"
        if group == PAIRS[0] and len(path.read_text(encoding="utf-8").splitlines()) > MAX_EXPERIMENT_LINES:
            raise ConfigError(
                f"{path}: more than {MAX_EXPERIMENT_LINES} lines: an experiment says only what it changes. "
                "Leave out what is the default, and use -m key=a,b for several values."
            )

    def _case(self, primary: str, group: str, option: str) -> Case:
        """An option with the task whose folder it lies in; experiments choose their task themselves."""
        place = f"{group}/{option}".split("/")
        task = next((part for part in place[1:-1] if part in self.tasks), None)
        needs_task = task and group != PAIRS[0] and TASK_GROUP in self._groups(primary)
        return Case(primary, (*([f"{TASK_GROUP}={task}"] if needs_task else []), f"{group}={option}"))

    def _groups(self, primary: str) -> list[str]:
        self.loader.open_folders(primary)
        return self.loader.groups_of(primary)

    def _files(self) -> list[Path]:
        own = [path for path in self.contents if path.is_relative_to(self.config_dir)]
        paths = [path for path in own if path.parent != self.config_dir]
        return [path for path in paths if not (path.name.startswith("_") and path.parent.parent == self.config_dir)]

    def _is_of(self, path: Path, group: str) -> bool:
        """Whether the innermost group above a file is this one."""
        parents = [parent.as_posix() for parent in path.relative_to(self.config_dir).parents]
        return next((name for name in parents if name in self.inner or name == group), None) == group

    def _inner_groups(self) -> set[str]:
        """Folders of which some defaults list chooses or overrides an option."""
        defaults = [entry for content in self.contents.values() for entry in content.get("defaults") or []]
        names = [str(key) for entry in defaults if isinstance(entry, dict) for key in entry]
        keys = {name.split()[-1].split("@")[0].strip("/") for name in names}
        folders = {path.parent.relative_to(top).as_posix() for top in self.folders for path in top.rglob("*.yaml")}
        return {folder for folder in folders if any(folder == key or folder.endswith(f"/{key}") for key in keys)}

    def _required_values(self, primary: str) -> list[str]:
        """Stand-ins for the values that a user must give on the command line."""
        return [f"{key}=given" for key, value in self.contents[self.config_dir / primary].items() if value == "???"]


def _content(path: Path) -> dict[str, Any]:
    """The keys of a file; none where it is not a mapping, which the composition reports."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}
