"""What pretraining and fine-tuning share: spectrograms of known statistics, the learning rate, seeded draws."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hydraudio.core.corpus import corpus_of
from hydraudio.core.feature_cache import kept_array
from hydraudio.core.files import sha256_of_json
from hydraudio.core.task import Task
from hydraudio.nn.frontends.standardize import Standardize, Statistics
from hydraudio.nn.weight_decay import exempt_from_weight_decay
from hydraudio.tasks.pretraining.networks.autoencoder import MaskedAutoencoder
from hydraudio.tasks.pretraining.networks.classifier import EncoderClassifier
from hydraudio.tasks.pretraining.networks.encoder import Encoder, Pooling

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

log = logging.getLogger(__name__)


class Frontend(Protocol):
    """From waveforms to spectrograms, time first (:mod:`hydraudio.nn.frontends`)."""

    sample_rate: int
    n_channels: int
    n_bins: int

    def n_frames(self, n_samples: int) -> int:
        """Frames of a waveform of that length."""
        ...

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """The same of (batch,) lengths, without waiting for the device."""
        ...

    def __call__(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, time) float32 in [-1, 1] -> (batch, channels, frames, bins) float32."""
        ...


class Spectrogram(nn.Module):
    """A front-end and the standardisation of what it gives; its statistics are part of the weights.

    Args:
        frontend: from waveforms to spectrograms.
        standardize: of the spectrograms.
    """

    def __init__(self, frontend: Frontend, standardize: Standardize) -> None:
        super().__init__()
        self.frontend, self.standardize = frontend, standardize

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, time) float32 in [-1, 1], of which ``lengths`` samples count -> (batch, channels, frames, bins)."""
        spectrogram = self.frontend(waveform, lengths)
        return self.standardize(spectrogram, None if lengths is None else self.frame_counts(lengths))

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Count the frames of each item: (batch,) samples -> (batch,) int64."""
        return self.frontend.frame_counts(lengths)


class WaveformEncoder(nn.Module):
    """The part of a network that gives embeddings, as a network of waveforms.

    Args:
        spectrogram: with the statistics of the training.
        encoder: of spectrograms.
        pooling: of its tokens.
    """

    def __init__(self, spectrogram: Spectrogram, encoder: Encoder, pooling: Pooling) -> None:
        super().__init__()
        self.spectrogram, self.encoder, self.pooling = spectrogram, encoder, pooling

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, time) of any length, of which (batch,) samples count, None = all -> (batch, channels) float32."""
        counts = None if lengths is None else self.spectrogram.frame_counts(lengths)
        return self.encoder.embed(self.spectrogram(waveform, lengths), self.pooling, counts)


def clip_sizes(sample_rate: int) -> dict[str, int | tuple[int, ...]]:
    """Sizes at which an exported encoder is checked: the first, by which the graph is traced, has several windows."""
    return {"batch": 1, "time": tuple(round(seconds * sample_rate) for seconds in (5.3, 1.0, 2.5, 0.4))}


class Clips(Protocol):
    """What this floor's tasks read of a datamodule beside its batches."""

    batch_size: int
    fingerprint: str

    def clip_loader(self, split: str, max_items: int | None = None) -> DataLoader:
        """Load the whole clips of a split in a fixed order; the first `max_items` of a seeded shuffle, None = all."""
        ...


