"""Report of a test of emotions: scores with intervals, calibration, slices, submission files, a page to listen to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from rich import get_console

from hydraudio.core.checkpoints import read_checkpoint
from hydraudio.core.distributed import all_gather, gather
from hydraudio.metrics.calibration import fit_temperature
from hydraudio.metrics.class_groups import class_groups
from hydraudio.metrics.classification import NO_LABEL
from hydraudio.report.curves import curves_of_runs
from hydraudio.report.examples import ExamplePool
from hydraudio.report.facts import computation_facts, corpus_facts, tested_checkpoint
from hydraudio.report.tables import count
from hydraudio.tasks.emotion.report.comparison import write_comparison
from hydraudio.tasks.emotion.report.examples import ATTRIBUTES, CATEGORY, EmotionExample
from hydraudio.tasks.emotion.report.files import PREDICTIONS_FILE, WrittenReport, print_report, write_report
from hydraudio.tasks.emotion.report.page import CURVES, EmotionResults
from hydraudio.tasks.emotion.report.predictions import PredictionTable, join, to_rating
from hydraudio.tasks.emotion.report.scores import Options, convention, score
from hydraudio.tasks.emotion.report.slices import gender_gaps, slices, speaker_spread
from hydraudio.tasks.emotion.report.submission import write_submissions


class EmotionReport(Callback):
    """Collects what `test_step` returns and writes the report at the end of the test.

    Written are items.csv and predictions.npz (every prediction), metrics.json and summary.csv (every score with its
    interval), confusion.csv and .png, slices.csv, gender.csv, speakers.csv, submission files and index.html. Without
    labels there are predictions and submissions only.

    During training it fits the temperature of the logits at every validation; the checkpoint keeps it, so that a test
    says how well calibrated probabilities would be without having looked at the test set.

    Args:
        output_dir: folder of the report; made when the test starts.
        n_examples: how many of the worst items of categories and of attributes one can listen to.
        n_bootstrap: resamples of each 95 % interval; speakers are resampled whole.
        seed: of the bootstrap and of the candidates for typical items.
        min_items: slices and speakers with fewer items are suppressed.
        groups: which classes are head, middle and tail: `mode` explicit, fraction or count, with `head` and `mid`, or
            `thresholds`; see `hydraudio.metrics.class_groups.class_groups`. None = explicit, as usual for MSP-Podcast.
        checkpoint: file that the weights came from, where the trainer was not the one who loaded it.
        max_page_mb: size of index.html, in 10^6 bytes, up to which examples are added.
        max_example_s: longer examples are cut to this length, in seconds.
    """

    def __init__(
        self,
        output_dir: str | Path,
        n_examples: int = 6,
        n_bootstrap: int = 2000,
        seed: int = 0,
        min_items: int = 30,
        groups: Mapping[str, Any] | None = None,
        checkpoint: str | None = None,
        max_page_mb: float = 8.0,
        max_example_s: float = 12.0,
    ) -> None:
        if n_bootstrap < 1 or min_items < 1:
            raise ValueError(f"n_bootstrap={n_bootstrap} and min_items={min_items} must be at least 1")
        class_groups([], [], **(groups or {}))  # a wrong mode is known before the training
        self.output_dir, self.n_examples = Path(output_dir), n_examples
        self.options = Options(n_bootstrap, seed, min_items, dict(groups or {}))
        self.checkpoint, self.max_page_mb, self.max_example_s = checkpoint, max_page_mb, max_example_s
        self.temperature: float | None = None
        self._validated: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        self._finished: WrittenReport | None = None

    @staticmethod
    def compare(reports: Mapping[str, Path], output_dir: Path, seed: int) -> Path:
        """Compares the reports of several checkpoints, by name; returns the page."""
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
        outputs: Mapping[str, torch.Tensor],  # type: ignore[override]
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if "logits" in outputs:
            self._validated.append((_numpy(outputs["logits"]), batch["label"].cpu().numpy()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        parts = [part for process in all_gather(self._validated, trainer) for part in process]
        self._validated = []
        logits, labels = ([part[k] for part in parts] for k in (0, 1))
        self.temperature = _temperature(np.concatenate(logits), np.concatenate(labels)) if parts else None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finished = None
        self._parts: list[PredictionTable] = []
        self._pool: ExamplePool[EmotionExample] = ExamplePool(self.n_examples, self.options.seed)
        if self.checkpoint is not None:
            self.temperature = _stored_temperature(self.checkpoint, self.state_key)
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, torch.Tensor],  # type: ignore[override]
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        part = _predictions(outputs, batch, trainer, pl_module)
        self._parts.append(part)
        max_samples = int(self.max_example_s * pl_module.sample_rate)  # type: ignore[operator]
        for group, scores in _example_scores(part).items():
            for index in np.flatnonzero(np.isfinite(scores)):
                self._offer(group, int(index), float(scores[index]), part, batch, max_samples)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gathered = gather((self._parts, self._pool.examples()), trainer)
        self._parts = []
        if not trainer.is_global_zero:
            return
        pool: ExamplePool[EmotionExample] = ExamplePool(self.n_examples, self.options.seed)
        for _, kept in gathered:
            pool.add(kept)
        parts = [part for process_parts, _ in gathered for part in process_parts]
        if not parts:
            raise ValueError(f"the test had no items, so there is nothing to report in {self.output_dir}")
        predictions, n_repeated = join(parts).unique()
        notes = write_submissions(self.output_dir, predictions)
        results = self._results(trainer, pl_module, predictions, pool, notes, n_repeated)
        self._finished = write_report(self.output_dir, results)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prints the tables below Lightning's own, through the console that the rich progress bar uses too."""
        if stage == "test" and self._finished is not None:
            print_report(get_console(), self._finished)
            self._finished = None

    def _offer(
        self, group: str, index: int, score: float, part: PredictionTable, batch: Mapping[str, Any], max_samples: int
    ) -> None:
        item_id, path = str(part.ids[index]), str(part.path[index])

        def make() -> EmotionExample:
            waveform = None
            if "waveform" in batch:
                n_samples = min(int(batch["lengths"][index]), max_samples)
                waveform = batch["waveform"][index, :n_samples].detach().to("cpu", torch.float32).numpy().copy()
            return EmotionExample(group, item_id, score, path, waveform)

        self._pool.offer(group, item_id, score, make)

    def _results(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: PredictionTable,
        pool: ExamplePool[EmotionExample],
        notes: list[str],
        n_repeated: int,
    ) -> EmotionResults:
        data = getattr(trainer, "datamodule", None)
        checkpoint = tested_checkpoint(trainer, self.checkpoint)
        information = {"Checkpoint": checkpoint, **_information(trainer, pl_module, predictions, self.options)}
        counts = getattr(data, "class_counts", None) if predictions.class_names else None
        return EmotionResults(
            title=f"{self.output_dir.parent.parent.name}: emotion test",
            subtitle=f"Run {self.output_dir.parent.name} · {information['Network']} · {information['Predicts']}",
            information=information,
            predictions=predictions,
            scores=score(predictions, self.options, counts, self.temperature),
            slices=slices(predictions, self.options),
            gaps=gender_gaps(predictions, self.options),
            spread=speaker_spread(predictions, self.options),
            convention=convention(predictions),
            curves=curves_of_runs((self.output_dir.parent, Path(checkpoint).parent.parent), CURVES),
            examples=pool,
            sample_rate=int(pl_module.sample_rate),  # type: ignore[arg-type]
            notes=notes,
            n_repeated=n_repeated,
            max_page_mb=self.max_page_mb,
            max_example_s=self.max_example_s,
        )


