"""Report of the test of a pretraining: losses, what the embeddings are worth, and reconstructions to see and hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from markupsafe import Markup

from hydraudio.core.task import Task
from hydraudio.report.callback import Report, to_numpy
from hydraudio.report.examples import ExamplePool
from hydraudio.report.media import data_uri, picture_png, signals
from hydraudio.report.page import render
from hydraudio.report.results import Group, Results, Written
from hydraudio.report.tables import Cell, Row, TableData, TableRow, count, interval_cell, number, write_csv
from hydraudio.stats.intervals import Interval, bootstrap_mean
from hydraudio.tasks.pretraining.reconstruction import Reconstruction, reconstruct
from hydraudio.tasks.pretraining.task import MAETask

_CLIPS = "clips"
_LEGEND = (
    "The first window of each clip. Below each other: the input, what the encoder saw of it, the prediction of every "
    "patch, and the prediction where the input was hidden. All four share the colours of the input. Of normalised "
    "patches (model.net.target=patch_normalized) the mean and the deviation are those of the input, only the shape is "
    "predicted. The sounds have estimated phases (Griffin-Lim): compare them with the input's, which has them too."
)
_NOTES = {
    "loss": "mean squared error over the hidden patches",
    "baseline_loss": "the same of a network that always gives the mean: what must be beaten",
    "relative_loss": "the one by the other, 1 = nothing learned",
    "visible_loss": "of the patches that the encoder saw; nothing is trained for it",
    "knn_accuracy": "how often the nearest training clips vote for the right class",
    "rankme": "directions that the embeddings fill, 1 = collapsed",
}


@dataclass(frozen=True)
class Example:
    """A reconstruction; score is the loss with a minus."""

    group: str
    item_id: str
    score: float
    found: Reconstruction


@dataclass(frozen=True, kw_only=True)
class PretrainingResults(Results[Example]):
    """Everything that the page shows. losses: (n,) of all clips; scores: by name of the metric, in their order."""

    losses: Sequence[float]
    scores: Mapping[str, Interval]
    labels: Mapping[str, str]
    digits: Mapping[str, int]

    def groups(self) -> list[Group]:
        return [Group(_CLIPS, "Clips", [-loss for loss in self.losses], self.examples.n_examples, _LEGEND)]

    def card(self, kind: str, example: Example, is_open: bool) -> Markup:
        found = example.found
        low, high = float(found.input.min()), float(found.input.max())
        pictures = [(name, data_uri(picture_png(values.T, low, high), "image/png")) for name, values in found.pictures]
        heard = signals(list(found.sounds.items()), self.sample_rate)
        heading = f"loss {number(found.loss, 3)}"
        return render(
            f"{__package__}/page.html", "reconstruction", kind, heading, example.item_id, pictures, heard, is_open
        )

    @property
    def headlines(self) -> list[tuple[str, Cell]]:
        """The loss against that of the mean, and what the embeddings are worth."""
        chosen = ("relative_loss", "knn_accuracy", "rankme")
        return [
            (self.labels[name], interval_cell(self.scores[name], self.digits[name]))
            for name in chosen
            if name in self.scores
        ]

    @property
    def score_table(self) -> TableData:
        """Name, value and meaning of each score."""
        rows = [
            TableRow((Cell(self.labels[name], _NOTES[name]), interval_cell(interval, self.digits[name])))
            for name, interval in self.scores.items()
        ]
        return TableData(("", "Test"), tuple(rows))


class PretrainingReport(Report[tuple[list[Row], int], Example]):
    """Collect the losses of a test and write items.csv and index.html at its end.

    Args:
        **report_arguments: see :class:`hydraudio.report.callback.Report`; examples are the clips of highest, of lowest
            and of typical loss.
    """

    charts = {
        "Loss, and that of the mean": ("train/loss", "val/loss", "val/baseline_loss"),
        "Validation: nearest neighbours": ("val/knn_accuracy",),
        "Validation: RankMe": ("val/rankme",),
    }

    def begin(self, trainer: Trainer, task: Task) -> None:
        self._rows: dict[str, Row] = {}
        self._n_repeated = 0

    def collect(self, trainer: Trainer, task: Task, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        assert isinstance(task, MAETask), "this report is of a pretraining"
        names, labels = task.class_names, batch["label"].tolist()
        for index, (item_id, loss) in enumerate(zip(batch["id"], to_numpy(outputs["item_loss"]).tolist(), strict=True)):
            if item_id in self._rows:
                self._n_repeated += 1
                continue
            label = names[labels[index]] if names and labels[index] >= 0 else None
            duration_s = float(batch["lengths"][index]) / task.sample_rate
            self._rows[item_id] = {"id": item_id, "class": label, "duration_s": duration_s, "loss": loss}
            self.pool.offer(_CLIPS, item_id, -loss, _maker(task, batch, index, item_id, loss))

    def collected(self) -> tuple[list[Row], int]:
        return list(self._rows.values()), self._n_repeated

    def write(
        self, trainer: Trainer, task: Task, parts: Sequence[tuple[list[Row], int]], pool: ExamplePool[Example]
    ) -> Written:
        rows = {str(row["id"]): row for process, _ in parts for row in process}
        if not rows:
            raise ValueError(f"the test had no items, so there is nothing to report in {self.output_dir}")
        losses = [float(row["loss"]) for row in rows.values()]  # type: ignore[arg-type]
        logged = {name.partition("/")[2]: float(value) for name, value in trainer.callback_metrics.items()}
        scores = {name: _plain(logged[name]) for name in _NOTES if name in logged}
        scores["loss"] = bootstrap_mean(losses, n_bootstrap=self.bootstrap.n_bootstrap, seed=self.bootstrap.seed)
        metrics = {metric.name: metric for metric in task.spec.metrics}
        asked = {"Predicts": "hidden patches", "Classes": ", ".join(getattr(task, "class_names", [])) or "none"}
        results = PretrainingResults(
            **self.common(trainer, task, pool, asked, count(len(rows))),
            losses=losses,
            scores=scores,
            labels={name: metrics[name].title for name in scores},
            digits={name: metrics[name].digits for name in scores},
            n_repeated=sum(n for _, n in parts) + sum(len(process) for process, _ in parts) - len(rows),
        )
        write_csv(self.output_dir / "items.csv", rows.values())
        return Written(
            page=self.write_page(task, results),
            scores=scores,
            information=results.information,
            tables=[("Test, with 95 % intervals", results.score_table)],
        )


def _maker(task: MAETask, batch: Mapping[str, Any], index: int, item_id: str, loss: float) -> Any:
    return lambda: Example(_CLIPS, item_id, -loss, reconstruct(task, batch, index))


def _plain(value: float) -> Interval:
    """A value without an interval."""
    return Interval(value, math.nan, math.nan, 0)
