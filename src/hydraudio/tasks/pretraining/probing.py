"""All probes of all folds of a corpus, from one pass of the encoder, and the table of what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from hydraudio.report.tables import Cell, Row, TableData, TableRow, interval_cell, number
from hydraudio.stats.intervals import t_interval
from hydraudio.tasks.pretraining.encoding import EncoderTask
from hydraudio.tasks.pretraining.features import Features, What, corpus_features
from hydraudio.tasks.pretraining.probes import PROBES, Fold, nested_folds

if TYPE_CHECKING:
    from hydraudio.tasks.pretraining.corpora.base import ClipDataModule

RANDOM = "random_"
"""Before the name of features: those of the encoder with random weights."""


def probed_features(
    task: EncoderTask,
    untrained: EncoderTask,
    config: Mapping[str, Any],
    data: ClipDataModule,
    cache_dir: Path,
    what: str,
) -> Features:
    """Return features by the name that a user gives them: of the task, or of the one with random weights."""
    chosen = untrained if what.startswith(RANDOM) else task
    return corpus_features(chosen, config, data, cast(What, what.removeprefix(RANDOM)), cache_dir)


def probe_rows(features: Features, what: str, probes: Sequence[str], only: Sequence[str] = ()) -> list[Row]:
    """Train probes on features, fold by fold.

    Args:
        features: of a corpus; without folds, its splits are the only one.
        what: name of the features.
        probes: names of `PROBES`.
        only: folds to test; empty = all.

    Returns:
        A row per probe and fold: ``features``, ``probe``, ``fold``, ``accuracy``, ``n`` (tested clips), ``chosen``.
    """
    n_classes = int(features.labels.max()) + 1
    rows: list[Row] = []
    for fold in folds_of(features, only):
        for name in probes:
            outcome = PROBES[name](features.values, features.labels, fold, n_classes)
            hits = outcome.probabilities.argmax(1) == features.labels[fold.test]
            found = {"fold": fold.name, "accuracy": float(hits.float().mean()), "n": len(hits)}
            rows.append({"features": what, "probe": name, **found, "chosen": outcome.chosen})
    return rows


def folds_of(features: Features, only: Sequence[str] = ()) -> list[Fold]:
    """Return the nested folds of the corpus, or its splits as one fold where it has none.

    Raises:
        ValueError: a split is empty, or `only` names a fold that there is not.
    """
    if features.folds:
        return list(nested_folds(features.parts, features.folds, only))
    splits = [torch.from_numpy(np.flatnonzero(features.splits == split)) for split in ("train", "val", "test")]
    if only or not all(map(len, splits)):
        counts = ", ".join(f"{name}: {len(part)}" for name, part in zip(("train", "val", "test"), splits, strict=True))
        raise ValueError(f"the corpus has no folds, but splits ({counts}); all must hold clips, and --folds has no use")
    return [Fold("test", *splits)]


def probe_table(rows: Sequence[Row]) -> TableData:
    """Return a line per kind of features and probe: mean with interval, deviation, every fold."""
    folds = list(dict.fromkeys(str(row["fold"]) for row in rows))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        by_fold = found.setdefault((str(row["features"]), str(row["probe"])), {})
        by_fold[str(row["fold"])] = float(cast(float, row["accuracy"]))
    lines = []
    for (what, probe), by_fold in found.items():
        values = list(by_fold.values())
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        cells = (interval_cell(t_interval(values), 3), Cell(number(deviation, 3)))
        lines.append(TableRow((Cell(what, probe), *cells, *(Cell(number(by_fold[fold], 3)) for fold in folds))))
    return TableData(("", "Mean, 95 % interval", "Deviation", *(f"Fold {fold}" for fold in folds)), tuple(lines))
