"""Scores of one separated item, by the same definitions as in the test report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hydraudio.metrics.sdr import si_sdr
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer
from hydraudio.tasks.separation.metrics.worker import PESQ_MODES


@dataclass(frozen=True)
class Scores:
    """Per target; SI-SDR in dB, PESQ as MOS-LQO (1 to 4.64), STOI about 0 to 1; higher is better.

    Attributes:
        permutation: (n_sources,) the output of the network that belongs to each target.
        estimate: metric -> (n_sources,) of the estimates.
        mixture: metric -> (n_sources,) of the unprocessed mixture.
        errors: what could not be scored, and why.
    """

    permutation: np.ndarray
    estimate: dict[str, np.ndarray]
    mixture: dict[str, np.ndarray]
    errors: tuple[str, ...] = field(default=())

    @property
    def si_sdri(self) -> np.ndarray:
        """(n_sources,) improvement of SI-SDR over the mixture, in dB."""
        return self.estimate["si_sdr"] - self.mixture["si_sdr"]


def open_scorer(sample_rate: int) -> PerceptualScorer:
    """PESQ, which is defined at 8 and 16 kHz only, and STOI."""
    metrics = ("pesq", "stoi") if sample_rate in PESQ_MODES else ("stoi",)
    return PerceptualScorer(sample_rate, n_processes=2, metrics=metrics)


def score_item(
    task: Any, scorer: PerceptualScorer, mixture: np.ndarray, targets: np.ndarray, outputs: np.ndarray
) -> Scores:
    """Orders the outputs as the task's loss does in the test, and scores them.

    Args:
        task: a separation task; its ``loss`` finds the order, its ``zero_mean`` counts for SI-SDR.
        scorer: of the task's sample rate.
        mixture: (time,)
        targets: (n_sources, time)
        outputs: (n_sources, time), in the order of the network.
    """
    target, output = torch.from_numpy(targets)[None], torch.from_numpy(outputs)[None]
    permutation = task.loss.best_permutation(output, target)[0]
    estimate = output[:, permutation]
    unprocessed = torch.from_numpy(mixture)[None, None].expand_as(target)
    si_sdrs = [si_sdr(signal, target, zero_mean=task.zero_mean)[0].numpy() for signal in (estimate, unprocessed)]
    scorer.submit("item", "mixture", mixture, targets)
    scorer.submit("item", "estimate", estimate[0].numpy(), targets)
    found = scorer.collect()
    sides = [_arrays(found["item", role], len(targets)) for role in ("estimate", "mixture")]
    errors = [f"{role}: {reason}" for (_, role), item in found.items() for reason in item["errors"]]
    return Scores(
        permutation=permutation.numpy(),
        estimate={"si_sdr": si_sdrs[0], **sides[0]},
        mixture={"si_sdr": si_sdrs[1], **sides[1]},
        errors=tuple(errors),
    )


def level_dbfs(waveform: np.ndarray) -> float:
    """RMS level of (time,) in dB re full scale (a sine of amplitude 1 has -3 dB); -inf for silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf


def _arrays(item: Any, n_sources: int) -> dict[str, np.ndarray]:
    return {name: np.array(item[name]) for name in ("pesq", "stoi") if len(item.get(name, ())) == n_sources}
