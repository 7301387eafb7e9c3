"""When hybrid early stopping saves and when it stops: pure arithmetic on two numbers per validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

TOLERANCE = 1e-12
"""Two means that differ by less are equal: three times 0.1 averages to 0.10000000000000002."""

Reason = Literal["loss", "smoothed_f1", "non_finite"]


@dataclass(frozen=True)
class Verdict:
    """What follows from one validation.

    Args:
        smoothed: mean of the last scores; NaN where a value was not finite.
        save: this model is the best so far.
        stop: why training ends; None where it goes on.
    """

    smoothed: float
    save: bool
    stop: Reason | None


class HybridRule:
    """Save while the moving average of the score grows; stop when it does not, or when the loss has risen.

    At validation t = 1, 2, ... with the loss L_t and the score f_t, in this order:

    1. s_t = mean of the last min(t, window) scores;
    2. m = min(m, L_t): the current loss is included;
    3. L_t > m + (ratio - 1) |m|: stop with the reason ``loss``, and save nothing. For positive losses this is
       L_t > ratio m; a negative m would move the other way. Equality does not stop;
    4. s_t > b + min_delta: b = s_t, save;
    5. else (a tie, too): stop with the reason ``smoothed_f1``.

    b is -inf at the beginning, so that the first model is saved whatever its score. A loss or a score that is NaN or
    infinite stops with the reason ``non_finite`` and changes nothing else.

    Args:
        window: scores in the mean, at least 1.
        ratio: above 1.
        min_delta: what the mean has to grow by, at least 0.
        n_failures: validations in a row with outcome 3 or 5 after which training stops; 1 = at the first. A
            validation with outcome 4 sets the count back.
    """

    def __init__(self, window: int = 5, ratio: float = 1.05, min_delta: float = 0.0, n_failures: int = 1) -> None:
        _require_positive_integer("window", window)
        _require_positive_integer("patience", n_failures)
        if not ratio > 1 or math.isinf(ratio):
            raise ValueError(f"ratio={ratio} must be a number above 1: the loss may rise by the factor `ratio`")
        if not min_delta >= 0 or math.isinf(min_delta):
            raise ValueError(f"min_delta={min_delta} must be a number that is not negative")
        self.window, self.ratio, self.min_delta, self.n_failures = window, ratio, min_delta, n_failures
        self.scores: list[float] = []
        self.min_loss = math.inf
        self.best = -math.inf
        self.best_event = 0
        self.failures_in_a_row = 0
        self.stop: Reason | None = None

    @property
    def n_events(self) -> int:
        """Validations so far, t."""
        return len(self.scores)

    @property
    def loss_threshold(self) -> float:
        """Largest loss that does not stop; infinite before the first validation."""
        if math.isinf(self.min_loss):
            return math.inf
        return self.min_loss + (self.ratio - 1) * abs(self.min_loss)

    def update(self, loss: float, score: float) -> Verdict:
        """Take the loss and the score of one validation.

        Raises:
            RuntimeError: the rule has stopped already.
        """
        if self.stop is not None:
            raise RuntimeError(f"the rule stopped at validation {self.n_events} with the reason {self.stop}")
        if not (math.isfinite(loss) and math.isfinite(score)):
            self.stop = "non_finite"
            return Verdict(math.nan, save=False, stop=self.stop)
        self.scores.append(score)
        recent = self.scores[-self.window :]
        smoothed = math.fsum(recent) / len(recent)
        self.min_loss = min(self.min_loss, loss)
        failure = self._failure(loss, smoothed)
        if failure is None:
            self.best, self.best_event, self.failures_in_a_row = smoothed, self.n_events, 0
            return Verdict(smoothed, save=True, stop=None)
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= self.n_failures:
            self.stop = failure
        return Verdict(smoothed, save=False, stop=self.stop)

    def state_dict(self) -> dict[str, Any]:
        """Everything that later decisions depend on, in plain types."""
        return {
            "scores": list(self.scores),
            "min_loss": self.min_loss,
            "best": self.best,
            "best_event": self.best_event,
            "failures_in_a_row": self.failures_in_a_row,
            "stop": self.stop,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.scores = list(state["scores"])
        self.min_loss, self.best = state["min_loss"], state["best"]
        self.best_event, self.failures_in_a_row = state["best_event"], state["failures_in_a_row"]
        self.stop = state["stop"]

    def _failure(self, loss: float, smoothed: float) -> Reason | None:
        if loss > self.loss_threshold + TOLERANCE * max(1.0, abs(self.min_loss)):
            return "loss"
        if smoothed > self.best + self.min_delta + TOLERANCE:
            return None
        return "smoothed_f1"


def _require_positive_integer(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be an integer of at least 1")
