"""Recordings that a corpus is built from: listing folders and splitting them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hydraudio.audio.files import audio_files
from hydraudio.audio.io import SUFFIXES, read_info
from hydraudio.core.files import read_csv
from hydraudio.tasks.separation.corpora.polsess.layout import SUBSETS

Fractions = Mapping[str, float]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Recording:
    """A file: its path, its name in the table (`<folder>/<path within the folder>`), and its length."""

    path: str
    name: str
    n_samples: int
    sample_rate: int

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate


# --- listing ---


def list_recordings(folder: Path, base: Path) -> list[Recording]:
    """Return all audio files below a folder in sorted order, headers read.

    Raises:
        ValueError: a file that cannot be read, or none at all.
    """
    paths, failed = audio_files(folder)
    for path, reason in failed.items():
        raise ValueError(f"{path}: {reason}")
    if not paths:
        raise ValueError(f"{folder}: no audio files ({', '.join(SUFFIXES)}); add some or remove the folder")
    return [_recording(path, base) for path in paths]


def _recording(path: Path, base: Path) -> Recording:
    name = (Path(base.name) / path.relative_to(base)).as_posix()
    return Recording(str(path), name, *read_info(path))


def list_classes(folder: Path, base: Path) -> dict[str, list[Recording]]:
    """{name of a subfolder: its recordings}, for talkers, scene classes and event classes."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; check the path")
    classes = {
        entry.name: entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")
    }
    if not classes:
        raise ValueError(f"{folder}: has no subfolders; it needs one folder per talker or class")
    return {name: list_recordings(entry, base) for name, entry in classes.items()}


# --- splitting ---


def split_items(items: Sequence[Item], fractions: Fractions, rng: np.random.Generator) -> dict[str, list[Item]]:
    """Split a list at random; every wanted subset gets one item as far as there are enough (train first)."""
    order = [items[index] for index in rng.permutation(len(items))]
    wanted = [subset for subset in SUBSETS if fractions.get(subset, 0.0) > 0.0]
    counts = dict.fromkeys(wanted[: len(order)], 1)
    for _ in range(len(order) - len(counts)):
        # the subset that is furthest below its share gets the next item
        needy = max(counts, key=lambda subset: fractions[subset] * len(order) - counts[subset])
        counts[needy] += 1
    stops = np.cumsum([0, *counts.values()])
    parts = {subset: order[start:stop] for subset, start, stop in zip(counts, stops[:-1], stops[1:], strict=True)}
    return {subset: parts.get(subset, []) for subset in SUBSETS}


def split_talkers(
    talkers: Sequence[str], fractions: Fractions, prefixes: Sequence[str], rng: np.random.Generator
) -> dict[str, list[str]]:
    """Disjoint talkers by fraction. Talkers that share a prefix (and maybe a person) stay in one subset."""
    groups: dict[str, list[str]] = {}
    for talker in sorted(talkers):
        groups.setdefault(voice_of(talker, prefixes), []).append(talker)
    shuffled = [list(groups.values())[index] for index in rng.permutation(len(groups))]
    split: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    wanted = [subset for subset in SUBSETS if fractions.get(subset, 0.0) > 0.0]
    for group in sorted(shuffled, key=len, reverse=True):
        needy = max(wanted, key=lambda subset: fractions[subset] * len(talkers) - len(split[subset]))
        split[needy] += group
    return split


def voice_of(talker: str, prefixes: Sequence[str]) -> str:
    """Return the prefix that a name starts with, else the name: it must differ between the talkers of a row."""
    return next((f"{prefix}*" for prefix in prefixes if talker.startswith(prefix)), talker)


def read_split_file(path: Path, talkers: Sequence[str]) -> dict[str, list[str]]:
    """Talkers per subset from a CSV with the columns `name`, `split` and maybe `kind` (only speech counts)."""
    rows = [row for row in read_csv(path, ("name", "split")) if row.get("kind", "speech") == "speech"]
    split: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    for row in rows:
        if row["split"] not in split:
            raise ValueError(f"{path}: talker {row['name']} has split '{row['split']}'; use train, val or test")
        split[row["split"]].append(row["name"])
    check_talkers(split, talkers, str(path))
    return split


def check_talkers(split: Mapping[str, Sequence[str]], talkers: Sequence[str], source: str) -> None:
    """Refuse talkers without a folder and talkers in two subsets."""
    named = [talker for subset in SUBSETS for talker in split.get(subset, ())]
    unknown = sorted(set(named) - set(talkers))
    if unknown:
        raise ValueError(f"{source}: no speech folder for the talkers {', '.join(unknown)}; check the names")
    doubled = sorted({talker for talker in named if named.count(talker) > 1})
    if doubled:
        raise ValueError(f"{source}: the talkers {', '.join(doubled)} are named twice; name each in one subset")


def read_matches(path: Path) -> dict[str, frozenset[str]]:
    """{scene class: event classes that may occur in it} from a CSV matrix.

    The first column holds scene classes, the other columns are event classes with 0 or 1.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such match file; check the path")
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2 or len(lines[0]) < 2:
        raise ValueError(f"{path}: needs a header with event classes and one line per scene class")
    matches = {}
    for line in lines[1:]:
        if len(line) != len(lines[0]) or not set(line[1:]) <= {"0", "1"}:
            raise ValueError(f"{path}: line of scene class '{line[0]}' must hold {len(lines[0]) - 1} times 0 or 1")
        matches[line[0]] = frozenset(name for name, cell in zip(lines[0][1:], line[1:], strict=True) if cell == "1")
    return matches


def parse_assignments(words: Sequence[str], what: str) -> dict[str, str]:
    """Return `train=... val=...` -> {subset: text}."""
    parsed = {}
    for word in words:
        match = re.fullmatch(r"(train|val|test)=(.+)", word)
        if match is None or match[1] in parsed:
            raise ValueError(f"{what}: '{word}' is not of the form train=..., val=... or test=..., each once")
        parsed[match[1]] = match[2]
    return parsed
