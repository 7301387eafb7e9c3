"""The HTML page of a test of emotions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hydraudio.metrics.calibration import TEMPERATURES, Reliability
from hydraudio.report.charts import Series, heat_chart, interval_chart, line_chart, scatter_chart
from hydraudio.report.curves import curve_cards
from hydraudio.report.examples import ExamplePool
from hydraudio.report.page import (
    Section,
    card,
    columns,
    facts,
    grid,
    headlines,
    note_left_out,
    page,
    paragraph,
    problem_list,
    table,
)
from hydraudio.report.slices import Slice
from hydraudio.report.tables import count, interval_cell, number
from hydraudio.tasks.emotion.report import tables
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES, CATEGORY, EmotionExample, example_card, with_sound
from hydraudio.tasks.emotion.report.predictions import PredictionTable, to_rating
from hydraudio.tasks.emotion.report.scores import Scores, broken_line
from hydraudio.tasks.emotion.report.slices import Gap, SpeakerSpread, table_metrics

MAX_SCATTER_POINTS = 800
MAX_SPEAKERS = 10
CURVES = {
    "Loss": ("train/loss", "val/loss"),
    "Validation: categories": ("val/macro_f1", "val/uar", "val/accuracy"),
    "Validation: CCC": ("val/ccc",),
}
_HEADLINES = {"macro_f1": "Macro-F1", "uar": "UAR (mean recall)", "accuracy": "Accuracy", "ccc": "CCC, mean"}
_TITLES = {CATEGORY: "Listen: categories", ATTRIBUTES: "Listen: attributes"}
_LEGEND = (
    "Bars: predicted probabilities, that of the true class in bold, with the raters' share of votes as a mark. Lines "
    "from 1 to 7: the predicted rating as a dot, the raters' mean as a mark and in brackets."
)


@dataclass(frozen=True)
class EmotionResults:
    """Everything that the page shows.

    title: text of the heading; subtitle: the line below it; information: names and values of what was tested.
    predictions: unique items; curves: by metric name; examples: pool to choose from; notes: lines about the files that
    were written; n_repeated: items that were left out because they were there before.
    """

    title: str
    subtitle: str
    information: Mapping[str, str]
    predictions: PredictionTable
    scores: Scores
    slices: Sequence[Slice]
    gaps: Sequence[Gap]
    spread: SpeakerSpread
    convention: str
    curves: Mapping[str, Series]
    examples: ExamplePool[EmotionExample]
    sample_rate: int
    notes: Sequence[str] = ()
    n_repeated: int = 0
    max_page_mb: float = 8.0
    max_example_s: float = 12.0


def emotion_page(results: EmotionResults) -> str:
    """The finished document."""
    sections = [*_score_sections(results), *_curve_sections(results)]
    sections.append(Section("about", "What was tested", card(facts(results.information)) + _notes(results)))
    used = sum(len(section.body) for section in sections)
    sections += _example_sections(results, int(results.max_page_mb * 1e6) - used)
    return page(results.title, results.subtitle, _lead(results), sections)


def _lead(results: EmotionResults) -> str:
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


def _score_sections(results: EmotionResults) -> Iterator[Section]:
    scores = results.scores
    if scores.intervals:
        yield Section("summary", "Scores", _summary(results))
    if scores.per_class:
        yield Section("classes", "Per class", _classes(results))
        yield Section("confusion", "Confusion", _confusion(results))
        yield Section("calibration", "Calibration", _calibration(scores))
    if scores.n_rated:
        yield Section("attributes", "Attributes", _attributes(results))
    if results.slices:
        yield Section("slices", "Slices", _slices(results))
    if results.gaps:
        yield Section("gender", "Gender", _gender(results))
    if scores.intervals:
        yield Section("speakers", "Speakers", _speakers(results.spread))


def _summary(results: EmotionResults) -> str:
    scores = results.scores
    cards = [card(table(tables.category_table(scores)))] if scores.per_class else []
    if scores.n_rated:
        cards.append(card(table(tables.attribute_table(scores, results.predictions.attribute_names))))
    text = (
        f"{results.convention if scores.per_class else 'Attributes are scored once over all items, never per batch.'} "
        f"Small print: 95 % bootstrap intervals; {count(scores.n_clusters)} speakers (a podcast or an item where the "
        "speaker is unknown) are resampled whole."
    )
    return columns([*cards, card(paragraph(text), "How to read the scores")])


def _classes(results: EmotionResults) -> str:
    names, scores = results.predictions.class_names, results.scores
    intervals = [scores.intervals[f"f1/{name}"] for name in names]
    chart = interval_chart([*names, "mean"], [*intervals, scores.intervals["macro_f1"]], "F1", ["mean"])
    groups = table(tables.group_table(scores)) + paragraph(
        "Over the items whose true class is in the group. Pooled: correct ones of all; mean: over the group's classes."
    )
    cards = [card(chart, "F1 with 95 % intervals"), card(groups, "Frequent and rare classes")]
    return columns([card(table(tables.class_table(scores, names))), *cards])


def _confusion(results: EmotionResults) -> str:
    chart = heat_chart(results.scores.per_class["confusion"], results.predictions.class_names)
    return card(chart + paragraph("Percentages: of the items of the true class. Also in confusion.csv and .png."))


def _calibration(scores: Scores) -> str:
    assert scores.calibration is not None, "labelled items are always calibrated"
    bins = scores.calibration
    series = [_reliability_series("as predicted", bins.before)]
    if bins.after is not None:
        series.append(_reliability_series("after temperature", bins.after))
    shares = [0, 0.2, 0.4, 0.6, 0.8, 1]
    chart = line_chart(series, "confidence", "accuracy", dots=True, diagonal="perfectly calibrated", ticks=shares)
    return grid([card(chart, "Reliability"), card(_temperature(scores))])


def _temperature(scores: Scores) -> str:
    assert scores.calibration is not None
    temperature, intervals = scores.calibration.temperature, scores.intervals
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


def _attributes(results: EmotionResults) -> str:
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


def _slices(results: EmotionResults) -> str:
    found = tables.slice_tables(results.slices, table_metrics(results.predictions))
    parts = "".join(card(table(data), name) for name, data in found.items())
    return parts + paragraph(
        "Slices use the same fixed label set, so that a slice without some class scores lower by that alone."
    )


def _gender(results: EmotionResults) -> str:
    text = (
        "Difference: female minus male, with a 95 % interval; ratio: the smaller by the larger. Recall per class "
        "compares equal opportunity and needs enough items of the class from both."
    )
    return card(table(tables.gap_table(results.gaps)) + paragraph(text))


def _speakers(spread: SpeakerSpread) -> str:
    left_out = f"Speakers with too few items, left out: {count(spread.n_left_out)}."
    if not spread.rows:
        return card(paragraph(f"No speaker has enough items. {left_out}"))
    text = (
        f"Speakers with enough items: {count(len(spread.rows))}. {left_out} "
        "A speaker's UAR is over the classes that the speaker has. All of them are in speakers.csv."
    )
    spreading = card(table(tables.spread_table(spread)) + paragraph(text), "Spread")
    return columns([spreading, card(table(tables.speaker_table(spread, MAX_SPEAKERS)), "Lowest scores")])


def _curve_sections(results: EmotionResults) -> list[Section]:
    cards = curve_cards(results.curves, CURVES)
    return [Section("curves", "Learning curves", grid(cards, "narrow"))] if cards else []


def _notes(results: EmotionResults) -> str:
    lines = list(results.notes)
    if results.n_repeated:
        lines.append(f"{count(results.n_repeated)} repetitions of the same item were left out")
    return card(problem_list(lines), "Files") if lines else ""


def _example_sections(results: EmotionResults, n_bytes: int) -> list[Section]:
    """Cards of both groups in rounds until the page has its size."""
    queue = _example_queue(results)
    cards: dict[str, list[str]] = {}
    left_out = 0
    for kind, example in queue:
        item = results.predictions.select(results.predictions.ids == example.item_id)
        heard = with_sound(example, results.sample_rate, results.max_example_s)
        html = example_card(kind, heard, item, results.sample_rate)
        if n_bytes < len(html):
            left_out += 1
            continue
        n_bytes -= len(html)
        cards.setdefault(example.group, []).append(html)
    sections = [
        Section(f"listen-{g}", _TITLES[g], paragraph(_LEGEND) + "".join(cards[g])) for g in _TITLES if g in cards
    ]
    return note_left_out(sections, left_out)


def _example_queue(results: EmotionResults) -> list[tuple[str, EmotionExample]]:
    """(kind, example): of each group the worst ones, then a best and a typical one; both groups in turn."""
    p = results.predictions
    errors, known = np.abs(to_rating(p.attributes) - to_rating(p.attribute_targets)), p.rated & p.finite
    all_scores = {
        CATEGORY: (-p.nll[p.labelled]).tolist(),
        ATTRIBUTES: (-np.nanmax(errors[known], axis=1)).tolist() if known.any() else [],
    }
    queue = []
    for place, (group, values) in enumerate(all_scores.items()):
        chosen = results.examples.choose(group, values)
        shown = [("worst", e) for e in chosen["worst"]]
        shown += [(kind, e) for kind in ("best", "typical") for e in chosen[kind][:1]]
        queue += [(rank, place, entry) for rank, entry in enumerate(shown)]
    return [entry for _, _, entry in sorted(queue, key=lambda item: item[:2])]
