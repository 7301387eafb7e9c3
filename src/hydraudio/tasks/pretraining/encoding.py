"""What pretraining and fine-tuning share: spectrograms of known statistics, the learning rate, seeded draws."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hydraudio.core.corpus import corpus_of
from hydraudio.core.feature_cache import kept_array
from hydraudio.core.files import sha256_of_json
from hydraudio.core.task import Task
from hydraudio.nn.frontends.standardize import Standardize

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

    def __call__(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, time) float32 in [-1, 1] -> (batch, channels, frames, bins) float32."""
        ...


class Spectrogram(nn.Module):
    """A front-end and the standardisation of what it gives; its statistics are part of the weights.

    Args:
        frontend: from waveforms to spectrograms.
        standardize: of the spectrograms.
    """

    def __init__(self, frontend: nn.Module, standardize: Standardize) -> None:
        super().__init__()
        self.frontend, self.standardize = frontend, standardize

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, time) float32 in [-1, 1], of which ``lengths`` samples count -> (batch, channels, frames, bins)."""
        return self.standardize(self.frontend(waveform, lengths))


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

    def __init__(
        self,
        net: nn.Module,
        frontend: nn.Module,
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

    def step_generator(self) -> torch.Generator:
        """Generator of a training step: another one at each step, accumulated batch and process."""
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self.generator(self.current_epoch, batches, self.global_rank)

    def windows(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Cut whole clips into windows of the encoder's grid.

        Returns:
            (windows, channels, frames, bins), and (windows,) int64: the item of the batch that each is of. A clip gives
            as many whole windows as it has, and at least one, for which a short clip is repeated.
        """
        spectrogram = self.spectrogram(batch["waveform"], batch["lengths"])
        frames, frontend = self.net.encoder.grid.frames, self.spectrogram.frontend
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
        """Compute mean and deviation of the training clips' spectrograms, or read them where they are kept."""
        standardize, frontend = self.spectrogram.standardize, self.spectrogram.frontend

        def compute() -> np.ndarray:
            log.info("Computing the statistics of the spectrograms of the training clips")
            return standardize.statistics(self._spectrograms(frontend)).numpy()

        if self.cache_dir is None:
            values = compute()
        else:
            plain = {k: v for k, v in sorted(vars(frontend).items()) if isinstance(v, int | float | str | bool)}
            loader = self._clips.clip_loader("train")
            what = [type(frontend).__name__, plain, standardize.per_bin, self._clips.fingerprint, loader.dataset.items]
            path = Path(self.cache_dir) / "statistics" / f"{sha256_of_json(what)[:16]}.npy"
            values = kept_array(path, (2, standardize.n_values), compute)
        standardize.set_statistics(torch.from_numpy(values))

    @torch.inference_mode()
    def _spectrograms(self, frontend: nn.Module) -> Iterator[Tensor]:
        """(channels, frames, bins) of every training clip."""
        for batch in self._clips.clip_loader("train"):
            spectrogram = frontend(batch["waveform"], batch["lengths"])
            for item, n_samples in enumerate(batch["lengths"].tolist()):
                yield spectrogram[item, :, : frontend.n_frames(n_samples)]


def tiled(spectrogram: Tensor, n_frames: int) -> Tensor:
    """Repeat (channels, frames, bins) along time until there are at least `n_frames`, which a clip of zero has too."""
    frames = spectrogram.shape[1]
    return spectrogram if frames >= n_frames else spectrogram.repeat(1, -(-n_frames // frames), 1)[:, :n_frames]


def crops(spectrogram: Tensor, n_frames: int, generator: torch.Generator) -> Tensor:
    """Cut (batch, channels, frames, bins) to `n_frames` at a place per item that the generator draws."""
    n_places = spectrogram.shape[2] - n_frames + 1
    if n_places < 1:
        raise ValueError(f"a spectrogram of {spectrogram.shape[2]} frames holds no crop of {n_frames}")
    if n_places == 1:
        return spectrogram
    starts = torch.randint(n_places, (len(spectrogram),), generator=generator, device=generator.device)
    frames = (starts[:, None] + torch.arange(n_frames, device=starts.device))[:, None, :, None]
    return spectrogram.take_along_dim(frames.expand(-1, spectrogram.shape[1], -1, spectrogram.shape[3]), dim=2)
