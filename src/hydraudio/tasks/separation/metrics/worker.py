"""PESQ and STOI of one item, and the process that scores items for `hydraudio.tasks.separation.metrics.perceptual`.

The process runs this file by its path, so that it starts in a fraction of a second and holds little memory:
nothing here imports torch or the rest of the package. It reads pickled jobs from standard input and writes
pickled answers to standard output until the input ends, which it also does when the parent dies.
"""

import functools
import math
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import BinaryIO, TypedDict, cast

import numpy as np

PESQ_MODES = {8000: "nb", 16000: "wb"}
"""ITU-T P.862.1 narrow band at 8000 Hz and P.862.2 wide band at 16000 Hz; there is no other sample rate."""


class Scores(TypedDict, total=False):
    """One float per source and metric, NaN where the metric is undefined; `errors` says why, line by line."""

    pesq: list[float]
    stoi: list[float]
    estoi: list[float]
    errors: list[str]


class Job(TypedDict):
    """One item: signal (n_sources, time) or (1, time) for all sources, target (n_sources, time), float32."""

    signal: np.ndarray
    target: np.ndarray
    sample_rate_hz: int
    metrics: tuple[str, ...]


def pesq(target: np.ndarray, signal: np.ndarray, sample_rate_hz: int) -> float:
    """Return PESQ as MOS-LQO, 1 to 4.64, of (time,) signals; raises where the package does."""
    from pesq import pesq as score

    return float(score(sample_rate_hz, target, signal, PESQ_MODES[sample_rate_hz]))


def stoi(target: np.ndarray, signal: np.ndarray, sample_rate_hz: int, extended: bool = False) -> float:
    """STOI (Taal et al. 2011), or extended STOI (Jensen, Taal 2016), about 0 to 1, of (time,) signals.

    Raises with too little speech.
    """
    from pystoi import stoi as score

    with warnings.catch_warnings():  # pystoi warns and returns the constant 1e-5
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        return float(score(target, signal, sample_rate_hz, extended=extended))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "pesq": pesq,
    "stoi": stoi,
    "estoi": functools.partial(stoi, extended=True),
}


def score_item(job: Job) -> Scores:
    """Return all metrics of all sources of an item. What cannot be scored becomes NaN and a line in `errors`."""
    target = job["target"]
    signal = np.broadcast_to(job["signal"], target.shape)
    scores: dict[str, list[float]] = {}
    errors: list[str] = []
    for name in job["metrics"]:
        scores[name] = []
        for source in range(len(target)):
            value, reason = _score(name, target[source], signal[source], job["sample_rate_hz"])
            scores[name].append(value)
            if reason:
                errors.append(f"{name} of source {source}: {reason}")
    return cast(Scores, {**scores, "errors": errors})


def _score(name: str, target: np.ndarray, signal: np.ndarray, sample_rate_hz: int) -> tuple[float, str]:
    reason = _unscorable(name, target, signal)
    if reason:
        return math.nan, reason
    try:
        value = METRICS[name](target, signal, sample_rate_hz)
    except Exception as error:  # whatever the packages raise is reported with the item
        return math.nan, f"{type(error).__name__}: {_text(error)}"
    return value, "" if math.isfinite(value) else f"the package returned {value}"


def _unscorable(name: str, target: np.ndarray, signal: np.ndarray) -> str:
    if not (np.isfinite(target).all() and np.isfinite(signal).all()):
        return "the target or the signal holds NaN or infinity"
    if not target.any():
        return "the target is silent"
    if name == "pesq" and not signal.any():
        return "the signal is silent"  # STOI is defined here, and 0
    return ""


def _text(error: Exception) -> str:
    argument = error.args[0] if error.args else ""
    return argument.decode(errors="replace") if isinstance(argument, bytes) else str(argument)


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Answer jobs until their stream ends; the first answer, the process id, says that the imports worked."""
    import pesq  # noqa: F401
    import pystoi  # noqa: F401

    pickle.dump(os.getpid(), answers)
    answers.flush()
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        pickle.dump(score_item(job), answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def main() -> None:
    """Keep standard output for answers only: what the C code prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(sys.stdin.buffer, answers)
    except BrokenPipeError:  # the parent is gone
        os._exit(1)


if __name__ == "__main__":
    main()
