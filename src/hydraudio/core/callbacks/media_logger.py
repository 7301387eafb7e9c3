"""Lets one hear and see, during training, what the network does with a few fixed items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from hydraudio.audio.io import write_audio
from hydraudio.audio.spectrogram import log_spectrogram_db
from hydraudio.core.distributed import setting
from hydraudio.core.spec import Axes, TaskSpec
from hydraudio.core.task import as_task

SPECTROGRAM_RANGE_DB = 80.0


class MediaLogger(Callback):
    """Log every waveform of the first validation items, as audio and as spectrograms.

    Which tensors are waveforms, and along which axes there are several in one, is in the task's specification. Those of
    the batch are logged once, those that the task gives every `every_n_epochs` epochs. Loggers whose experiment takes
    audio and images (``add_audio``, ``add_image``: TensorBoard) get both. If there is none, WAV files are written to
    ``<output_dir>/audio`` instead, without spectrograms.

    What the task gives for an item shares one gain, which gives it the peak of the task's input: losses that are
    scale-invariant leave the level open. A waveform of the batch above 1.0 is scaled down to it. A ``fast_dev_run`` of
    the trainer, which has no loggers, logs nothing.

    Args:
        output_dir: the run folder.
        n_items: how many items, the first of the (first) validation loader.
        every_n_epochs: log at epochs 0, n, 2n and so on.
    """

    def __init__(self, output_dir: str, n_items: int = 4, every_n_epochs: int = 1) -> None:
        if n_items < 1 or every_n_epochs < 1:
            raise ValueError(f"n_items={n_items} and every_n_epochs={every_n_epochs} must be at least 1")
        self.folder = Path(output_dir) / "audio"
        self.n_items = n_items
        self.every_n_epochs = every_n_epochs
        self._n_seen = 0
        self._with_batch = True

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._n_seen = 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        n_wanted = min(self.n_items - self._n_seen, len(batch["id"]))
        if n_wanted <= 0 or dataloader_idx > 0 or not self._is_due(trainer):
            return
        task = as_task(pl_module)
        batch = {key: value if isinstance(value, bool) else value[:n_wanted] for key, value in batch.items()}
        given = _waveforms(batch, task.spec.batch)
        made: dict[str, Tensor] = {}
        if given and any(axes.is_waveform for axes in task.spec.outputs.values()):
            with trainer.precision_plugin.forward_context(), torch.no_grad():
                made = _waveforms(task.evaluate_batch(batch), task.spec.outputs)
        if trainer.is_global_zero:
            sink = _Sink(trainer, self.folder, task.sample_rate)
            for row in range(n_wanted):
                self._log_item(sink, task.spec, batch, row, given, made)
        self._n_seen += n_wanted

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_due(trainer):
            self._with_batch = False

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking or setting(trainer, "fast_dev_run"):
            return False
        return trainer.current_epoch % self.every_n_epochs == 0

    def _log_item(
        self,
        sink: _Sink,
        spec: TaskSpec,
        batch: Mapping[str, Any],
        row: int,
        given: Mapping[str, Tensor],
        made: Mapping[str, Tensor],
    ) -> None:
        n_samples = int(batch["lengths"][row]) if "lengths" in batch else None
        group = f"_{batch[spec.group][row]}" if spec.group in batch else ""
        place = f"{self._n_seen + row}{group}"
        for name, waveforms in given.items() if self._with_batch else ():
            for label, waveform in _named(name, waveforms[row, ..., :n_samples], spec.batch[name]):
                sink.log(f"{place}/{label}", _limit(waveform))
        peak = max((_peak(waveforms[row, ..., :n_samples]) for waveforms in made.values()), default=0.0)
        signal = given.get(spec.signal)
        level = 1.0 if signal is None else _peak(_limit(signal[row, ..., :n_samples]))
        for name, waveforms in made.items():
            leveled = waveforms[row, ..., :n_samples] * (level / peak if peak > 0 else 1.0)
            for label, waveform in _named(name, leveled, spec.outputs[name]):
                sink.log(f"{place}/{label}", _limit(waveform), repeated=True)


class _Sink:
    """Where audio goes: every logger that takes it, or files."""

    def __init__(self, trainer: Trainer, folder: Path, sample_rate: int) -> None:
        experiments: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
        self.experiments = [experiment for experiment in experiments if hasattr(experiment, "add_audio")]
        self.folder, self.sample_rate = folder, sample_rate
        self.step, self.epoch = trainer.global_step, trainer.current_epoch

    def log(self, name: str, waveform: Tensor, repeated: bool = False) -> None:
        """Take (time,) in [-1, 1]; `repeated` items get a folder per epoch where files are written."""
        for experiment in self.experiments:
            experiment.add_audio(f"audio/{name}", waveform[None], self.step, sample_rate=self.sample_rate)
            image = spectrogram_image(waveform, self.sample_rate)
            experiment.add_image(f"spectrogram/{name}", image, self.step)
        if not self.experiments:
            folder = self.folder / f"epoch_{self.epoch:04d}" if repeated else self.folder
            folder.mkdir(parents=True, exist_ok=True)
            write_audio(folder / f"{name.replace('/', '_')}.wav", waveform.numpy(), self.sample_rate)


def spectrogram_image(waveform: Tensor, sample_rate: int) -> Tensor:
    """Map (time,) -> (1, frequency, frames) grey image in [0, 1], loudest bin 1, -80 dB 0; low is down."""
    level_db = torch.from_numpy(log_spectrogram_db(waveform.numpy(), sample_rate))
    return (1 + (level_db - level_db.max()) / SPECTROGRAM_RANGE_DB).clamp(0, 1).flip(0)[None]


def _waveforms(tensors: Mapping[str, Any], axes: Mapping[str, Axes]) -> dict[str, Tensor]:
    """Those tensors that one can listen to, on the CPU."""
    return {name: tensors[name].float().cpu() for name, each in axes.items() if each.is_waveform and name in tensors}


def _named(name: str, waveforms: Tensor, axes: Axes) -> Iterator[tuple[str, Tensor]]:
    """The waveforms of one item, (..., time): ``name``, or ``p1_name``, ``p2_name`` along an axis of parts."""
    initials = "".join(axis[0] for axis in axes.axes.split()[1:-1])
    flat = waveforms.reshape(-1, waveforms.shape[-1])
    for index, waveform in enumerate(flat):
        yield f"{initials}{index + 1}_{name}" if initials else name, waveform


def _peak(waveform: Tensor) -> float:
    return float(waveform.abs().max())


def _limit(waveform: Tensor) -> Tensor:
    return waveform / max(_peak(waveform), 1.0)
