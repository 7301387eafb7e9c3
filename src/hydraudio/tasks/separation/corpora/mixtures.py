"""What all corpora of mixtures have in common: what a batch says of its items, silence, sums of parts, talkers."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hydraudio.audio.packing import FULL_SCALE
from hydraudio.core.defects import Defect

SILENT_PEAK = 1.0 / FULL_SCALE
"""A signal that never leaves the last 16-bit step (dither) is silent."""

ROUNDING_TOLERANCE = 1.0 / 32768
"""Largest error of one file, one 16-bit step (a writer that truncates; rounding stays within half of it)."""


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks items, shorter ones padded with zeros at their end.

    Returns:
        mixture (batch, time) and target (batch, n_sources, time) float32, lengths (batch,) int64, padded (bool: the
        lengths differ), id and variant (lists), degenerate (batch,) bool, and metadata (a list of dicts) where the
        items have it.
    """
    lengths = [len(item["mixture"]) for item in items]
    mixture = torch.zeros(len(items), max(lengths))
    target = torch.zeros(len(items), len(items[0]["target"]), max(lengths))
    for number, (item, length) in enumerate(zip(items, lengths, strict=True)):
        mixture[number, :length] = torch.from_numpy(item["mixture"])
        target[number, :, :length] = torch.from_numpy(item["target"])
    return {
        "mixture": mixture,
        "target": target,
        "lengths": torch.tensor(lengths),
        "padded": min(lengths) < max(lengths),
        "degenerate": torch.tensor([item["degenerate"] for item in items]),
        **{name: [item[name] for item in items] for name in ("id", "variant", "metadata") if name in items[0]},
    }


def level_db(signal: np.ndarray, reference: np.ndarray) -> float | None:
    """Energy of (time,) over that of the reference, in dB; None where either is zero."""
    energies = [float(np.square(each, dtype=np.float64).sum()) for each in (signal, reference)]
    return 10.0 * math.log10(energies[0] / energies[1]) if all(energies) else None


def silence_message(where: str, component: str) -> str:
    """Return the words for a signal that must not be silent."""
    return f"{where}: {component} is silent throughout; remove the row or write the file again"


def is_silent(waveform: np.ndarray, scale: float = 1.0) -> bool:
    """Say whether (time,) never exceeds one 16-bit step after scaling."""
    return max(float(waveform.max()), -float(waveform.min())) * scale <= SILENT_PEAK


def list_files(folder: Path) -> set[str]:
    """Return the names of the plain files of a folder; empty if there is no such folder."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if not entry.name.startswith(".")}


def broken_samples(mixture: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, str]:
    """Where a mixture is not the sum of its parts up to rounding, and figures about it for a message.

    Args:
        mixture: (time,) float32 in [-1, 1].
        parts: of the same shape.

    Returns:
        (time,) bool and the figures, which mean nothing where no sample is broken.
    """
    residual = np.abs(mixture - functools.reduce(np.add, parts))
    tolerance = (len(parts) + 1) * ROUNDING_TOLERANCE
    broken = residual > tolerance
    return broken, f"{broken.sum()} samples, by up to {residual.max():.5f} (rounding explains {tolerance:.5f})"


def silence_defects(
    signals: Mapping[str, np.ndarray], path_of: Callable[[str], Path], must_sound: Collection[str]
) -> list[Defect]:
    """A defect per silent signal of a row.

    Args:
        signals: component -> (time,) in [-1, 1].
        path_of: component -> its file.
        must_sound: components; the silence of others is worth a warning.
    """
    return [
        Defect("silent", silence_message(str(path_of(name)), name), "error" if name in must_sound else "warning")
        for name, signal in signals.items()
        if is_silent(signal)
    ]


def duplicate_defects(groups: Iterable[Iterable[Path]]) -> list[Defect]:
    """A defect per group of mixtures whose samples are the same; equal names are found in the tables."""
    listed = [sorted({str(path) for path in group}) for group in groups]
    return [
        Defect("duplicate_row", f"{', '.join(paths)}: mixtures hold the same samples; keep one of these rows")
        for paths in listed
        if len(paths) > 1
    ]


def shared_talkers(folder: Path, heard: Mapping[str, set[str]], known_by: str = "") -> list[Defect]:
    """Return a defect per pair of subsets that talkers are heard in both of.

    Args:
        folder: the corpus, for the message.
        heard: subset -> its talkers.
        known_by: what tells who speaks, for the message.
    """
    defects = []
    for first, second in combinations(heard, 2):
        shared = sorted(heard[first] & heard[second])
        if shared:
            message = (
                f"{folder}: {len(shared)} talkers are in both {first} and {second} "
                f"({known_by}{', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}); split by talker"
            )
            defects.append(Defect("shared_talker", message, "warning"))
    return defects
