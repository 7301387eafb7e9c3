"""Report of a separation or enhancement test: tables per item, variant and slice, and a page to listen to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from hydraudio.core.corpus import corpus_of
from hydraudio.core.options import check_choice
from hydraudio.core.task import Task
from hydraudio.report.callback import Report, to_numpy
from hydraudio.report.examples import ExamplePool
from hydraudio.report.media import Packed
from hydraudio.report.results import Written
from hydraudio.report.slices import slice_rows
from hydraudio.report.tables import Row, count, floats, is_number, write_csv
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer, Role
from hydraudio.tasks.separation.report.comparison import write_comparison
from hydraudio.tasks.separation.report.page import Example, SeparationResults
from hydraudio.tasks.separation.report.summaries import (
    METADATA,
    PERCEPTUAL,
    SI_SDR,
    Perceptual,
    degenerate_line,
    item_columns,
    problems,
    set_scores,
    slices,
    summarise,
    summary_rows,
    summary_table,
    unique_items,
)

_ROLES: tuple[tuple[Role, str], ...] = (("mixture", "_mixture"), ("estimate", ""))
_MAX_PRINTED_PROBLEMS = 5

Key = tuple[str, str]
"""Variant and id of an item."""


class SeparationReport(Report[tuple[list[Row], int], Example]):
    """Collect what `evaluate_batch` returns during a test and write the report at its end.

    Written are items.csv, variants.csv, slices.csv and index.html. Degenerate items (input equals target) are
    reported apart and never averaged. An item that a metric cannot score keeps its place; it is counted and
    listed with the reason.

    Args:
        output_dir: folder of the report.
        metrics: "full" (SI-SDR, PESQ and STOI), "fast" (SI-SDR), or a list of si_sdr, pesq and stoi. SI-SDR is computed
            in any case.
        n_processes: processes that compute PESQ and STOI; None shares out all cores.
        cache_dir: where PESQ and STOI of the mixtures are kept between tests; None keeps nothing.
        **report_arguments: see :class:`hydraudio.report.callback.Report`; examples are chosen of every variant.
    """

    charts = {"Loss": ("train/loss", "val/loss"), "Validation: SI-SDR improvement / dB": ("val/si_sdri",)}

    def __init__(
        self,
        output_dir: str | Path,
        metrics: Literal["full", "fast"] | Sequence[Literal["si_sdr", "pesq", "stoi"]] = "full",
        n_processes: int | None = None,
        cache_dir: str | Path | None = None,
        **report_arguments: Any,
    ) -> None:
        super().__init__(output_dir, **report_arguments)
        self.perceptual = _perceptual(metrics)
        self.n_processes, self.cache_dir = n_processes, cache_dir
        self._scorer: PerceptualScorer | None = None

    @staticmethod
    def compare(reports: Mapping[str, Path], output_dir: Path, seed: int) -> Path:
        """Compare the reports of several checkpoints, by name; return the page."""
        return write_comparison({name: folder / "items.csv" for name, folder in reports.items()}, output_dir, seed=seed)

    def begin(self, trainer: Trainer, task: Task) -> None:
        self._rows: dict[Key, Row] = {}
        self._n_repeated = 0
        if self.perceptual:
            self._scorer = self._start_scorer(trainer, task)

    def collect(self, trainer: Trainer, task: Task, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        max_samples = int(self.max_example_s * task.sample_rate)
        for row, mixture, targets, estimates in _items(outputs, batch):
            key = str(row["variant"]), str(row["id"])
            if key in self._rows:
                self._n_repeated += 1
                continue
            self._rows[key] = row
            if not row["degenerate"]:
                self._score(key, mixture, targets, estimates)
                self._offer(key, row, mixture, targets, estimates, max_samples)

    def collected(self) -> tuple[list[Row], int]:
        self._collect_scores()
        return list(self._rows.values()), self._n_repeated

    def write(
        self, trainer: Trainer, task: Task, parts: Sequence[tuple[list[Row], int]], pool: ExamplePool[Example]
    ) -> Written:
        """Write items.csv, variants.csv, slices.csv and index.html."""
        rows, n_repeated = unique_items(row for process_rows, _ in parts for row in process_rows)
        if not rows:
            raise ValueError(f"the test had no items, so there is nothing to report in {self.output_dir}")
        summaries, found = summarise(rows, self.bootstrap), slices(rows, self.bootstrap)
        asked = {"Problem": str(getattr(corpus_of(trainer), "problem", type(task).__name__))}
        n_items = f"{count(len(rows))} (each recording once per variant)"
        results = SeparationResults(
            **self.common(trainer, task, pool, asked, n_items),
            rows=rows,
            summaries=summaries,
            slices=found,
            n_repeated=n_repeated + sum(n for _, n in parts),
        )
        columns = item_columns(int(getattr(task, "n_sources", 1)), self.perceptual)
        write_csv(self.output_dir / "items.csv", rows, columns)
        write_csv(self.output_dir / "variants.csv", summary_rows(summaries))
        write_csv(self.output_dir / "slices.csv", slice_rows(found))
        table = summary_table(summaries)
        return Written(
            page=self.write_page(task, results),
            scores=next((s.scores for s in summaries if s.kind == "macro"), {}),
            information=results.information,
            tables=[("Test per variant, with 95 % intervals", table)] if table.rows else [],
            lines=[*(degenerate_line(s) for s in summaries if s.kind == "degenerate"), *_printed(problems(rows))],
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close_scorer()

    def _start_scorer(self, trainer: Trainer, task: Task) -> PerceptualScorer:
        corpus = [str(getattr(corpus_of(trainer), name, "unknown")) for name in ("fingerprint", "problem")]
        n_processes = self.n_processes
        if n_processes is None and trainer.world_size > 1:
            n_processes = max(1, (os.cpu_count() or 1) // trainer.num_devices)
        return PerceptualScorer(
            task.sample_rate,
            n_processes=n_processes,
            cache_dir=self.cache_dir,
            cache_key="-".join(corpus),
            metrics=self.perceptual,
        )

    def _score(self, key: Key, mixture: np.ndarray, targets: np.ndarray, estimates: np.ndarray) -> None:
        if self._scorer is not None:
            self._scorer.submit("/".join(key), "mixture", mixture, targets)
            self._scorer.submit("/".join(key), "estimate", estimates, targets)

    def _offer(
        self, key: Key, row: Row, mixture: np.ndarray, targets: np.ndarray, estimates: np.ndarray, max_samples: int
    ) -> None:
        (score,) = floats([row], "si_sdri")

        def make() -> Example:
            return Example(*key, score, *(Packed.of(x[..., :max_samples]) for x in (mixture, targets, estimates)))

        self.pool.offer(*key, score, make)

    def _collect_scores(self) -> None:
        if self._scorer is None:
            return
        scores = self._scorer.collect()
        self._close_scorer()
        for key, row in self._rows.items():
            for role, ending in _ROLES:
                found = scores.get(("/".join(key), role))
                if found is not None:
                    for metric in self.perceptual:
                        set_scores(row, f"{metric}{ending}", found[metric])
                    _add_errors(row, [f"{role}: {reason}" for reason in found["errors"]])

    def _close_scorer(self) -> None:
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None


def _perceptual(metrics: str | Sequence[str]) -> tuple[Perceptual, ...]:
    """Those of PESQ and STOI that are asked for, in this order."""
    if metrics in ("full", "fast"):
        return PERCEPTUAL if metrics == "full" else ()
    if isinstance(metrics, str) or not metrics:
        raise ValueError(f"metrics={metrics!r} must be full, fast, or a list of si_sdr, pesq and stoi")
    names = [check_choice("metrics", name, ("si_sdr", *PERCEPTUAL)) for name in metrics]
    return tuple(name for name in PERCEPTUAL if name in names)


def _items(
    outputs: Mapping[str, torch.Tensor], batch: Mapping[str, Any]
) -> Iterator[tuple[Row, np.ndarray, np.ndarray, np.ndarray]]:
    """Row, mixture (time,), targets and estimates (n_sources, time) of each item, without padding."""
    arrays = {name: to_numpy(outputs[name]) for name in ("estimate", "permutation", *SI_SDR)}
    mixture, target = to_numpy(batch["mixture"]), to_numpy(batch["target"])
    lengths, degenerate = batch["lengths"].tolist(), batch["degenerate"].tolist()
    metadata = batch.get("metadata") or [{}] * len(lengths)
    for index, length in enumerate(lengths):
        row: Row = {
            "id": batch["id"][index],
            "variant": batch["variant"][index],
            "degenerate": degenerate[index],
        }
        row |= {name: metadata[index].get(name) for name in METADATA}
        row["permutation"] = " ".join(str(int(k)) for k in arrays["permutation"][index])
        for metric in SI_SDR:
            set_scores(row, metric, arrays[metric][index])
        _add_errors(row, _signal_errors(row))
        yield row, mixture[index, :length], target[index, :, :length], arrays["estimate"][index, :, :length]


def _signal_errors(row: Row) -> list[str]:
    return [f"{metric} is {row[metric]}" for metric in SI_SDR if not is_number(row[metric])]


def _add_errors(row: Row, reasons: Sequence[str]) -> None:
    if reasons:
        row["error"] = "; ".join([*([str(row["error"])] if row.get("error") else []), *reasons])


def _printed(lines: list[str]) -> list[str]:
    if not lines:
        return []
    head = f"Not completely scored: {len(lines)} of all items (column error of items.csv), such as"
    return [head, *(f"  {line}" for line in lines[:_MAX_PRINTED_PROBLEMS])]
