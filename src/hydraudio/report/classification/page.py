"""What the page of a test of classes (templates/classification.html) shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hydraudio.metrics.calibration import TEMPERATURES, Reliability
from hydraudio.report.charts import Chart, Series, interval_chart
from hydraudio.report.classification import tables
from hydraudio.report.classification.examples import (
    CATEGORY,
    ClassExample,
    class_heading,
    example_card,
    item_description,
    probability_bars,
    with_sound,
)
from hydraudio.report.classification.predictions import PredictionTable
from hydraudio.report.classification.scores import Scores, convention
from hydraudio.report.results import Group, Results
from hydraudio.report.slices import Slice, slice_tables
from hydraudio.report.tables import Cell, TableData, count, interval_cell, number

_HEADLINES = {
    "macro_f1": "Macro-F1",
    "uar": "UAR (mean recall)",
    "accuracy": "Accuracy",
    "ccc": "CCC, mean",
    "mean_ap": "Mean average precision",
}


@dataclass(frozen=True, kw_only=True)
class ClassificationResults(Results[ClassExample]):
    """Everything that the page shows. predictions: of unique items. resampled: what a bootstrap draws."""

    predictions: PredictionTable
    scores: Scores
    slices: Sequence[Slice]
    resampled: str

    def groups(self) -> list[Group]:
        p = self.predictions
        legend = "Bars: predicted probabilities, that of the true class in bold."
        return [Group(CATEGORY, "Classes", (-p.nll[p.labelled]).tolist(), 1, legend)]

    def card(self, kind: str, example: ClassExample, is_open: bool) -> Markup:
        item, heard = self.item(example), with_sound(example, self.sample_rate, self.max_example_s)
        about, bars = " · ".join(item_description(item)), [probability_bars(item)]
        return example_card(kind, heard, self.sample_rate, class_heading(item), about, bars, is_open)

    def item(self, example: ClassExample) -> PredictionTable:
        """The predictions of an example."""
        return self.predictions.select(self.predictions.ids == example.item_id)

    @property
    def unscored(self) -> str:
        """What is said where nothing can be scored."""
        return (
            f"None of the {count(self.scores.n_items)} items has a label that the model predicts, so nothing can be "
            "scored. The predictions were written."
        )

    @property
    def headlines(self) -> list[tuple[str, Cell]]:
        found = [(title, self.scores.intervals.get(metric)) for metric, title in _HEADLINES.items()]
        return [(title, interval_cell(interval, tables.DIGITS)) for title, interval in found if interval]

    @property
    def score_tables(self) -> list[TableData]:
        return [tables.score_table(self.scores, "Classes")] if self.scores.per_class else []

    @property
    def reading(self) -> list[str]:
        """How to read the scores."""
        return [convention(self.predictions), self.resampling(f"{self.resampled}s")]

    def resampling(self, clusters: str) -> str:
        """Say what the intervals are."""
        n_clusters = count(self.scores.n_clusters)
        return f"Small print: 95 % bootstrap intervals; {n_clusters} {clusters} are resampled whole."

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
    def slice_tables(self) -> dict[str, TableData]:
        titles = {metric: tables.metric_title(metric) for metric in self.predictions.slice_metrics}
        return slice_tables(self.slices, titles, tables.DIGITS)


def _reliability_series(name: str, bins: Reliability) -> Series:
    filled = bins.count > 0
    return Series(name, bins.confidence[filled].tolist(), bins.accuracy[filled].tolist())
