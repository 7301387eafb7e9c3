"""What the listening page needs to know about separation: overlap-add, levels, PESQ and STOI, problems that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch import Tensor

from hydraudio.audio.overlap_add import separate_long
from hydraudio.core.task import Task
from hydraudio.report.listen.listening import Listening, OnProgress, Signals
from hydraudio.report.media import level_gain
from hydraudio.report.tables import Cell, TableData, TableRow, number
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer
from hydraudio.tasks.separation.metrics.worker import PESQ_MODES
from hydraudio.tasks.separation.predict import input_gains
from hydraudio.tasks.separation.spec import SPEC
from hydraudio.tasks.separation.task import SeparationTask

CHUNK_S, OVERLAP_S = 30.0, 4.0
"""What is longer than a chunk is separated by overlap-add."""
_SHOWN = [metric for name in ("si_sdr", "pesq", "stoi") if (metric := SPEC.metric(name)) is not None]


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


class SeparationListening(Listening):
    """One separation network, with the processes that compute PESQ and STOI."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        if not isinstance(task, SeparationTask):
            raise ValueError(f"{type(task).__name__} is no SeparationTask; say in its specification how it is heard")
        self.n_sources = task.n_sources
        self.scorer = open_scorer(task.sample_rate)

    def problems(self, datamodule: LightningDataModule) -> list[str]:
        """Those with as many sources as the network has."""
        offered: Mapping[str, int] = getattr(datamodule, "problems", {})
        return [name for name, n_sources in offered.items() if n_sources == self.n_sources]

    def process(self, waveform: Tensor, on_progress: OnProgress | None = None) -> dict[str, Tensor]:
        """Separate a recording in chunks."""
        n_done, n_samples = 0, waveform.shape[-1]

        def function(chunk: Tensor) -> Tensor:
            nonlocal n_done
            estimate = self.task.predict({"mixture": chunk.to(self.task.device)})["estimate"].cpu()
            n_done += round((CHUNK_S - OVERLAP_S) * self.task.sample_rate)
            if on_progress is not None:
                on_progress(min(n_done / n_samples, 1.0))
            return estimate

        rate = self.task.sample_rate
        return {"estimate": separate_long(function, waveform, sample_rate=rate, chunk_s=CHUNK_S, overlap_s=OVERLAP_S)}

    def scores(self, batch: Mapping[str, Any], result: Mapping[str, Tensor]) -> tuple[TableData, list[str]]:
        scores = score_item(self.scorer, batch, result)
        return score_table(scores), [f"Not scored: {error}" for error in scores.errors]

    def notes(self, batch: Mapping[str, Any]) -> list[str]:
        words = "In this variant the mixture is the target, so there is nothing to improve."
        return [words] if bool(batch["degenerate"][0]) else []

    def gains(
        self, inputs: Signals, outputs: Signals, references: Signals
    ) -> tuple[Mapping[str, Sequence[float]], str]:
        """Bring estimates to the level of their target, or as prediction does to that in the recording."""
        estimates = outputs["estimate"]
        if "target" not in references:
            mixture = np.asarray(inputs["mixture"][0], dtype=np.float64)
            shared = np.array([estimate.astype(np.float64) @ mixture for estimate in estimates])
            power = np.array([np.square(estimate, dtype=np.float64).sum() for estimate in estimates])
            return {"estimate": input_gains(shared, power).tolist()}, "estimates as loud as they are in the recording"
        pairs = zip(estimates, references["target"], strict=True)
        return {"estimate": [level_gain(*pair) for pair in pairs]}, "estimates at their target's level"

    def close(self) -> None:
        self.scorer.close()


def open_scorer(sample_rate: int) -> PerceptualScorer:
    """Return PESQ, which is defined at 8 and 16 kHz only, and STOI."""
    metrics = ("pesq", "stoi") if sample_rate in PESQ_MODES else ("stoi",)
    return PerceptualScorer(sample_rate, n_processes=2, metrics=metrics)


def score_item(scorer: PerceptualScorer, batch: Mapping[str, Any], result: Mapping[str, Tensor]) -> Scores:
    """Return the scores of the one item of a batch, of which ``SeparationTask.evaluate_batch`` gave the result."""
    mixture, targets = batch["mixture"][0].numpy(), batch["target"][0].numpy()
    found = {name: value[0].cpu().numpy() for name, value in result.items() if value.ndim > 1}
    scorer.submit("item", "mixture", mixture, targets)
    scorer.submit("item", "estimate", found["estimate"], targets)
    perceived = scorer.collect()
    sides = [_arrays(perceived["item", role], len(targets)) for role in ("estimate", "mixture")]
    errors = [f"{role}: {reason}" for (_, role), item in perceived.items() for reason in item["errors"]]
    return Scores(
        permutation=found["permutation"],
        estimate={"si_sdr": found["si_sdr"], **sides[0]},
        mixture={"si_sdr": found["si_sdr_mixture"], **sides[1]},
        errors=tuple(errors),
    )


def score_table(scores: Scores) -> TableData:
    """Return one row per target: improvement of SI-SDR, then every metric before and after."""
    shown = [metric for metric in _SHOWN if metric.name in scores.estimate]
    several = len(scores.permutation) > 1
    rows = []
    for k, output in enumerate(scores.permutation):
        improvement = float(scores.si_sdri[k])
        cells = [Cell(f"{'+' if improvement > 0 else ''}{number(improvement, 2)} dB")]
        for metric in shown:
            before, after = float(scores.mixture[metric.name][k]), float(scores.estimate[metric.name][k])
            text = f"{number(after, metric.digits)} {metric.unit}".rstrip()
            cells.append(Cell(text, f"{number(before, metric.digits)} →"))
        label = f"Target {k + 1} from network output {output + 1}" if several else ""
        rows.append(TableRow((Cell(label), *cells)))
    return TableData(("", "SI-SDRi", *(metric.label for metric in shown)), tuple(rows))


def _arrays(item: Any, n_sources: int) -> dict[str, np.ndarray]:
    return {name: np.array(item[name]) for name in ("pesq", "stoi") if len(item.get(name, ())) == n_sources}
