"""Everything a test of classes says about its items, as arrays: gathered, saved, read again, listed as rows."""

from __future__ import annotations

import dataclasses
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hydraudio.core.files import whole_file
from hydraudio.metrics.classification import NO_LABEL, brier_per_item, nll_per_item, top_k_hits
from hydraudio.report.tables import Row
from hydraudio.stats.clustered import ScoreSums, score_sums

DURATION_EDGES_S = (3.0, 5.0, 8.0, 11.0)

Property = tuple[str, NDArray[np.str_], Sequence[str]]
"""Name of a property, its value for every item ("" = unknown) and the order of its values."""


@dataclass(frozen=True, kw_only=True)
class PredictionTable:
    """Items of a test, n of them. A floor adds what it knows of them: more fields, clusters, properties.

    class_names: what the model predicts; empty where it has no classes.
    ids, split, path: (n,) text; path "" is not known. duration_s: (n,), NaN if unknown.
    labels: (n,) true class, -1 = none. probabilities, logits: (n, n_classes).
    """

    lists: ClassVar[tuple[str, ...]] = ("class_names",)
    """The fields that are lists of names; all others are arrays of the items."""

    class_names: tuple[str, ...]
    ids: NDArray[np.str_]
    split: NDArray[np.str_]
    path: NDArray[np.str_]
    duration_s: NDArray[np.float64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n,) items whose class can be scored."""
        if not self.class_names:
            return np.zeros(len(self), dtype=np.bool_)
        return self.labels != NO_LABEL

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) items of which anything can be scored."""
        return self.labelled

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(n,) items whose outputs are numbers."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1), dtype=np.bool_)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) most probable class; -1 without classes."""
        if not self.class_names:
            return np.full(len(self), NO_LABEL)
        return self.probabilities.argmax(axis=1)

    @property
    def nll(self) -> NDArray[np.float64]:
        """(n,) negative log-likelihood of the label in nats, NaN without label."""
        values, known = np.full(len(self), np.nan), self.labelled
        values[known] = nll_per_item(self.probabilities[known], self.labels[known])
        return values

    @property
    def asked(self) -> str:
        """What the model had to say about every item."""
        return f"{len(self.class_names)} classes" if self.class_names else ""

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(n,) what is resampled whole: the item."""
        return self.ids

    @property
    def slice_metrics(self) -> list[str]:
        """The metrics of the tables of slices; the files have all."""
        return ["macro_f1", "uar", "accuracy", "nll"] if self.labelled.any() else []

    def properties(self) -> Iterator[Property]:
        """Yield the properties by which items are sliced."""
        yield "Split", self.split, sorted(set(self.split.tolist()))
        yield self.durations()

    def durations(self) -> Property:
        """Say which of some ranges the duration of every item lies in."""
        texts = [f"{edge:g}" for edge in DURATION_EDGES_S]
        middle = [f"{low} to {high} s" for low, high in itertools.pairwise(texts)]
        labels = [f"below {texts[0]} s", *middle, f"{texts[-1]} s and above"]
        return "Duration", binned(self.duration_s, DURATION_EDGES_S, labels), labels

    def sums(self) -> ScoreSums:
        """Sum per cluster what all scores with an interval are made of; clusters without a label count, too."""
        return score_sums(self.clusters, **self.class_sums())

    def class_sums(self) -> dict[str, Any]:
        """Return what `score_sums` takes of the classes; nothing without labels."""
        if not self.labelled.any():
            return {}
        means = {"class_names": self.class_names, "labels": self.labels, "predicted": self.predicted}
        return {**means, "means": self.item_means()}

    def item_means(self) -> dict[str, NDArray[np.float64]]:
        """Per-item values (n,) whose means are scores; NaN without label."""
        y = np.maximum(self.labels, 0)
        values = {
            "top2": top_k_hits(self.probabilities, y, 2).astype(np.float64),
            "nll": self.nll,
            "brier": brier_per_item(self.probabilities, y),
        }
        return {name: np.where(self.labelled, value, np.nan) for name, value in values.items()}

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Some of the items, by mask or position."""
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in self.arrays()})

    def unique(self) -> tuple[Self, int]:
        """Return every item once, in the order of ids, and how many repetitions were left out."""
        _, first = np.unique(self.ids, return_index=True)
        if np.array_equal(first, np.arange(len(self))):
            return self, 0
        return self.select(first), len(self) - len(first)

    def save(self, path: Path) -> Path:
        """Write a compressed .npz of all arrays, atomically."""
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}
        with whole_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, **_narrow(arrays))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; other files raise ValueError."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there are no predictions {path}; evaluate the checkpoint first to write them")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {field.name: file[field.name] for field in dataclasses.fields(cls)}
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path}: not a file of predictions ({error}); evaluate the checkpoint again") from error
        names: dict[str, Any] = {name: tuple(str(text) for text in arrays.pop(name)) for name in cls.lists}
        wide: dict[str, Any] = {name: _wide(array) for name, array in arrays.items()}
        return cls(**names, **wide)

    def columns(self) -> dict[str, list[object]]:
        """Return the columns of items.csv in order."""
        about: dict[str, list[object]] = {name: getattr(self, name).tolist() for name in ("split", "duration_s")}
        scores = self.score_columns() | self.columns_of("p", self.probabilities) | self.columns_of("logit", self.logits)
        return {"id": self.ids.tolist(), **about, **scores, "path": self.path.tolist()}

    def score_columns(self) -> dict[str, list[object]]:
        """Return what the model said of the classes of the items, and how good that is."""
        if not self.class_names:
            return {}
        names = [*self.class_names, None]  # the last one is index -1
        return {
            "label": [names[k] for k in self.labels],
            "prediction": [names[k] for k in self.predicted],
            "probability": self.probabilities.max(axis=1).tolist(),
            "nll": self.nll.tolist(),
        }

    def columns_of(self, kind: str, values: NDArray[np.float64]) -> dict[str, list[object]]:
        """Return a column ``kind_<class>`` of values (n, n_classes) for every class."""
        return {f"{kind}_{name}": values[:, k].tolist() for k, name in enumerate(self.class_names)}

    def rows(self, n_at_once: int = 500) -> Iterator[Row]:
        """Yield the rows of items.csv."""
        for start in range(0, len(self), n_at_once):
            table = self.select(np.arange(start, min(start + n_at_once, len(self)))).columns()
            yield from (dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True))

    @classmethod
    def arrays(cls) -> list[str]:
        """Names of the fields that are arrays of the items."""
        return [field.name for field in dataclasses.fields(cls) if field.name not in cls.lists]


Table = TypeVar("Table", bound=PredictionTable)


def join(parts: Sequence[Table]) -> Table:
    """Return one set of several, of the same model."""
    if len(parts) == 1:
        return parts[0]
    arrays: dict[str, Any] = {n: np.concatenate([getattr(part, n) for part in parts]) for n in parts[0].arrays()}
    return dataclasses.replace(parts[0], **arrays)


def binned(
    values: NDArray[np.float64], edges: Sequence[float], labels: Sequence[str], right: bool = False
) -> NDArray[np.str_]:
    """Label of the bin of each value; "" where the value is unknown."""
    index = np.digitize(values, edges, right=right)
    return np.where(np.isnan(values), "", np.array(labels)[np.minimum(index, len(labels) - 1)])


def _narrow(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Networks compute in single precision: nothing is lost by storing it."""
    return {k: a.astype(np.float32) if a.dtype == np.float64 else a for k, a in arrays.items()}


def _wide(array: NDArray) -> NDArray:
    return array.astype(np.float64) if array.dtype == np.float32 else array
