"""What the page of a test of emotions shows beside its categories (page.html)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from hydraudio.report.charts import Series
from hydraudio.report.classification.examples import CATEGORY, ClassExample, with_sound
from hydraudio.report.classification.page import ClassificationResults
from hydraudio.report.classification.scores import convention
from hydraudio.report.classification.tables import score_table
from hydraudio.report.results import Group
from hydraudio.report.tables import TableData, number
from hydraudio.tasks.emotion.report import tables
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES, example_card
from hydraudio.tasks.emotion.report.predictions import EmotionTable, to_rating
from hydraudio.tasks.emotion.report.slices import Gap, SpeakerSpread

MAX_SCATTER_POINTS = 800
MAX_SPEAKERS = 10
_LEGEND = (
    "Bars: predicted probabilities, that of the true class in bold, with the raters' share of votes as a mark. Lines "
    "from 1 to 7: the predicted rating as a dot, the raters' mean as a mark and in brackets."
)


@dataclass(frozen=True, kw_only=True)
class EmotionResults(ClassificationResults):
    """Everything that the page shows. predictions: of unique items."""

    predictions: EmotionTable
    gaps: Sequence[Gap]
    spread: SpeakerSpread

    def groups(self) -> list[Group]:
        p = self.predictions
        errors, known = np.abs(to_rating(p.attributes) - to_rating(p.attribute_targets)), p.rated & p.finite
        ratings = (-np.nanmax(errors[known], axis=1)).tolist() if known.any() else []
        return [
            Group(CATEGORY, "Categories", (-p.nll[p.labelled]).tolist(), 1, _LEGEND),
            Group(ATTRIBUTES, "Attributes", ratings, 1, _LEGEND),
        ]

    def card(self, kind: str, example: ClassExample, is_open: bool) -> Markup:
        item = self.predictions.select(self.predictions.ids == example.item_id)
        heard = with_sound(example, self.sample_rate, self.max_example_s)
        return example_card(kind, heard, item, self.sample_rate, is_open)

    @property
    def unscored(self) -> str:
        return super().unscored.replace("The predictions were", "The predictions and the submission files were")

    @property
    def score_tables(self) -> list[TableData]:
        """Of categories and of attributes."""
        found = [score_table(self.scores, "Categories")] if self.scores.per_class else []
        return found + ([tables.attribute_table(self.scores, self.predictions.attribute_names)] if self.n_rated else [])

    @property
    def reading(self) -> list[str]:
        of_attributes = "Attributes are scored once over all items, never per batch."
        scored = convention(self.predictions) if self.scores.per_class else of_attributes
        return [scored, self.resampling("speakers (a podcast or an item where the speaker is unknown)")]

    @property
    def n_rated(self) -> int:
        return int(self.predictions.rated.sum())

    @property
    def stride(self) -> int:
        return -(-self.n_rated // MAX_SCATTER_POINTS)

    @property
    def ratings(self) -> list[tuple[str, Series]]:
        """Predicted against rated, per attribute."""
        p = self.predictions.select(np.flatnonzero(self.predictions.rated)[:: self.stride])
        found = []
        for k, name in enumerate(p.attribute_names):
            truth, guess = to_rating(p.attribute_targets[:, k]), to_rating(p.attributes[:, k])
            title = f"{name.capitalize()}: CCC {number(self.scores.intervals[f'ccc_{name}'].mean, 3)}"
            found.append((title, Series(name, truth.tolist(), guess.tolist())))
        return found

    @property
    def gap_table(self) -> TableData:
        return tables.gap_table(self.gaps)

    @property
    def spread_table(self) -> TableData:
        return tables.spread_table(self.spread)

    @property
    def speaker_table(self) -> TableData:
        return tables.speaker_table(self.spread, MAX_SPEAKERS)
