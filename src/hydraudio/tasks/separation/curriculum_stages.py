"""The stages of a curriculum, as a configuration states them."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

_PLATEAU_KEYS = ("patience", "min_delta", "mode")


@dataclass(frozen=True)
class Stage:
    """When a stage begins and what it sets; exactly one of `first_epoch` and `after_plateau_of` is given.

    Attributes:
        first_epoch: epoch at whose start it begins, counted from 0 like ``trainer.current_epoch``.
        after_plateau_of: metric of the validation; the stage begins with the epoch after the metric has failed, in
            `patience` validations in a row since the stage before began, to exceed its best of that stage.
        patience: see above.
        min_delta: by how much a value must be better than the best to count as better.
        mode: "max" where higher is better, "min" where lower is.
        variants: of the training items; None for all that the data allows.
        lr: learning rate of all parameter groups, set when the stage begins; None leaves it.
        scheduler: whether the learning-rate scheduler is stepped; None leaves that as it is (at first, it is).
    """

    first_epoch: int | None = None
    after_plateau_of: str | None = None
    patience: int = 3
    min_delta: float = 0.0
    mode: str = "max"
    variants: tuple[str, ...] | None = None
    lr: float | None = None
    scheduler: bool | None = None

    @property
    def beginning(self) -> str:
        """When it begins, in words."""
        if self.first_epoch is not None:
            return f"first_epoch={self.first_epoch}"
        return f"after_plateau_of={self.after_plateau_of}"

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value of the metric improves on the best so far; NaN never does."""
        if best is None or math.isnan(value):
            return not math.isnan(value)
        return value > best + self.min_delta if self.mode == "max" else value < best - self.min_delta

    def contents(self) -> dict[str, Any]:
        """The attributes in types that any checkpoint can hold."""
        return {**asdict(self), "variants": None if self.variants is None else list(self.variants)}


def parse_stages(stages: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """Stages from a list of mappings with the attributes of `Stage`.

    Raises:
        ValueError: with the number of the stage (from 0), what is wrong and what to write instead.
    """
    if isinstance(stages, str | Mapping) or not isinstance(stages, Sequence) or not stages:
        raise ValueError(f"stages={stages!r} must be a list with at least one stage, e.g. [{{first_epoch: 0}}]")
    parsed = [_parse_stage(number, options) for number, options in enumerate(stages)]
    if parsed[0].first_epoch != 0:
        raise ValueError(f"stages[0]: {parsed[0].beginning}, but the first stage must have first_epoch=0")
    epochs = [(number, stage.first_epoch) for number, stage in enumerate(parsed) if stage.first_epoch is not None]
    for (_, earlier), (number, later) in itertools.pairwise(epochs):
        if later <= earlier:
            raise ValueError(
                f"stages[{number}]: first_epoch={later} must be later than the {earlier} of the stage before; "
                "list the stages in the order of their epochs"
            )
    return parsed


def _parse_stage(number: int, options: Mapping[str, Any]) -> Stage:
    where = f"stages[{number}]"
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}: {options!r} must be a mapping, e.g. {{first_epoch: 0, variants: [C, R]}}")
    names = [field.name for field in fields(Stage)]
    for name in options:
        if name not in names:
            guess = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
            raise ValueError(f"{where}: no such setting as {name!r}; did you mean {guess}? Valid: {', '.join(names)}")
    given = {name: value for name, value in options.items() if value is not None}
    if ("first_epoch" in given) == ("after_plateau_of" in given):
        raise ValueError(f"{where}: give either first_epoch or after_plateau_of (and not both)")
    useless = [name for name in _PLATEAU_KEYS if name in given and "first_epoch" in given]
    if useless:
        raise ValueError(f"{where}: {', '.join(useless)} has no effect with first_epoch; remove it")
    if "variants" in given:
        given["variants"] = _variants(given["variants"])
    if "scheduler" in given:
        given["scheduler"] = _switch(where, given["scheduler"])
    _check_numbers(where, given)
    return Stage(**given)


def _variants(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)


def _switch(where: str, value: object) -> bool:
    """YAML reads on and off as booleans, a command line as words."""
    switches = {"on": True, "off": False, True: True, False: False}
    if not isinstance(value, bool | str) or value not in switches:
        raise ValueError(f"{where}: scheduler={value!r} must be on, off or null (unchanged)")
    return switches[value]


def _check_numbers(where: str, given: Mapping[str, Any]) -> None:
    checks = {
        "first_epoch": (lambda value: isinstance(value, int) and value >= 0, "an epoch, counted from 0"),
        "patience": (lambda value: isinstance(value, int) and value >= 1, "a number of validations, at least 1"),
        "min_delta": (lambda value: value >= 0, "not negative"),
        "mode": (lambda value: value in ("max", "min"), "max or min"),
        "lr": (lambda value: 0 < value < math.inf, "a positive learning rate, or null to leave it"),
    }
    for name, (is_right, what) in checks.items():
        if name in given and not is_right(given[name]):
            raise ValueError(f"{where}: {name}={given[name]!r} must be {what}")
