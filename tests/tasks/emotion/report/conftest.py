"""Predictions whose scores are easy to reason about."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax

from hydraudio.tasks.emotion.report.predictions import EmotionTable

NAMES = ("Angry", "Sad", "Happy", "Neutral")


@pytest.fixture
def make_predictions() -> Callable[..., EmotionTable]:
    """n items of 20 speakers, the same truth for the same n; `skill` makes the logits and ratings better."""

    def make(n: int = 400, skill: float = 1.5, seed: int = 1, classes: bool = True, rated: bool = True) -> EmotionTable:
        truth, noise = np.random.default_rng(0), np.random.default_rng(seed)
        labels = truth.choice(4, n, p=[0.2, 0.2, 0.2, 0.4])
        targets = truth.uniform(0, 1, (n, 2))
        votes = truth.multinomial(5, np.ones(4) / 4, n) / 5
        speaker = truth.integers(0, 20, n)
        logits = noise.normal(size=(n, 4)) + skill * np.eye(4)[labels]
        ratings = np.clip(targets + noise.normal(size=(n, 2)) / (2 + 4 * skill), 0, 1)
        nothing = np.zeros((n, 0))
        return EmotionTable(
            class_names=NAMES if classes else (),
            class_letters=tuple("ASHN") if classes else (),
            attribute_names=("valence", "arousal") if rated else (),
            ids=np.array([f"MSP-PODCAST_{k % 9:04d}_{k:04d}.wav" for k in range(n)]),
            split=np.array(["Test1", "Test2"])[np.arange(n) % 2],
            speaker=np.where(np.arange(n) % 10 == 0, "Unknown", speaker.astype(str)),
            podcast=np.array([f"{k % 9:04d}" for k in range(n)]),
            path=np.array([""] * n),
            gender=speaker % 2,
            duration_s=2.0 + (np.arange(n) % 12),
            labels=labels if classes else np.full(n, -1),
            logits=logits if classes else nothing,
            probabilities=softmax(logits, axis=1) if classes else nothing,
            votes=votes if classes else nothing,
            attributes=ratings if rated else nothing,
            attribute_targets=targets if rated else nothing,
        )

    return make
