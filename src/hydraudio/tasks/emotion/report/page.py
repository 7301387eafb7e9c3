"""The page of a test of emotions: its sections, one function each; empty text where there is nothing to show."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hydraudio.metrics.calibration import TEMPERATURES, Reliability
from hydraudio.report.charts import Series, heat_chart, interval_chart, line_chart, scatter_chart
from hydraudio.report.page import card, columns, facts, grid, headlines, paragraph, table
from hydraudio.report.results import Queued, Results
from hydraudio.report.slices import Slice
from hydraudio.report.tables import count, interval_cell, number
from hydraudio.tasks.emotion.report import tables
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES, CATEGORY, EmotionExample, example_card, with_sound
from hydraudio.tasks.emotion.report.predictions import PredictionTable, to_rating
from hydraudio.tasks.emotion.report.scores import Calibration, Scores, broken_line
from hydraudio.tasks.emotion.report.slices import Gap, SpeakerSpread, table_metrics

MAX_SCATTER_POINTS = 800
MAX_SPEAKERS = 10
_HEADLINES = {"macro_f1": "Macro-F1", "uar": "UAR (mean recall)", "accuracy": "Accuracy", "ccc": "CCC, mean"}
_TITLES = {CATEGORY: "Listen: categories", ATTRIBUTES: "Listen: attributes"}
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

    def queue(self) -> list[Queued]:
        """Of each group the worst ones, then a best and a typical one; both groups in turn."""
        p = self.predictions
        errors, known = np.abs(to_rating(p.attributes) - to_rating(p.attribute_targets)), p.rated & p.finite
        all_scores = {
            CATEGORY: (-p.nll[p.labelled]).tolist(),
            ATTRIBUTES: (-np.nanmax(errors[known], axis=1)).tolist() if known.any() else [],
        }
        queue = []
        for place, (group, values) in enumerate(all_scores.items()):
            chosen = self.examples.choose(group, values)
            shown = [("worst", e) for e in chosen["worst"]]
            shown += [(kind, e) for kind in ("best", "typical") for e in chosen[kind][:1]]
            queue += [(rank, place, (group, functools.partial(self._card, *entry))) for rank, entry in enumerate(shown)]
        return [entry for _, _, entry in sorted(queue, key=lambda item: item[:2])]

    def listening(self) -> dict[str, tuple[str, str]]:
        return {group: (title, paragraph(_LEGEND)) for group, title in _TITLES.items()}

    def _card(self, kind: str, example: EmotionExample) -> str:
        item = self.predictions.select(self.predictions.ids == example.item_id)
        return example_card(kind, with_sound(example, self.sample_rate, self.max_example_s), item, self.sample_rate)


def lead(results: EmotionResults) -> str:
    """The headlines, or why there are none."""
    scores = results.scores
    if not scores.intervals:
        text = (
            f"None of the {count(scores.n_items)} items has a label that the model predicts, so nothing can be "
            "scored. The predictions and the submission files were written."
        )
        return card(paragraph(text, ""), "Predictions without labels", "warning")
    found = [(title, m) for m, title in _HEADLINES.items() if m in scores.intervals]
    warning = card(paragraph(broken_line(scores), ""), css="warning") if scores.n_broken else ""
    return warning + headlines([(title, interval_cell(scores.intervals[m], tables.DIGITS)) for title, m in found])


def summary(results: EmotionResults) -> str:
    """All scores, and how to read them."""
    scores = results.scores
    if not scores.intervals:
        return ""
    cards = [card(table(tables.category_table(scores)))] if scores.per_class else []
    if scores.n_rated:
        cards.append(card(table(tables.attribute_table(scores, results.predictions.attribute_names))))
    text = (
        f"{results.convention if scores.per_class else 'Attributes are scored once over all items, never per batch.'} "
        f"Small print: 95 % bootstrap intervals; {count(scores.n_clusters)} speakers (a podcast or an item where the "
        "speaker is unknown) are resampled whole."
    )
    return columns([*cards, card(paragraph(text), "How to read the scores")])


def classes(results: EmotionResults) -> str:
    """Scores of each class and of groups of classes."""
    names, scores = results.predictions.class_names, results.scores
    if not scores.per_class:
        return ""
    intervals = [scores.intervals[f"f1/{name}"] for name in names]
    chart = interval_chart([*names, "mean"], [*intervals, scores.intervals["macro_f1"]], "F1", ["mean"])
    groups = table(tables.group_table(scores)) + paragraph(
        "Over the items whose true class is in the group. Pooled: correct ones of all; mean: over the group's classes."
    )
    cards = [card(chart, "F1 with 95 % intervals"), card(groups, "Frequent and rare classes")]
    return columns([card(table(tables.class_table(scores, names))), *cards])


def confusion(results: EmotionResults) -> str:
    """Which class is taken for which."""
    if not results.scores.per_class:
        return ""
    chart = heat_chart(results.scores.per_class["confusion"], results.predictions.class_names)
    return card(chart + paragraph("Percentages: of the items of the true class. Also in confusion.csv and .png."))


def calibration(results: EmotionResults) -> str:
    """How far the probabilities can be believed."""
    bins = results.scores.calibration
    if bins is None:
        return ""
    series = [_reliability_series("as predicted", bins.before)]
    if bins.after is not None:
        series.append(_reliability_series("after temperature", bins.after))
    shares = [0, 0.2, 0.4, 0.6, 0.8, 1]
    chart = line_chart(series, "confidence", "accuracy", dots=True, diagonal="perfectly calibrated", ticks=shares)
    return grid([card(chart, "Reliability"), card(_temperature(results.scores, bins))])


def _temperature(scores: Scores, bins: Calibration) -> str:
    temperature, intervals = bins.temperature, scores.intervals
    lines = {"ECE": number(intervals["ece"].mean, 3), "NLL": f"{number(intervals['nll'].mean, 3)} nats"}
    if temperature is None:
        text = "The checkpoint holds no temperature: it was saved without a validation of categories."
        return facts(lines) + paragraph(text)
    lines |= {
        "Temperature": number(temperature, 3),
        "ECE after": number(intervals["ece_scaled"].mean, 3),
        "NLL after": f"{number(intervals['nll_scaled'].mean, 3)} nats",
    }
    text = (
        "The temperature was fitted on the validation set when the checkpoint was saved; the test set had no part in "
        "it. It changes no decision, only the probabilities. Expected calibration error: 15 equal bins of the "
        "largest probability."
    )
    low, high = TEMPERATURES
    if not 1.01 * low < temperature < 0.99 * high:
        text += f" It lies at the limit of the search ({low:g} to {high:g}): the logits say next to nothing."
    return facts(lines) + paragraph(text)


def _reliability_series(name: str, bins: Reliability) -> Series:
    filled = bins.count > 0
    return Series(name, bins.confidence[filled].tolist(), bins.accuracy[filled].tolist())


def attributes(results: EmotionResults) -> str:
    """Predicted against rated, per attribute."""
    if not results.scores.n_rated:
        return ""
    p = results.predictions.select(results.predictions.rated)
    stride = -(-len(p) // MAX_SCATTER_POINTS)
    cards = []
    for k, name in enumerate(p.attribute_names):
        truth, guess = to_rating(p.attribute_targets[::stride, k]), to_rating(p.attributes[::stride, k])
        series = Series(name, truth.tolist(), guess.tolist())
        chart = scatter_chart([series], "rated", "predicted", "equal", range(1, 8))
        cards.append(card(chart, f"{name.capitalize()}: CCC {number(results.scores.intervals[f'ccc_{name}'].mean, 3)}"))
    note = f" Every {stride}. of {count(len(p))} items is drawn." if stride > 1 else ""
    return grid(cards, "narrow") + paragraph(f"Ratings from 1 to 7.{note}")


def slices(results: EmotionResults) -> str:
    """Tables of parts of the set."""
    if not results.slices:
        return ""
    found = tables.slice_tables(results.slices, table_metrics(results.predictions))
    parts = "".join(card(table(data), name) for name, data in found.items())
    return parts + paragraph(
        "Slices use the same fixed label set, so that a slice without some class scores lower by that alone."
    )


def gender(results: EmotionResults) -> str:
    """Women and men side by side."""
    if not results.gaps:
        return ""
    text = (
        "Difference: female minus male, with a 95 % interval; ratio: the smaller by the larger. Recall per class "
        "compares equal opportunity and needs enough items of the class from both."
    )
    return card(table(tables.gap_table(results.gaps)) + paragraph(text))


def speakers(results: EmotionResults) -> str:
    """How scores differ between speakers."""
    if not results.scores.intervals:
        return ""
    spread = results.spread
    left_out = f"Speakers with too few items, left out: {count(spread.n_left_out)}."
    if not spread.rows:
        return card(paragraph(f"No speaker has enough items. {left_out}"))
    text = (
        f"Speakers with enough items: {count(len(spread.rows))}. {left_out} "
        "A speaker's UAR is over the classes that the speaker has. All of them are in speakers.csv."
    )
    spreading = card(table(tables.spread_table(spread)) + paragraph(text), "Spread")
    return columns([spreading, card(table(tables.speaker_table(spread, MAX_SPEAKERS)), "Lowest scores")])
