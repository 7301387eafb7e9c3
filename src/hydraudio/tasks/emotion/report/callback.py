"""Report of a test of emotions: scores with intervals, calibration, slices, submission files, a page to listen to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from hydraudio.report.examples import ExamplePool
from hydraudio.report.media import Packed
from hydraudio.report.results import Written
from hydraudio.report.slices import slice_rows
from hydraudio.report.tables import TableData, count, write_csv
from hydraudio.tasks.emotion.report import slices, tables
from hydraudio.tasks.emotion.report.comparison import write_comparison
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES, CATEGORY, EmotionExample
from hydraudio.tasks.emotion.report.page import EmotionResults
from hydraudio.tasks.emotion.report.predictions import (
    PredictionTable,
    item_columns,
    item_rows,
    join,
    save_predictions,
    to_rating,
)
from hydraudio.tasks.emotion.report.scores import Options, broken_line, convention, score
from hydraudio.tasks.emotion.report.submission import write_submissions

PREDICTIONS_FILE, DETAILS_FILE = "predictions.npz", "details.json"


class EmotionReport(Report[PredictionTable | None, EmotionExample]):
    """Collect what `test_step` returns and write the report at the end of the test.

    Written are items.csv and predictions.npz (every prediction), summary.csv (every score with its interval),
    details.json (scores, classes, groups, slices and gaps, for programs), confusion.csv and .png, slices.csv,
    gender.csv, speakers.csv, submission files and index.html. Without labels there are predictions and submissions
    only.

    During training it fits the temperature of the logits at every validation; the checkpoint keeps it, so that a test
    says how well calibrated probabilities would be without having looked at the test set.

    Args:
        output_dir: folder of the report.
        min_items: slices and speakers with fewer items are suppressed.
        groups: which classes are head, middle and tail: `mode` explicit, fraction or count, with `head` and `mid`, or
            `thresholds`; see `hydraudio.metrics.class_groups.class_groups`. None = explicit, as usual for MSP-Podcast.
        **report_arguments: see :class:`hydraudio.report.callback.Report`; examples are chosen of categories and
            of attributes, speakers are resampled whole.
    """

    charts = {
        "Loss": ("train/loss", "val/loss"),
        "Validation: categories": ("val/macro_f1", "val/uar", "val/accuracy"),
        "Validation: CCC": ("val/ccc",),
    }

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

    @staticmethod
    def compare(reports: Mapping[str, Path], output_dir: Path, seed: int) -> Path:
        """Compare the reports of several checkpoints, by name; return the page."""
        return write_comparison(
            {name: folder / PREDICTIONS_FILE for name, folder in reports.items()}, output_dir, seed=seed
        )

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
            self._validated.append((_numpy(outputs["logits"]), batch["label"].cpu().numpy()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        parts = [part for process in all_gather(self._validated, trainer) for part in process]
        self._validated = []
        logits, labels = ([part[k] for part in parts] for k in (0, 1))
        self.temperature = _temperature(np.concatenate(logits), np.concatenate(labels)) if parts else None

    def begin(self, trainer: Trainer, task: Task) -> None:
        self._parts: list[PredictionTable] = []
        if self.checkpoint is not None:
            self.temperature = _stored_temperature(self.checkpoint, self.state_key)

    def collect(self, trainer: Trainer, task: Task, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        part = _predictions(outputs, batch, corpus_of(trainer), task)
        self._parts.append(part)
        max_samples = int(self.max_example_s * task.sample_rate)
        for group, scores in _example_scores(part).items():
            for index in np.flatnonzero(np.isfinite(scores)):
                self._offer(group, int(index), float(scores[index]), part, batch, max_samples)

    def collected(self) -> PredictionTable | None:
        parts, self._parts = self._parts, []
        return join(parts) if parts else None

    def write(
        self,
        trainer: Trainer,
        task: Task,
        parts: Sequence[PredictionTable | None],
        pool: ExamplePool[EmotionExample],
    ) -> Written:
        joined = [part for part in parts if part is not None]
        if not joined:
            raise ValueError(f"the test had no items, so there is nothing to report in {self.output_dir}")
        p, n_repeated = join(joined).unique()
        notes = write_submissions(self.output_dir, p)
        if n_repeated:
            notes.append(f"{count(n_repeated)} repetitions of the same item were left out")
        counts = getattr(corpus_of(trainer), "class_counts", None) if p.class_names else None
        results = EmotionResults(
            **self.common(trainer, task, pool, _asked(p), count(len(p))),
            predictions=p,
            scores=score(p, self.options, counts, self.temperature),
            slices=slices.slices(p, self.options),
            gaps=slices.gender_gaps(p, self.options),
            spread=slices.speaker_spread(p, self.options),
            convention=convention(p),
            notes=notes,
            n_repeated=n_repeated,
        )
        _write_tables(self.output_dir, results)
        return Written(
            page=self.write_page(task, results),
            scores=results.scores.intervals,
            information=results.information,
            tables=list(_printed_tables(results)),
            lines=list(_printed_lines(results)),
        )

    def _offer(
        self, group: str, index: int, score: float, part: PredictionTable, batch: Mapping[str, Any], max_samples: int
    ) -> None:
        item_id, path = str(part.ids[index]), str(part.path[index])

        def make() -> EmotionExample:
            sound = None
            if "waveform" in batch:
                n_samples = min(int(batch["lengths"][index]), max_samples)
                sound = Packed.of(to_numpy(batch["waveform"][index, :n_samples]))
            return EmotionExample(group, item_id, score, path, sound)

        self.pool.offer(group, item_id, score, make)


def _write_tables(folder: Path, results: EmotionResults) -> None:
    """Everything but the page and the submissions."""
    p, scores = results.predictions, results.scores
    write_csv(folder / "items.csv", item_rows(p), item_columns(p))
    save_predictions(folder / PREDICTIONS_FILE, p)
    summary = tables.summary(p, scores, results.slices, results.gaps, results.information, results.convention)
    write_json(folder / DETAILS_FILE, summary)
    write_csv(folder / "summary.csv", tables.summary_rows(scores))
    write_csv(folder / "slices.csv", slice_rows(results.slices))
    write_csv(folder / "gender.csv", slices.gap_rows(results.gaps))
    write_csv(folder / "speakers.csv", results.spread.rows, slices.SPEAKER_COLUMNS)
    if scores.per_class:
        write_csv(folder / "confusion.csv", tables.confusion_rows(scores, p.class_names))
        write_bytes(folder / "confusion.png", heat_png(scores.per_class["confusion"], p.class_names))


def _printed_tables(results: EmotionResults) -> Iterator[tuple[str, TableData]]:
    scores = results.scores
    if scores.per_class:
        yield "Test, with 95 % intervals", tables.category_table(scores)
    if scores.n_rated:
        attributes = tables.attribute_table(scores, results.predictions.attribute_names)
        yield "Attributes, with 95 % intervals", attributes


def _printed_lines(results: EmotionResults) -> Iterator[str]:
    scores = results.scores
    if scores.n_broken:
        yield broken_line(scores)
    if not scores.intervals:
        yield f"None of the {scores.n_items} items has a label: nothing can be scored."


def _predictions(outputs: Mapping[str, Any], batch: Mapping[str, Any], corpus: object, task: Task) -> PredictionTable:
    """Everything about the items of a batch; heads that the network lacks have no columns."""
    class_names, attribute_names = (tuple(getattr(task, name)) for name in ("class_names", "attribute_names"))
    letters = tuple(getattr(corpus, "class_letters", ())) if class_names else ()
    n = len(batch["id"])
    metadata: list[Mapping[str, Any]] = batch["metadata"]
    nothing = np.zeros((n, 0))
    text = {key: np.array([str(m.get(key) or "") for m in metadata]) for key in ("split", "podcast", "path", "speaker")}
    durations = [m.get("duration_s") for m in metadata]
    return PredictionTable(
        class_names=class_names,
        class_letters=letters,
        attribute_names=attribute_names,
        ids=np.array(batch["id"], dtype=np.str_),
        **text,
        gender=batch["gender"].cpu().numpy().astype(np.int64),
        duration_s=np.array([np.nan if d is None else d for d in durations], dtype=np.float64),
        labels=batch["label"].cpu().numpy().astype(np.int64) if class_names else np.full(n, NO_LABEL),
        logits=_numpy(outputs["logits"]) if class_names else nothing,
        probabilities=_numpy(outputs["probabilities"]) if class_names else nothing,
        votes=_numpy(batch["votes"]) if class_names else nothing,
        attributes=_numpy(outputs["attributes"]) if attribute_names else nothing,
        attribute_targets=_numpy(batch["attributes"]) if attribute_names else nothing,
    )


def _example_scores(part: PredictionTable) -> dict[str, NDArray[np.float64]]:
    """By group of examples (n,), more is better; NaN for items that cannot be scored."""
    scores = {CATEGORY: -part.nll} if part.class_names else {}
    if part.attribute_names:
        errors = np.abs(to_rating(part.attributes) - to_rating(part.attribute_targets))
        worst = np.where(np.isnan(errors), -np.inf, errors).max(axis=1)
        scores[ATTRIBUTES] = np.where(part.rated, -worst, np.nan)
    return scores


def _numpy(tensor: Any) -> NDArray[np.float64]:
    return to_numpy(tensor).astype(np.float64)


def _temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    """Of the labelled items; None without any, or where the network has diverged."""
    known = (labels != NO_LABEL) & np.isfinite(logits).all(axis=1)
    return fit_temperature(logits[known], labels[known]) if known.any() else None


def _stored_temperature(checkpoint: str, key: str) -> float | None:
    """The temperature that a checkpoint keeps; None where it was saved without one."""
    state = read_checkpoint(checkpoint, mmap=True).get("callbacks", {}).get(key)
    return None if state is None else state["temperature"]


def _asked(p: PredictionTable) -> dict[str, str]:
    """What the network had to say about every item."""
    heads = [f"{len(p.class_names)} classes"] if p.class_names else []
    heads += [", ".join(p.attribute_names)] if p.attribute_names else []
    return {
        "Predicts": " and ".join(heads),
        "Classes": ", ".join(p.class_names) or "none",
        "Splits": ", ".join(sorted(set(p.split.tolist()))),
    }
