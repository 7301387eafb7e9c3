"""Checks of options that several classes have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Value = TypeVar("Value")


def check_choice(name: str, value: Value, choices: Iterable[Value]) -> Value:
    """Return the value, which must be one of the choices.

    Raises:
        ValueError: it is none of them.

    >>> check_choice("mode", "min", ("min", "max"))
    'min'
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, choices))}")
    return value


def check_positive(name: str, value: float | None) -> float | None:
    """Return the value, which must be a positive number or None.

    Raises:
        ValueError: it is zero, negative or NaN.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{name}={value} must be positive, or null")
    return value


def check_sizes(**sizes: int) -> None:
    """Require whole numbers from 1, by their names.

    Raises:
        ValueError: one is less than 1.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