class EncoderTask(Task):
    """Base of the objectives of this floor: an encoder over patches of standardised spectrograms.

    Args:
        net: has the encoder as ``encoder``, whose ``grid`` says how many frames it sees at once.
        frontend: from waveforms to spectrograms.
        standardize: of the spectrograms. Statistics of the corpus are computed once, before the training begins, over
            the whole clips of the training split.
        class_names: of the corpus, in the order of the labels; empty where it has no classes.
        reference_batch: the optimizer's learning rate is that for so many items per step, and is scaled in proportion
            to those of the run (batch, times processes, times accumulated batches); None = as it stands.
        seed: of masks, crops and other draws, which are pure functions of it and of the step.
        cache_dir: where statistics are kept; None computes them for every run.
        **task_arguments: see :class:`hydraudio.core.task.Task`.
    """

    parts = ("spectrogram", "net")
    net: MaskedAutoencoder | EncoderClassifier

    def __init__(
        self,
        net: nn.Module,
        frontend: Frontend,
        standardize: Standardize,
        class_names: list[str],
        reference_batch: int | None = 256,
        seed: int = 0,
        cache_dir: str | None = None,
        **task_arguments: Any,
    ) -> None:
        super().__init__(net, **task_arguments)
        self.spectrogram = Spectrogram(frontend, standardize)
        self.class_names = list(class_names)
        self.reference_batch, self.seed, self.cache_dir = reference_batch, seed, cache_dir
        for parameter in self.parameters():
            if parameter.ndim <= 1:
                exempt_from_weight_decay(parameter)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.spectrogram.standardize.needs_statistics:
            self._fit_statistics()

    def optimizer_groups(self) -> list[dict[str, Any]]:
        groups = super().optimizer_groups()
        return [{**group, "lr": self.learning_rate()} for group in groups]

    def learning_rate(self) -> float:
        """Scale the optimizer's learning rate to the items of a step (Goyal et al. 2017, section 2.1)."""
        rate = float(self._optimizer.keywords["lr"])  # type: ignore[attr-defined]
        if self.reference_batch is None:
            return rate
        n_items = self._clips.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        return rate * n_items / self.reference_batch

    def generator(self, *numbers: int) -> torch.Generator:
        """Make a generator on the task's device whose draws are a pure function of the seed and these numbers."""
        state = np.random.SeedSequence([self.seed, *numbers]).generate_state(1, np.uint64)[0]
        return torch.Generator(self.device).manual_seed(int(state >> np.uint64(1)))

    def drawn(self, batch: Mapping[str, Any], draws: torch.Generator) -> Tensor:
        """Return a standardised spectrogram of the grid's size per item, longer clips cut at a drawn place.

        Returns:
            (batch, channels, frames, bins) float32.
        """
        lengths = batch["lengths"] if batch["padded"] else None
        spectrogram = self.spectrogram(batch["waveform"], lengths)
        counts = None if lengths is None else self.spectrogram.frame_counts(lengths)
        return crops(spectrogram, self.net.encoder.grid.n_frames, counts, draws)

    def step_numbers(self) -> tuple[int, int, int]:
        """Number a training step: no two steps, accumulated batches or processes share all three."""
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self.current_epoch, batches, self.global_rank

    def step_generator(self) -> torch.Generator:
        """Make the generator of a training step."""
        return self.generator(*self.step_numbers())

    def embed(self, waveform: Tensor, lengths: Tensor | None, pooling: Pooling) -> Tensor:
        """Embed (batch, time) waveforms of any length, of which (batch,) samples count, None = all.

        Returns:
            (batch, channels) float32.
        """
        return WaveformEncoder(self.spectrogram, self.net.encoder, pooling)(waveform, lengths)

    def windows(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Cut whole clips into windows of the encoder's grid.

        Returns:
            (windows, channels, frames, bins), and (windows,) int64: the item of the batch that each is of. A clip gives
            as many whole windows as it has, and at least one, for which a short clip is repeated.
        """
        spectrogram = self.spectrogram(batch["waveform"], batch["lengths"])
        frames, frontend = self.net.encoder.grid.n_frames, self.spectrogram.frontend
        found, owners = [], []
        for item, n_samples in enumerate(batch["lengths"].tolist()):
            clip = tiled(spectrogram[item, :, : frontend.n_frames(n_samples)], frames)
            for start in range(0, clip.shape[1] - frames + 1, frames):
                found.append(clip[:, start : start + frames])
                owners.append(item)
        return torch.stack(found), torch.tensor(owners, device=spectrogram.device)

    @property
    def _clips(self) -> Clips:
        found: Any = corpus_of(self.trainer)
        if not hasattr(found, "clip_loader"):
            raise TypeError(f"{type(found).__name__} gives no whole clips (clip_loader), which this task reads")
        return found

    def _fit_statistics(self) -> None:
        """Compute the statistics of the training clips' spectrograms, or read them where they are kept."""
        frontend = self.spectrogram.frontend
        plain = {name: value for name, value in vars(frontend).items() if isinstance(value, int | float | str)}
        what = sha256_of_json([type(frontend).__name__, sorted(plain.items()), self._clips.fingerprint])
        if self.cache_dir is None:
            values = self._accumulated()
        else:
            path = Path(self.cache_dir) / "statistics" / f"{what[:16]}.npy"
            values = kept_array(path, (3, frontend.n_bins), self._accumulated)
        self.spectrogram.standardize.fit(Statistics.from_array(values))

    @torch.inference_mode()
    def _accumulated(self) -> np.ndarray:
        log.info("Computing the statistics of the spectrograms of the training clips")
        found = Statistics()
        for batch in self._clips.clip_loader("train"):
            spectrogram = self.spectrogram.frontend(batch["waveform"], batch["lengths"])
            found.add(spectrogram, self.spectrogram.frame_counts(batch["lengths"]))
        return found.to_array()


def tiled(spectrogram: Tensor, n_frames: int) -> Tensor:
    """Repeat (channels, frames, bins) along time until there are at least `n_frames`, which a clip of zero has too."""
    frames = spectrogram.shape[1]
    return spectrogram if frames >= n_frames else spectrogram.repeat(1, -(-n_frames // frames), 1)[:, :n_frames]


def crops(spectrogram: Tensor, n_frames: int, counts: Tensor | None, generator: torch.Generator) -> Tensor:
    """Cut each item at a place that the generator draws; an item that is too short is repeated from there on.

    Args:
        spectrogram: (batch, channels, frames, bins).
        n_frames: of a crop.
        counts: (batch,) frames of each item, of which further ones are padding; None = all.
        generator: on the device of the spectrogram.
    """
    frames = spectrogram.shape[2]
    if counts is None and frames == n_frames:
        return spectrogram
    if counts is None:
        counts = torch.full((len(spectrogram),), frames, device=spectrogram.device)
    n_places = torch.where(counts >= n_frames, counts - n_frames + 1, counts)
    lots = torch.rand(len(spectrogram), generator=generator, device=spectrogram.device)
    starts = torch.minimum((lots * n_places).long(), n_places - 1)
    places = (starts[:, None] + torch.arange(n_frames, device=starts.device)) % counts[:, None]
    return spectrogram.take_along_dim(places[:, None, :, None], dim=2)
