"""Slices of a test: the items that share a property, with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydraudio.stats.intervals import Interval


@dataclass(frozen=True)
class Slice:
    """Scores of the items that share a property, such as `indoor = yes`; `suppressed` says why there are none."""

    name: str
    value: str
    n_items: int
    scores: Mapping[str, Interval]
    suppressed: str = ""


def by_property(found: Sequence[Slice]) -> dict[str, list[Slice]]:
    """The slices of each property, in the order in which they come."""
    groups: dict[str, list[Slice]] = {}
    for item in found:
        groups.setdefault(item.name, []).append(item)
    return groups
