"""Items of an emotion test to look at and listen to: what their cards say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from hydraudio.report.classification import examples
from hydraudio.report.classification.examples import CATEGORY, ClassExample, class_heading, probability_bars
from hydraudio.report.page import Bar
from hydraudio.report.tables import number
from hydraudio.tasks.emotion.report.predictions import GENDERS, EmotionTable, to_rating

ATTRIBUTES = "attributes"
"""Group of examples that are chosen by minus the largest error of an attribute, on the scale from 1 to 7."""


def example_card(
    kind: str, example: ClassExample, item: EmotionTable, sample_rate: int, is_open: bool = False
) -> Markup:
    """Return finished HTML of one example; kind is "worst", "best" or "typical", item its predictions (one item)."""
    heading = class_heading(item) if example.group == CATEGORY else _attribute_heading(item)
    bars = [probability_bars(item, item.votes[0]), _ratings(item)]
    return examples.example_card(kind, example, sample_rate, heading, " · ".join(_description(item)), bars, is_open)


def _attribute_heading(item: EmotionTable) -> str:
    errors = to_rating(item.attributes[0]) - to_rating(item.attribute_targets[0])
    worst = int(np.nanargmax(np.abs(errors)))
    sign = "+" if errors[worst] > 0 else ""
    return f"{item.attribute_names[worst].capitalize()} {sign}{number(float(errors[worst]), 1)}"


def _ratings(item: EmotionTable) -> list[Bar]:
    """A line from 1 to 7 per attribute, with the true and the predicted rating."""
    found = []
    predicted, true = to_rating(item.attributes[0]).tolist(), to_rating(item.attribute_targets[0]).tolist()
    for name, guess, truth in zip(item.attribute_names, predicted, true, strict=True):
        mark = None if np.isnan(truth) else 100 * (truth - 1) / 6
        text = number(guess, 1) + ("" if mark is None else f" ({number(truth, 1)})")
        found.append(Bar(name.capitalize(), 100 * (guess - 1) / 6, mark, text, "dot"))
    return found


def _description(item: EmotionTable) -> Iterator[str]:
    if item.split[0]:
        yield str(item.split[0])
    yield f"speaker {item.speaker[0]}" if item.speaker[0] else "speaker unknown"
    yield GENDERS[int(item.gender[0])].lower()
    if not np.isnan(item.duration_s[0]):
        yield f"{number(float(item.duration_s[0]), 1)} s"
    if not np.isnan(item.vote_entropy[0]):
        yield f"entropy of the votes {number(float(item.vote_entropy[0]))}"
