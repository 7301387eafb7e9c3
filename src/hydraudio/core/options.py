"""Checks of options that several classes have; each raises ValueError with the option's name and what it may be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

Value = TypeVar("Value")


def check_choice(name: str, value: Value, choices: Iterable[Value]) -> Value:
    """Return the value, which must be one of the choices.

    Raises:
        ValueError: it is none of them; the message names one that is near.

    >>> check_choice("mode", "min", ("min", "max"))
    'min'
    """
    choices = tuple(choices)
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ValueError(f"{name}={value!r} is unknown{_guess(value, choices)}; choose one of {listed}")
    return value


def check_keys(where: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse keys of a mapping that are not known; the message names the nearest one that is."""
    for key in given:
        if key not in known:
            raise ValueError(f"{where}{key}: no such setting{_guess(key, known)}; there are {', '.join(known)}")


def check_positive(name: str, value: float | None) -> float | None:
    """Return the value, which must be a positive number or None.

    Raises:
        ValueError: it is zero, negative or NaN.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{name}={value} must be positive, or null")
    return value


def check_probability(name: str, value: float) -> float:
    """Return the value, or raise ValueError where it is no number in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must be a probability from 0 to 1")
    return value


def check_range(name: str, limits: Sequence[float] | None) -> tuple[float, float] | None:
    """Return (lowest, highest) in dB, or None; raise ValueError for limits that are infinite or in the wrong order."""
    if limits is None:
        return None
    if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] > limits[1]:
        raise ValueError(f"{name}={list(limits)} must be [lowest, highest] in dB, or null")
    return float(limits[0]), float(limits[1])


def check_sizes(**sizes: int) -> None:
    """Require whole numbers from 1, by their names.

    Raises:
        ValueError: one is less than 1, or no whole number.
    """
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value} must be at least 1 and a whole number")


def _guess(value: object, choices: Sequence[object]) -> str:
    """The choice of the same letters, else one that is near; empty where none is."""
    names = [choice for choice in choices if isinstance(choice, str) and isinstance(value, str)]
    same = [name for name in names if sorted(name.lower()) == sorted(str(value).lower())]
    nearest = same or difflib.get_close_matches(str(value), names, n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
