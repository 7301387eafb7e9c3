"""What the autoencoder makes of hidden patches, to look at and to hear: during training, and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from hydraudio.tasks.pretraining.task import MAETask

PANELS = ("input", "masked", "prediction", "composite")


@dataclass(frozen=True)
class Reconstruction:
    """One window of a clip. Pictures are (frames, bins) in the units of the front-end, such as the logarithm of power.

    Attributes:
        input: what there was.
        masked: what the encoder saw; NaN in the hidden patches.
        prediction: what the decoder gave for every patch.
        composite: the input where it was seen, the prediction elsewhere.
        sounds: of input, prediction and composite, (time,) in [-1, 1]; empty where the front-end cannot be inverted.
        loss: mean squared error over the hidden patches, as trained.
        item_id: of the clip.
    """

    input: NDArray[np.float32]
    masked: NDArray[np.float32]
    prediction: NDArray[np.float32]
    composite: NDArray[np.float32]
    sounds: Mapping[str, NDArray[np.float32]]
    loss: float
    item_id: str

    @property
    def pictures(self) -> list[tuple[str, NDArray[np.float32]]]:
        """Name and values of all four."""
        return [(name, getattr(self, name)) for name in PANELS]


@runtime_checkable
class Invertible(Protocol):
    """A front-end from whose spectrograms sound can be made."""

    def invert(self, spectrogram: Tensor) -> Tensor:
        """(batch, channels, frames, bins) -> (batch, time) about in [-1, 1]; phases are estimated."""
        ...


@torch.inference_mode()
def reconstruct(task: MAETask, batch: Mapping[str, Any], item: int) -> Reconstruction:
    """Hide patches of the first window of a clip, as a test hides them, and predict them.

    Args:
        task: on the device of the batch.
        batch: of whole clips.
        item: position in the batch.
    """
    n_samples = int(batch["lengths"][item])
    one = {"waveform": batch["waveform"][item : item + 1, :n_samples], "lengths": batch["lengths"][item : item + 1]}
    item_id = str(batch["id"][item])
    window = task.windows(one)[0][:1]
    mask = task.net.draw(1, window.device, task.generator(*item_id.encode()))
    output = task.net(window, mask)
    shown = task.net.reconstruct(window, output)
    hidden = task.net.grid.unpatchify(output.masked[..., None].expand(-1, -1, task.net.grid.patch_values)) > 0
    standardize = task.spectrogram.standardize
    moments = standardize.moments(task.spectrogram.frontend(one["waveform"]))
    given, guess = standardize.undo(window, moments), standardize.undo(shown, moments)
    composite = torch.where(hidden, guess, given)
    pictures = {"input": given, "masked": given.masked_fill(hidden, torch.nan), "prediction": guess}
    frontend, sounds = task.spectrogram.frontend, {}
    if isinstance(frontend, Invertible):
        heard = {"input": given, "prediction": guess, "composite": composite}
        sounds = {name: _limited(frontend.invert(values)[0]) for name, values in heard.items()}
    return Reconstruction(
        **{name: _picture(values) for name, values in pictures.items()},
        composite=_picture(composite),
        sounds=sounds,
        loss=float(output.loss),
        item_id=item_id,
    )


class Reconstructions(Callback):
    """Log pictures and sounds of reconstructed validation clips to loggers that take images and audio (TensorBoard).

    Each picture shows input, masked input, prediction and composite below each other, low frequencies at the bottom.

    Args:
        n_items: the first ones of the validation set.
        every_n_epochs: log in the validations of the n-th, the 2n-th epoch and so on, and in the last one.
    """

    def __init__(self, n_items: int = 4, every_n_epochs: int = 5) -> None:
        if n_items < 1 or every_n_epochs < 1:
            raise ValueError(f"n_items={n_items} and every_n_epochs={every_n_epochs} must be at least 1")
        self.n_items, self.every_n_epochs = n_items, every_n_epochs
        self._n_logged = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._n_logged = 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        experiments: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
        experiments = [each for each in experiments if hasattr(each, "add_image") and hasattr(each, "add_audio")]
        if not experiments or not self._is_due(trainer) or not isinstance(pl_module, MAETask):
            return
        for item in range(min(self.n_items - self._n_logged, len(batch["id"]))):
            found = reconstruct(pl_module, batch, item)
            for experiment in experiments:
                name = f"{self._n_logged}"
                experiment.add_image(f"reconstruction/{name}", torch.from_numpy(stacked(found)), trainer.global_step)
                for kind, sound in found.sounds.items():
                    heard = torch.from_numpy(sound)[None]
                    place = f"reconstruction/{name}/{kind}"
                    experiment.add_audio(place, heard, trainer.global_step, sample_rate=pl_module.sample_rate)
            self._n_logged += 1

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return False
        n_epochs = trainer.current_epoch + 1
        return n_epochs == trainer.max_epochs or n_epochs % self.every_n_epochs == 0


def stacked(found: Reconstruction, gap: int = 2) -> NDArray[np.float32]:
    """Draw the four pictures below each other, (1, height, frames) in [0, 1]; hidden patches are black, as is the gap.

    All share the range of the input, so that a prediction that is too weak looks so.
    """
    low, high = float(found.input.min()), float(found.input.max())
    rows = []
    for _, values in found.pictures:
        shade = 0.1 + 0.9 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        rows += [np.nan_to_num(shade, nan=0.0).T[::-1], np.zeros((gap, len(values)), np.float32)]
    return np.concatenate(rows[:-1])[None].astype(np.float32)


def _picture(values: Tensor) -> NDArray[np.float32]:
    """(1, channels, frames, bins) -> (frames, bins), the mean over channels."""
    return values[0].float().mean(0).cpu().numpy()


def _limited(waveform: Tensor) -> NDArray[np.float32]:
    """Not above full scale."""
    return (waveform / waveform.abs().max().clamp_min(1.0)).float().cpu().numpy()
