"""What is wrong, where, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from hydra_preflight.errors import ConfigError

MAX_LISTED = 40
_WORDS = re.compile(r"[_./-]")


@dataclass(frozen=True)
class Problem:
    """One mistake.

    ``origin`` is a file with line or the command line, ``key`` the full key, ``text`` what is wrong and the remedy.
    """

    origin: str
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.key}: {self.text}"


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that resembles ``name`` most, or None if none does.

    The shortest that has all its words comes first, then the one that is spelled most alike; a folder that all share
    does not count.

    >>> nearest("epochs", ["paths", "max_epochs"]), nearest("val/nope", ["val/f1", "val/loss"])
    ('max_epochs', None)
    """
    names = sorted(candidates)
    words = set(_WORDS.split(name))
    having = [candidate for candidate in names if words <= set(_WORDS.split(candidate))]
    if having:
        return min(having, key=len)
    folder, slash, leaf = name.rpartition("/")
    shared = folder + slash if all(candidate.startswith(folder + slash) for candidate in names) else ""
    leaves = {candidate.removeprefix(shared): candidate for candidate in names}
    matches = get_close_matches(leaf if shared else name, leaves, n=1, cutoff=0.6)
    return leaves[matches[0]] if matches else None


def suggest(name: str, candidates: Iterable[str], prefix: str = "") -> str:
    """Sentence that names the nearest valid key, or all valid keys if none is near; empty without candidates."""
    names = sorted(set(candidates))
    match = nearest(name, names)
    if match:
        return f" Nearest valid key: {join(prefix, match)}."
    if not names:
        return ""
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return f" Valid keys: {listed}."


def join(*parts: str) -> str:
    """Join the non-empty parts of a key with dots."""
    return ".".join(part for part in parts if part)


def raise_problems(problems: list[Problem]) -> None:
    """Raise one ConfigError that lists every problem once; return if there is none."""
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    if lines:
        raise ConfigError("\n".join(lines))
