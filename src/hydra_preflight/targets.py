"""The second part of the check: every target is imported and its arguments are bound, before any data is touched."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from hydra_preflight.errors import ConfigError
from hydra_preflight.kinds import misplaced, wrong_kind
from hydra_preflight.loading import read_sources
from hydra_preflight.own_source import PackageSource, own_package
from hydra_preflight.problems import Problem, join, raise_problems
from hydra_preflight.signatures import Report, check_arguments, check_special_keys, signature_of
from hydra_preflight.sources import Sources
from hydra_preflight.tree import is_text_only, to_tree, walk_targets
from hydra_preflight.whitelist import clean_prefixes, is_trusted, locate, refusal


def check_targets(
    cfg: DictConfig,
    hydra_cfg: Any = None,
    *,
    trusted_prefixes: Iterable[str] | None = (),
    origin: str = "configuration",
    package: PackageSource | None = None,
) -> None:
    """Import every ``_target_`` of ``cfg``, also inside ``_partial_``, and bind its arguments against its signature.

    Nothing is imported unless every name in ``cfg`` is allowed.

    Args:
        cfg: composed configuration, or the one inside a checkpoint.
        hydra_cfg: its ``hydra`` node (DictConfig), from which the files are known; None for that inside a checkpoint.
        trusted_prefixes: packages whose classes may be instantiated, from the configuration that the user runs
            (never from a checkpoint).
        origin: what to call the configuration in messages if there is no ``hydra_cfg``.
        package: source of our own package.

    Raises:
        ConfigError: with one line per mistake.
    """
    check = TargetCheck(cfg, hydra_cfg, clean_prefixes(trusted_prefixes or ()), origin, package or own_package())
    raise_problems(check.refused())
    raise_problems(check.bound())


def check_name(
    key: str, node: dict[str, Any], trusted: tuple[str, ...], package: PackageSource, report: Report
) -> None:
    """Report a target that may not be instantiated, and what our own takes but is not given or the other way round."""
    target = node["_target_"]
    check_special_keys(key, node, report)
    is_own = isinstance(target, str) and package.owns(target)
    reason = (None if is_own else refusal(target, trusted)) or misplaced(key)
    if reason:
        report(join(key, "_target_"), reason)
    if reason or not package.has(target):
        return
    try:
        signature = package.signature(target)
    except ConfigError as error:
        report(join(key, "_target_"), str(error))
        return
    check_arguments(key, node, signature, report)


class TargetCheck:
    """The targets of one configuration: first their names, then their arguments."""

    def __init__(
        self,
        cfg: DictConfig,
        hydra_cfg: Any,
        trusted: tuple[str, ...],
        origin: str,
        package: PackageSource,
    ) -> None:
        tree, written, failures = to_tree(cfg)
        self.failures = [failure for failure in failures if not is_text_only(written, failure[0])]
        self.targets = list(walk_targets(tree))
        self.hydra_cfg = hydra_cfg
        self.trusted = trusted
        self.default_origin = origin
        self.package = package
        self.problems: list[Problem] = []
        self._sources: Sources | None = None

    def refused(self) -> list[Problem]:
        """Names that may not be instantiated; our own are looked up in the source."""
        self.problems = []
        for key, error in self.failures:
            self._report(key, f"the interpolation failed: {str(error).splitlines()[0]}")
        for key, node in self.targets:
            check_name(key, node, self.trusted, self.package, self._report)
        return self.problems

    def bound(self) -> list[Problem]:
        """Arguments that the imported classes and functions do not take."""
        self.problems = []
        for key, node in self.targets:
            target = node["_target_"]
            try:
                obj = self._import(target)
            except ConfigError as error:
                self._report(join(key, "_target_"), str(error))
                continue
            reason = wrong_kind(key, node, obj, is_trusted(target, self.trusted))
            if reason:
                self._report(join(key, "_target_"), reason)
                continue
            check_arguments(key, node, signature_of(target, obj), self._report)
        return self.problems

    def _import(self, target: str) -> Any:
        if not self.package.owns(target):
            return locate(target, self.trusted)
        module, _, name = target.rpartition(".")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{target} needs the package {error.name}, which is not installed.") from error

    def _report(self, key: str, text: str) -> None:
        self.problems.append(Problem(self._origin(key), key, text))

    def _origin(self, key: str) -> str:
        if self.hydra_cfg is None:
            return self.default_origin
        if self._sources is None:
            self._sources = read_sources(self.hydra_cfg)
        return self._sources.origin(key)
