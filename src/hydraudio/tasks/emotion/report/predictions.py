"""Everything a test of emotions says about its items, as arrays: gathered, saved, read again, listed as rows."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hydraudio.core.files import whole_file
from hydraudio.metrics.classification import NO_LABEL, entropy, nll_per_item
from hydraudio.report.tables import Row
from hydraudio.tasks.emotion.metrics import ATTRIBUTE_RANGE

GENDERS = ("Female", "Male", "Unknown")
UNKNOWN = "Unknown"
TEXT_COLUMNS = ("id", "split", "speaker", "podcast", "gender", "label", "prediction", "path")
_NAMES = ("class_names", "class_letters", "attribute_names")


@dataclass(frozen=True)
class PredictionTable:
    """Items of a test, n of them.

    class_names, class_letters, attribute_names: what the model predicts; empty where it has no such head.
    ids, split, speaker, podcast, path: (n,) text. Speaker "Unknown" and podcast "" are not known.
    gender: (n,) index into `GENDERS`. duration_s: (n,), NaN if unknown.
    labels: (n,) true class, -1 = none. probabilities, logits, votes: (n, n_classes), votes NaN where unknown.
    attributes, attribute_targets: (n, n_attributes) in [0, 1], targets NaN where missing.
    """

    class_names: tuple[str, ...]
    class_letters: tuple[str, ...]
    attribute_names: tuple[str, ...]
    ids: NDArray[np.str_]
    split: NDArray[np.str_]
    speaker: NDArray[np.str_]
    podcast: NDArray[np.str_]
    path: NDArray[np.str_]
    gender: NDArray[np.int64]
    duration_s: NDArray[np.float64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    votes: NDArray[np.float64]
    attributes: NDArray[np.float64]
    attribute_targets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n,) items whose category can be scored."""
        if not self.class_names:
            return np.zeros(len(self), dtype=np.bool_)
        return self.labels != NO_LABEL

    @property
    def rated(self) -> NDArray[np.bool_]:
        """(n,) items with at least one attribute that can be scored."""
        return np.asarray((~np.isnan(self.attribute_targets)).any(axis=1), dtype=np.bool_)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(n,) items whose probabilities and attributes are numbers."""
        outputs = np.concatenate([self.probabilities, self.attributes], axis=1)
        return np.asarray(np.isfinite(outputs).all(axis=1), dtype=np.bool_)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) most probable class; -1 without categories."""
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
    def vote_entropy(self) -> NDArray[np.float64]:
        """(n,) entropy of the raters' votes in [0, 1], NaN where unknown."""
        return entropy(self.votes) if self.class_names else np.full(len(self), np.nan)

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(n,) what is resampled whole: the speaker; else the podcast; else the item."""
        known = (self.speaker != UNKNOWN) & (self.speaker != "")
        unnamed = np.where(self.podcast != "", np.char.add("podcast ", self.podcast), np.char.add("item ", self.ids))
        return np.where(known, np.char.add("speaker ", self.speaker), unnamed)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> PredictionTable:
        """Some of the items, by mask or position."""
        arrays = {name: getattr(self, name)[index] for name in _array_names()}
        return dataclasses.replace(self, **arrays)

    def unique(self) -> tuple[PredictionTable, int]:
        """Return every item once, in the order of ids, and how many repetitions were left out."""
        _, first = np.unique(self.ids, return_index=True)
        if np.array_equal(first, np.arange(len(self))):
            return self, 0
        return self.select(first), len(self) - len(first)


def join(parts: Sequence[PredictionTable]) -> PredictionTable:
    """Return one set of several, of the same model."""
    if len(parts) == 1:
        return parts[0]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _array_names()}
    return dataclasses.replace(parts[0], **arrays)


def save_predictions(path: Path, predictions: PredictionTable) -> Path:
    """Writes a compressed .npz of all arrays, atomically."""
    arrays = {field.name: np.asarray(getattr(predictions, field.name)) for field in dataclasses.fields(predictions)}
    with whole_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **_narrow(arrays))
    return path


def load_predictions(path: str | Path) -> PredictionTable:
    """Read what `save_predictions` wrote; other files raise ValueError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there are no predictions {path}; evaluate the checkpoint first to write them")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in dataclasses.fields(PredictionTable)}
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a file of predictions ({error}); evaluate the checkpoint again") from error
    names: dict[str, Any] = {name: tuple(str(text) for text in arrays.pop(name)) for name in _NAMES}
    wide: dict[str, Any] = {name: _wide(array) for name, array in arrays.items()}
    return PredictionTable(**names, **wide)


def item_columns(predictions: PredictionTable) -> list[str]:
    """Return the columns of items.csv."""
    columns = ["id", "split", "speaker", "podcast", "gender", "duration_s"]
    if predictions.class_names:
        columns += ["label", "prediction", "probability", "nll", "vote_entropy"]
        columns += [f"{kind}_{name}" for kind in ("p", "logit", "votes") for name in predictions.class_names]
    for name in predictions.attribute_names:
        columns += [name, f"{name}_predicted"]
    return [*columns, "path"]


def item_rows(predictions: PredictionTable, n_at_once: int = 500) -> Iterator[Row]:
    """Yield the rows of items.csv; attributes on the scale from 1 to 7."""
    for start in range(0, len(predictions), n_at_once):
        p = predictions.select(np.arange(start, min(start + n_at_once, len(predictions))))
        table: dict[str, list[object]] = {name: getattr(p, name).tolist() for name in ("split", "speaker", "podcast")}
        table |= {"id": p.ids.tolist(), "gender": [GENDERS[k] for k in p.gender], "path": p.path.tolist()}
        table["duration_s"] = p.duration_s.tolist()
        if p.class_names:
            table |= _category_columns(p)
        for column, name in enumerate(p.attribute_names):
            table[name] = to_rating(p.attribute_targets[:, column]).tolist()
            table[f"{name}_predicted"] = to_rating(p.attributes[:, column]).tolist()
        yield from (dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True))


def to_rating(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratings from 1 to 7, clipped, of attributes in [0, 1]."""
    return np.clip(ATTRIBUTE_RANGE * scaled + 1, 1, 7)


def _category_columns(predictions: PredictionTable) -> dict[str, list[object]]:
    names = [*predictions.class_names, None]  # the last one is index -1
    columns: dict[str, list[object]] = {
        "label": [names[k] for k in predictions.labels],
        "prediction": [names[k] for k in predictions.predicted],
        "probability": predictions.probabilities.max(axis=1).tolist(),
        "nll": predictions.nll.tolist(),
        "vote_entropy": predictions.vote_entropy.tolist(),
    }
    for kind, values in (("p", "probabilities"), ("logit", "logits"), ("votes", "votes")):
        array = getattr(predictions, values)
        columns |= {f"{kind}_{name}": array[:, k].tolist() for k, name in enumerate(predictions.class_names)}
    return columns


def _array_names() -> list[str]:
    return [field.name for field in dataclasses.fields(PredictionTable) if field.name not in _NAMES]


def _narrow(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Networks compute in single precision: nothing is lost by storing it."""
    return {k: a.astype(np.float32) if a.dtype == np.float64 else a for k, a in arrays.items()}


def _wide(array: NDArray) -> NDArray:
    return array.astype(np.float64) if array.dtype == np.float32 else array
