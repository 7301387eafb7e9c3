"""Report of a test of classes: scores with intervals, calibration, slices, a page to look at and listen to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray

from hydraudio.core.checkpoints import read_checkpoint
from hydraudio.core.corpus import corpus_of
from hydraudio.core.distributed import all_gather
from hydraudio.core.files import write_bytes, write_json
from hydraudio.core.task import Task
from hydraudio.metrics.calibration import fit_temperature
from hydraudio.metrics.class_groups import class_groups
from hydraudio.metrics.classification import NO_LABEL
from hydraudio.report.callback import Report, to_numpy
from hydraudio.report.charts import heat_png
from hydraudio.report.classification import tables
from hydraudio.report.classification.comparison import write_comparison
from hydraudio.report.classification.examples import CATEGORY, ClassExample
from hydraudio.report.classification.page import ClassificationResults
from hydraudio.report.classification.predictions import PredictionTable, Table, join
from hydraudio.report.classification.scores import Options, score, slices
from hydraudio.report.examples import ExamplePool
from hydraudio.report.media import Packed
from hydraudio.report.results import Written
from hydraudio.report.slices import slice_rows
from hydraudio.report.tables import TableData, count, write_csv

PREDICTIONS_FILE, DETAILS_FILE = "predictions.npz", "details.json"


class ClassificationReport(Report[Table | None, ClassExample], Generic[Table]):
    """Collect what `test_step` returns and write the report at the end of the test.

    Written are items.csv and predictions.npz (every prediction), summary.csv (every score with its interval),
    details.json (scores, classes, groups and slices, for programs), confusion.csv and .png, slices.csv and index.html.
    Without labels there are predictions only.

    During training it fits the temperature of the logits at every validation; the checkpoint keeps it, so that a test
    says how well calibrated probabilities would be without having looked at the test set.

    A floor says how a :meth:`table` of its items is made, and overrides what shows more than classes.

    Args:
        output_dir: folder of the report.
        min_items: slices with fewer items are suppressed.
        groups: which classes are head, middle and tail: `mode` explicit, fraction or count, with `head` and `mid`, or
            `thresholds`; see `hydraudio.metrics.class_groups.class_groups`. None = the classes have no groups.
        **report_arguments: see :class:`hydraudio.report.callback.Report`.
    """

    charts: ClassVar[Mapping[str, Sequence[str]]] = {
        "Loss": ("train/loss", "val/loss"),
        "Validation: classes": ("val/macro_f1", "val/uar", "val/accuracy"),
    }
    kind: ClassVar[type[PredictionTable]] = PredictionTable
    resampled: ClassVar[str] = "item"
    """What a bootstrap draws."""

    def __init__(
        self,
        output_dir: str | Path,
        min_items: int = 30,
        groups: Mapping[str, Any] | None = None,
        **report_arguments: Any,
    ) -> None:
        super().__init__(output_dir, **report_arguments)
        if min_items < 1:
            raise ValueError(f"min_items={min_items} must be at least 1")
        class_groups([], [], **(groups or {}))  # a wrong mode is known before the training
        self.options = Options(self.bootstrap.n_bootstrap, self.bootstrap.seed, min_items, dict(groups or {}))
        self.temperature: float | None = None
        self._validated: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []

    @classmethod
    def compare(cls, reports: Mapping[str, Path], output_dir: Path, seed: int) -> Path:
        """Compare the reports of several checkpoints, by name; return the page."""
        files = {name: folder / PREDICTIONS_FILE for name, folder in reports.items()}
        return write_comparison(files, output_dir, cls.kind, cls.resampled, seed=seed)

    def state_dict(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.temperature = state_dict["temperature"]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if isinstance(outputs, Mapping) and "logits" in outputs:
            self._validated.append((numpy_of(outputs["logits"]), batch["label"].cpu().numpy()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        parts = [part for process in all_gather(self._validated, trainer) for part in process]
        self._validated = []
        logits, labels = ([part[k] for part in parts] for k in (0, 1))
        self.temperature = _temperature(np.concatenate(logits), np.concatenate(labels)) if parts else None

    def table(self, outputs: Mapping[str, Any], batch: Mapping[str, Any], corpus: object, task: Task) -> Table:
        """Everything about the items of a batch."""
        raise NotImplementedError

    def example_scores(self, part: Table) -> dict[str, NDArray[np.float64]]:
        """By group of examples (n,), more is better; NaN for items that cannot be scored."""
        return {CATEGORY: -part.nll} if part.class_names else {}

    def asked(self, p: Table) -> dict[str, str]:
        """What the network had to say about every item, by name."""
        splits = ", ".join(sorted(set(p.split.tolist())))
        return {"Predicts": p.asked, "Classes": ", ".join(p.class_names) or "none", "Splits": splits}

    def notes(self, p: Table) -> list[str]:
        """Write further files and return a line on each."""
        return []

    def results(self, p: Table, common: Mapping[str, Any]) -> ClassificationResults:
        """Everything that the page shows. common: arguments of :class:`ClassificationResults`."""
        return ClassificationResults(**common)

    def write_tables(self, results: Any) -> None:
        """Write everything but the page and what :meth:`notes` writes. results: those of :meth:`results`."""
        folder, p, scores = self.output_dir, results.predictions, results.scores
        write_csv(folder / "items.csv", p.rows(), list(p.select(np.arange(0)).columns()))
        p.save(folder / PREDICTIONS_FILE)
        write_json(folder / DETAILS_FILE, self.summary(results))
        write_csv(folder / "summary.csv", tables.summary_rows(scores))
        write_csv(folder / "slices.csv", slice_rows(results.slices))
        if scores.per_class:
            write_csv(folder / "confusion.csv", tables.confusion_rows(scores, p.class_names))
            write_bytes(folder / "confusion.png", heat_png(scores.per_class["confusion"], p.class_names))

    def summary(self, results: Any) -> dict[str, Any]:
        """The content of details.json."""
        return tables.summary(results.predictions, results.scores, results.slices, results.information)

    def printed_tables(self, results: Any) -> Iterator[tuple[str, TableData]]:
        """Yield title and content of the tables for the terminal."""
        if results.scores.per_class:
            yield "Test, with 95 % intervals", results.score_tables[0]

    def begin(self, trainer: Trainer, task: Task) -> None:
        self._parts: list[Table] = []
        if self.checkpoint is not None:
            self.temperature = _stored_temperature(self.checkpoint, self.state_key)

    def collect(self, trainer: Trainer, task: Task, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        part = self.table(outputs, batch, corpus_of(trainer), task)
        self._parts.append(part)
        max_samples = int(self.max_example_s * task.sample_rate)
        for group, scores in self.example_scores(part).items():
            for index in np.flatnonzero(np.isfinite(scores)):
                self._offer(group, int(index), float(scores[index]), part, batch, max_samples)

    def collected(self) -> Table | None:
        parts, self._parts = self._parts, []
        return join(parts) if parts else None

    def write(
        self, trainer: Trainer, task: Task, parts: Sequence[Table | None], pool: ExamplePool[ClassExample]
    ) -> Written:
        joined = [part for part in parts if part is not None]
        if not joined:
            raise ValueError(f"the test had no items, so there is nothing to report in {self.output_dir}")
        p, n_repeated = join(joined).unique()
        notes = self.notes(p)
        if n_repeated:
            notes.append(f"{count(n_repeated)} repetitions of the same item were left out")
        class_counts = getattr(corpus_of(trainer), "class_counts", None) if p.class_names else None
        common = self.common(trainer, task, pool, self.asked(p), count(len(p))) | {
            "predictions": p,
            "scores": score(p, self.options, class_counts, self.temperature),
            "slices": slices(p, self.options),
            "resampled": self.resampled,
            "notes": notes,
            "n_repeated": n_repeated,
        }
        results = self.results(p, common)
        self.write_tables(results)
        scores = results.scores
        nothing = f"None of the {scores.n_items} items has a label: nothing can be scored."
        lines = [scores.broken_line, "" if scores.intervals else nothing]
        return Written(
            page=self.write_page(task, results),
            scores=scores.intervals,
            information=results.information,
            tables=list(self.printed_tables(results)),
            lines=[line for line in lines if line],
        )

    def _offer(
        self, group: str, index: int, score: float, part: PredictionTable, batch: Mapping[str, Any], max_samples: int
    ) -> None:
        item_id, path = str(part.ids[index]), str(part.path[index])

        def make() -> ClassExample:
            sound = None
            if "waveform" in batch:
                n_samples = min(int(batch["lengths"][index]), max_samples)
                sound = Packed.of(to_numpy(batch["waveform"][index, :n_samples]))
            return ClassExample(group, item_id, score, path, sound)

        self.pool.offer(group, item_id, score, make)


def numpy_of(tensor: Any) -> NDArray[np.float64]:
    """The tensor in double precision."""
    return to_numpy(tensor).astype(np.float64)


def _temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    """Of the labelled items; None without any, or where the network has diverged."""
    known = (labels != NO_LABEL) & np.isfinite(logits).all(axis=1)
    return fit_temperature(logits[known], labels[known]) if known.any() else None


def _stored_temperature(checkpoint: str, key: str) -> float | None:
    """The temperature that a checkpoint keeps; None where it was saved without one."""
    state = read_checkpoint(checkpoint, mmap=True).get("callbacks", {}).get(key)
    return None if state is None else state["temperature"]
