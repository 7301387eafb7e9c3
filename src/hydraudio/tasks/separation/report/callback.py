"""Report of a separation or enhancement test: tables per item, variant and slice, and a page to listen to."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich import get_console

from hydraudio.core.distributed import gather
from hydraudio.report.curves import curves_of_runs
from hydraudio.report.examples import Example, ExamplePool
from hydraudio.report.facts import computation_facts, corpus_facts, tested_checkpoint
from hydraudio.report.tables import Row, count, is_number
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer, Role
from hydraudio.tasks.separation.report.comparison import write_comparison
from hydraudio.tasks.separation.report.cross_corpus import CellSource, write_matrix
from hydraudio.tasks.separation.report.files import WrittenReport, print_report, write_report
from hydraudio.tasks.separation.report.page import CURVES, SeparationResults
from hydraudio.tasks.separation.report.summaries import METADATA, SI_SDR, set_scores, unique_items

log = logging.getLogger(__name__)

_ROLES: tuple[tuple[Role, str], ...] = (("mixture", "_mixture"), ("estimate", ""))


class SeparationReport(Callback):
    """Collects what `evaluate_batch` returns during a test and writes the report at its end.

    Written are items.csv, variants.csv, slices.csv and index.html. Degenerate items (input equals target) are
    reported apart and never averaged. An item that a metric cannot score keeps its place; it is counted and
    listed with the reason.

    Args:
        output_dir: folder of the report; made when the test starts.
        metrics: "full", or "fast" without PESQ and STOI.
        n_processes: processes that compute PESQ and STOI; None shares out all cores.
        cache_dir: where PESQ and STOI of the mixtures are kept between tests; None keeps nothing.
        n_examples: how many best, worst and typical items of each variant one can listen to.
        n_bootstrap: resamples of each 95 % interval.
        seed: of the bootstrap and of the candidates for typical items.
        checkpoint: file that the weights came from, where the trainer was not the one who loaded it.
        max_page_mb: size of index.html, in 10^6 bytes, up to which examples are added.
        max_example_s: longer examples are cut to this length, in seconds.
    """

    def __init__(
        self,
        output_dir: str | Path,
        metrics: Literal["full", "fast"] = "full",
        n_processes: int | None = None,
        cache_dir: str | Path | None = None,
        n_examples: int = 2,
        n_bootstrap: int = 2000,
        seed: int = 0,
        checkpoint: str | None = None,
        max_page_mb: float = 8.0,
        max_example_s: float = 10.0,
    ) -> None:
        if metrics not in ("full", "fast"):
            raise ValueError(f'metrics={metrics!r} must be "full" or "fast" (without PESQ and STOI)')
        self.output_dir = Path(output_dir)
        self.metrics, self.n_processes, self.cache_dir = metrics, n_processes, cache_dir
        self.n_examples, self.bootstrap = n_examples, Bootstrap(n_bootstrap, seed)
        self.checkpoint, self.max_page_mb, self.max_example_s = checkpoint, max_page_mb, max_example_s
        self._scorer: PerceptualScorer | None = None
        self._finished: WrittenReport | None = None

    @staticmethod
    def compare(reports: Mapping[str, Path], output_dir: Path, seed: int) -> Path:
        """Compares the reports of several checkpoints, by name; returns the page."""
        return write_comparison({name: folder / "items.csv" for name, folder in reports.items()}, output_dir, seed=seed)

    @staticmethod
    def compare_corpora(cells: Mapping[tuple[str, str], Path | str], output_dir: Path, seed: int) -> Path:
        """Writes one table of all models on all corpora.

        Args:
            cells: by (model, corpus) the folder of the report, or the reason why there is none.
            output_dir: gets the files.
            seed: of the bootstrap.
        """
        sources = [
            CellSource(*key, reason=found) if isinstance(found, str) else CellSource(*key, items=found / "items.csv")
            for key, found in cells.items()
        ]
        return write_matrix(sources, output_dir, seed=seed)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finished = None
        self._rows: dict[tuple[str, str], Row] = {}
        self._n_repeated = 0
        self._examples: ExamplePool[Example] = ExamplePool(self.n_examples, self.bootstrap.seed)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        if self.metrics == "full":
            self._scorer = self._start_scorer(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, torch.Tensor],  # type: ignore[override]
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        max_samples = int(self.max_example_s * pl_module.sample_rate)  # type: ignore[operator]
        for row, mixture, targets, estimates in _items(outputs, batch):
            key = str(row["variant"]), str(row["id"])
            if key in self._rows:
                self._n_repeated += 1
                continue
            self._rows[key] = row
            if not row["degenerate"]:
                self._score(key, mixture, targets, estimates)
                self._offer(row, mixture, targets, estimates, max_samples)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collect_scores()
        gathered = gather((list(self._rows.values()), self._examples.examples(), self._n_repeated), trainer)
        if not trainer.is_global_zero:
            return
        examples: ExamplePool[Example] = ExamplePool(self.n_examples, self.bootstrap.seed)
        for _, kept, _ in gathered:
            examples.add(kept)
        rows, n_repeated = unique_items(row for process_rows, _, _ in gathered for row in process_rows)
        n_repeated += sum(n for _, _, n in gathered)
        results = self._results(trainer, pl_module, rows, examples, n_repeated)
        self._finished = write_report(self.output_dir, results, self.bootstrap)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close_scorer()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prints the table below Lightning's own, through the console that the rich progress bar uses too."""
        if stage == "test" and self._finished is not None:
            print_report(get_console(), self._finished)
            self._finished = None

    def _start_scorer(self, trainer: Trainer, pl_module: LightningModule) -> PerceptualScorer:
        data = getattr(trainer, "datamodule", None)
        corpus = [str(getattr(data, name, "unknown")) for name in ("fingerprint", "problem")]
        n_processes = self.n_processes
        if n_processes is None and trainer.world_size > 1:
            n_processes = max(1, (os.cpu_count() or 1) // trainer.num_devices)
        return PerceptualScorer(
            int(pl_module.sample_rate),  # type: ignore[arg-type]
            n_processes=n_processes,
            cache_dir=self.cache_dir,
            cache_key="-".join(corpus),
        )

    def _score(self, key: tuple[str, str], mixture: np.ndarray, targets: np.ndarray, estimates: np.ndarray) -> None:
        if self._scorer is not None:
            self._scorer.submit("/".join(key), "mixture", mixture, targets)
            self._scorer.submit("/".join(key), "estimate", estimates, targets)

    def _offer(
        self, row: Row, mixture: np.ndarray, targets: np.ndarray, estimates: np.ndarray, max_samples: int
    ) -> None:
        variant, item_id, score = str(row["variant"]), str(row["id"]), float(row["si_sdri"])  # type: ignore[arg-type]

        def make() -> Example:
            signals = (x[..., :max_samples].copy() for x in (mixture, targets, estimates))
            return Example(variant, item_id, score, *signals)

        self._examples.offer(variant, item_id, score, make)

    def _collect_scores(self) -> None:
        if self._scorer is None:
            return
        scores = self._scorer.collect()
        self._close_scorer()
        for key, row in self._rows.items():
            for role, ending in _ROLES:
                found = scores.get(("/".join(key), role))
                if found is not None:
                    set_scores(row, f"pesq{ending}", found["pesq"])
                    set_scores(row, f"stoi{ending}", found["stoi"])
                    _add_errors(row, [f"{role}: {reason}" for reason in found["errors"]])

    def _close_scorer(self) -> None:
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None

    def _results(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        rows: list[Row],
        examples: ExamplePool[Example],
        n_repeated: int,
    ) -> SeparationResults:
        information = _information(trainer, pl_module, self.bootstrap, len(rows))
        checkpoint = tested_checkpoint(trainer, self.checkpoint)
        return SeparationResults(
            title=f"{self.output_dir.parent.parent.name}: separation test",
            subtitle=f"Run {self.output_dir.parent.name} · {information['Network']} · {information['Problem']}",
            information={"Checkpoint": checkpoint, **information},
            rows=rows,
            curves=curves_of_runs((self.output_dir.parent, Path(checkpoint).parent.parent), CURVES),
            examples=examples,
            sample_rate=int(pl_module.sample_rate),  # type: ignore[arg-type]
            n_sources=int(pl_module.n_sources),  # type: ignore[arg-type]
            n_repeated=n_repeated,
            max_page_mb=self.max_page_mb,
        )


def _items(
    outputs: Mapping[str, torch.Tensor], batch: Mapping[str, Any]
) -> Iterator[tuple[Row, np.ndarray, np.ndarray, np.ndarray]]:
    """Row, mixture (time,), targets and estimates (n_sources, time) of each item, without padding."""
    arrays = {name: _numpy(outputs[name]) for name in ("estimate", "permutation", *SI_SDR)}
    mixture, target = _numpy(batch["mixture"]), _numpy(batch["target"])
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


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(device="cpu", dtype=torch.float32).numpy()


def _information(trainer: Trainer, pl_module: LightningModule, bootstrap: Bootstrap, n_rows: int) -> dict[str, str]:
    """What was tested, with what."""
    data = getattr(trainer, "datamodule", None)
    net: torch.nn.Module = pl_module.net  # type: ignore[assignment]
    n_parameters = sum(parameter.numel() for parameter in net.parameters())
    return {
        "Network": f"{type(net).__name__}, {count(n_parameters)} parameters",
        "Problem": str(getattr(data, "problem", type(pl_module).__name__)),
        **corpus_facts(trainer, pl_module),
        **computation_facts(trainer),
        "Items": f"{count(n_rows)} (each recording once per variant)",
        "Intervals": f"95 %, {bootstrap.n_bootstrap} bootstrap resamples, seed {bootstrap.seed}",
    }
