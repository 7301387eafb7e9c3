"""What a test of emotions says about its items beside their categories: attributes, votes, who speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hydraudio.metrics.classification import divergences_per_item, entropy
from hydraudio.report.classification.predictions import PredictionTable, Property, binned
from hydraudio.stats.clustered import ScoreSums, score_sums
from hydraudio.tasks.emotion.metrics import ATTRIBUTE_RANGE

GENDERS = ("Female", "Male", "Unknown")
UNKNOWN = "Unknown"
ENTROPY_EDGES = (1 / 3, 2 / 3)


@dataclass(frozen=True, kw_only=True)
class EmotionTable(PredictionTable):
    """Items of a test, n of them, with what their raters said.

    class_letters, attribute_names: what the model predicts; empty where it has no such head.
    speaker, podcast: (n,) text. Speaker "Unknown" and podcast "" are not known. gender: (n,) index into `GENDERS`.
    votes: (n, n_classes), NaN where unknown.
    attributes, attribute_targets: (n, n_attributes) in [0, 1], targets NaN where missing.
    """

    lists: ClassVar[tuple[str, ...]] = ("class_names", "class_letters", "attribute_names")

    class_letters: tuple[str, ...]
    attribute_names: tuple[str, ...]
    speaker: NDArray[np.str_]
    podcast: NDArray[np.str_]
    gender: NDArray[np.int64]
    votes: NDArray[np.float64]
    attributes: NDArray[np.float64]
    attribute_targets: NDArray[np.float64]

    @property
    def rated(self) -> NDArray[np.bool_]:
        """(n,) items with at least one attribute that can be scored."""
        return np.asarray((~np.isnan(self.attribute_targets)).any(axis=1), dtype=np.bool_)

    @property
    def scored(self) -> NDArray[np.bool_]:
        return self.labelled | self.rated

    @property
    def finite(self) -> NDArray[np.bool_]:
        return super().finite & np.isfinite(self.attributes).all(axis=1)

    @property
    def vote_entropy(self) -> NDArray[np.float64]:
        """(n,) entropy of the raters' votes in [0, 1], NaN where unknown."""
        return entropy(self.votes) if self.class_names else np.full(len(self), np.nan)

    @property
    def asked(self) -> str:
        return " and ".join(text for text in (super().asked, ", ".join(self.attribute_names)) if text)

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(n,) what is resampled whole: the speaker; else the podcast; else the item."""
        known = (self.speaker != UNKNOWN) & (self.speaker != "")
        unnamed = np.where(self.podcast != "", np.char.add("podcast ", self.podcast), np.char.add("item ", self.ids))
        return np.where(known, np.char.add("speaker ", self.speaker), unnamed)

    @property
    def slice_metrics(self) -> list[str]:
        category = super().slice_metrics
        attributes = ["ccc", *(f"ccc_{name}" for name in self.attribute_names)] if self.rated.any() else []
        return category + attributes[: 1 if category else None]

    def properties(self) -> Iterator[Property]:
        split, duration = super().properties()
        yield split
        yield "Gender", np.array(GENDERS)[self.gender], GENDERS
        yield duration
        labels = ("up to 1/3", "1/3 to 2/3", "above 2/3")
        yield (
            "Entropy of the votes (0: all raters agree, 1: every class alike)",
            binned(self.vote_entropy, ENTROPY_EDGES, labels, right=True),
            labels,
        )

    def sums(self) -> ScoreSums:
        columns = enumerate(self.attribute_names if self.rated.any() else ())
        attributes = {name: (self.attributes[:, k], self.attribute_targets[:, k]) for k, name in columns}
        return score_sums(self.clusters, **self.class_sums(), attributes=attributes, scale=ATTRIBUTE_RANGE)

    def item_means(self) -> dict[str, NDArray[np.float64]]:
        values = super().item_means()
        return values | (divergences_per_item(self.probabilities, self.votes) if not np.isnan(self.votes).all() else {})

    def columns(self) -> dict[str, list[object]]:
        """Return the columns of items.csv; attributes on the scale from 1 to 7."""
        about: dict[str, list[object]] = {
            "id": self.ids.tolist(),
            **{name: getattr(self, name).tolist() for name in ("split", "speaker", "podcast")},
            "gender": [GENDERS[k] for k in self.gender],
            "duration_s": self.duration_s.tolist(),
        }
        if self.class_names:
            about |= self.score_columns() | {"vote_entropy": self.vote_entropy.tolist()}
            for kind, values in (("p", self.probabilities), ("logit", self.logits), ("votes", self.votes)):
                about |= self.columns_of(kind, values)
        for column, name in enumerate(self.attribute_names):
            about[name] = to_rating(self.attribute_targets[:, column]).tolist()
            about[f"{name}_predicted"] = to_rating(self.attributes[:, column]).tolist()
        return {**about, "path": self.path.tolist()}


def to_rating(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratings from 1 to 7, clipped, of attributes in [0, 1]."""
    return np.clip(ATTRIBUTE_RANGE * scaled + 1, 1, 7)
