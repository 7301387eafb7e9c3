"""What the page of a test of emotions (page.html) shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from hydraudio.metrics.calibration import TEMPERATURES, Reliability
from hydraudio.report.charts import Chart, Series, interval_chart
from hydraudio.report.results import Group, Results
from hydraudio.report.slices import Slice, slice_tables
from hydraudio.report.tables import Cell, TableData, interval_cell, number
from hydraudio.tasks.emotion.report import tables
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES, CATEGORY, EmotionExample, example_card, with_sound
from hydraudio.tasks.emotion.report.predictions import PredictionTable, to_rating
from hydraudio.tasks.emotion.report.scores import Scores, broken_line
from hydraudio.tasks.emotion.report.slices import Gap, SpeakerSpread, table_metrics

MAX_SCATTER_POINTS = 800
MAX_SPEAKERS = 10
_HEADLINES = {"macro_f1": "Macro-F1", "uar": "UAR (mean recall)", "accuracy": "Accuracy", "ccc": "CCC, mean"}
_LEGEND = (
    "Bars: predicted probabilities, that of the true class in bold, with the raters' share of votes as a mark. Lines "
    "from 1 to 7: the predicted rating as a dot, the raters' mean as a mark and in brackets."
)


@dataclass(frozen=True, kw_only=True)
class EmotionResults(Results[EmotionExample]):
    """Everything that the page shows. predictions: of unique items."""

    predictions: PredictionTable
    scores: Scores
    slices: Sequence[Slice]
    gaps: Sequence[Gap]
    spread: SpeakerSpread
    convention: str

    def groups(self) -> list[Group]:
        p = self.predictions
        errors, known = np.abs(to_rating(p.attributes) - to_rating(p.attribute_targets)), p.rated & p.finite
        ratings = (-np.nanmax(errors[known], axis=1)).tolist() if known.any() else []
        return [
            Group(CATEGORY, "Categories", (-p.nll[p.labelled]).tolist(), 1, _LEGEND),
            Group(ATTRIBUTES, "Attributes", ratings, 1, _LEGEND),
        ]

    def card(self, kind: str, example: EmotionExample, is_open: bool) -> Markup:
        item = self.predictions.select(self.predictions.ids == example.item_id)
        heard = with_sound(example, self.sample_rate, self.max_example_s)
        return example_card(kind, heard, item, self.sample_rate, is_open)

    @property
    def headlines(self) -> list[tuple[str, Cell]]:
        found = [(title, self.scores.intervals.get(metric)) for metric, title in _HEADLINES.items()]
        return [(title, interval_cell(interval, tables.DIGITS)) for title, interval in found if interval]

    @property
    def broken_line(self) -> str:
        return broken_line(self.scores)

    @property
    def score_tables(self) -> list[TableData]:
        """Of categories and of attributes."""
        found = [tables.category_table(self.scores)] if self.scores.per_class else []
        if self.scores.n_rated:
            found.append(tables.attribute_table(self.scores, self.predictions.attribute_names))
        return found

    @property
    def class_table(self) -> TableData:
        return tables.class_table(self.scores, self.predictions.class_names)

    @property
    def group_table(self) -> TableData:
        return tables.group_table(self.scores)

    def class_chart(self) -> Chart:
        """F1 of every class and on average."""
        names, found = self.predictions.class_names, self.scores.intervals
        intervals = [*(found[f"f1/{name}"] for name in names), found["macro_f1"]]
        return interval_chart([*names, "mean"], intervals, "F1", ["mean"])

    @property
    def reliability(self) -> list[Series]:
        """Accuracy over confidence, before and after the temperature."""
        bins = self.scores.calibration
        assert bins is not None, "the section is not shown without labels"
        after = [_reliability_series("after temperature", bins.after)] if bins.after is not None else []
        return [_reliability_series("as predicted", bins.before), *after]

    @property
    def calibration_facts(self) -> dict[str, str]:
        bins, found = self.scores.calibration, self.scores.intervals
        lines = {"ECE": number(found["ece"].mean, 3), "NLL": f"{number(found['nll'].mean, 3)} nats"}
        if bins is None or bins.temperature is None:
            return lines
        return lines | {
            "Temperature": number(bins.temperature, 3),
            "ECE after": number(found["ece_scaled"].mean, 3),
            "NLL after": f"{number(found['nll_scaled'].mean, 3)} nats",
        }

    @property
    def temperature_limits(self) -> tuple[float, float] | None:
        """Of the search, where the temperature lies at one of them."""
        temperature = self.scores.calibration.temperature if self.scores.calibration else None
        low, high = TEMPERATURES
        return None if temperature is None or 1.01 * low < temperature < 0.99 * high else (low, high)

    @property
    def stride(self) -> int:
        return -(-self.scores.n_rated // MAX_SCATTER_POINTS)

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
    def slice_tables(self) -> dict[str, TableData]:
        titles = {metric: tables.metric_title(metric) for metric in table_metrics(self.predictions)}
        return slice_tables(self.slices, titles, tables.DIGITS)

    @property
    def gap_table(self) -> TableData:
        return tables.gap_table(self.gaps)

    @property
    def spread_table(self) -> TableData:
        return tables.spread_table(self.spread)

    @property
    def speaker_table(self) -> TableData:
        return tables.speaker_table(self.spread, MAX_SPEAKERS)


def _reliability_series(name: str, bins: Reliability) -> Series:
    filled = bins.count > 0
    return Series(name, bins.confidence[filled].tolist(), bins.accuracy[filled].tolist())