def _predictions(
    outputs: Mapping[str, torch.Tensor], batch: Mapping[str, Any], trainer: Trainer, pl_module: LightningModule
) -> PredictionTable:
    """Everything about the items of a batch; heads that the network lacks have no columns."""
    class_names, attribute_names = (tuple(getattr(pl_module, name)) for name in ("class_names", "attribute_names"))
    letters = tuple(getattr(getattr(trainer, "datamodule", None), "class_letters", ())) if class_names else ()
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


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().to(device="cpu", dtype=torch.float32).numpy().astype(np.float64)


def _temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    """Of the labelled items; None without any, or where the network has diverged."""
    known = (labels != NO_LABEL) & np.isfinite(logits).all(axis=1)
    return fit_temperature(logits[known], labels[known]) if known.any() else None


def _stored_temperature(checkpoint: str, key: str) -> float | None:
    """The temperature that a checkpoint keeps; None where it was saved without one."""
    state = read_checkpoint(checkpoint, mmap=True).get("callbacks", {}).get(key)
    return None if state is None else state["temperature"]


def _information(
    trainer: Trainer, pl_module: LightningModule, predictions: PredictionTable, options: Options
) -> dict[str, str]:
    """What was tested, with what."""
    net: torch.nn.Module = pl_module.net  # type: ignore[assignment]
    n_parameters, n_trained = (
        sum(p.numel() for p in net.parameters() if p.requires_grad or everything) for everything in (True, False)
    )
    heads = [f"{len(predictions.class_names)} classes"] if predictions.class_names else []
    heads += [", ".join(predictions.attribute_names)] if predictions.attribute_names else []
    return {
        "Network": f"{type(net).__name__}, {count(n_parameters)} parameters ({count(n_trained)} trained)",
        "Predicts": " and ".join(heads),
        "Classes": ", ".join(predictions.class_names) or "none",
        **corpus_facts(trainer, pl_module),
        "Splits": ", ".join(sorted(set(predictions.split.tolist()))),
        **computation_facts(trainer),
        "Items": count(len(predictions)),
        "Intervals": f"95 %, {options.n_bootstrap} bootstrap resamples of speakers, seed {options.seed}",
    }
