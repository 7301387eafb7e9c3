"""Features of the clips of a corpus, computed once by a frozen encoder or by hand, and kept in the feature cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hydraudio.core.feature_cache import FeatureCache, fill_cache
from hydraudio.core.files import sha256_of_json
from hydraudio.core.sampling import build_loader
from hydraudio.tasks.pretraining.corpora.dataset import collate
from hydraudio.tasks.pretraining.encoding import EncoderTask
from hydraudio.tasks.pretraining.networks.encoder import Pooling

if TYPE_CHECKING:
    from hydraudio.tasks.pretraining.corpora.base import ClipDataModule

STEPS: Literal["steps"] = "steps"
STATISTICS: Literal["log_mel_statistics"] = "log_mel_statistics"
"""An embedding per time step; mean and deviation of each bin of the log-mel spectrogram: what an encoder must beat.
Other features are embeddings, named after their pooling."""


What = Pooling | Literal["steps", "log_mel_statistics"]


class Features(NamedTuple):
    """Labelled clips of a corpus, n of them.

    Attributes:
        values: (n, channels), or (n, steps, channels) with zeros after the end of a clip; float32.
        labels: (n,) int64.
        parts: (n,) fold of each clip.
        splits: (n,) train, val or test.
        folds: names of the folds in their order; none where the corpus has splits alone.
    """

    values: Tensor
    labels: Tensor
    parts: np.ndarray
    splits: np.ndarray
    folds: list[str]


def corpus_features(
    task: EncoderTask, config: Mapping[str, Any], data: ClipDataModule, what: What, cache_dir: Path
) -> Features:
    """Return features of all clips that have one class; what is not in the cache yet is computed in one pass.

    Args:
        task: in evaluation mode, on the device to compute on.
        config: the section ``model`` of its configuration.
        data: the corpus; it gives whole clips from now on.
        what: `STEPS`, `STATISTICS`, or a pooling.
        cache_dir: folder of all caches.

    Raises:
        ValueError: a clip of the corpus may have several classes, or no clip has one.
    """
    if data.multilabel:
        raise ValueError(f"{data.root}: its clips have several classes each, of which the probes take one")
    data.crop_s = data.eval_crop_s = None
    data.prepare_data()
    data.setup()
    cache = FeatureCache(cache_dir, _key(task, config, what), what, n_axes=2 if what == STEPS else 1)
    compute = _computation(task, what)

    def load(dataset: Dataset, lengths: np.ndarray) -> DataLoader:
        unequal = lengths if len(np.unique(lengths)) > 1 else None
        return build_loader(
            dataset,
            batch_size=data.eval_batch_size,
            shuffle=False,
            seed=0,
            num_workers=data.num_workers,
            trainer=None,
            collate_fn=collate,
            lengths=unequal,
        )

    arrays: list[np.ndarray] = []
    labels, parts, splits = [], [], []
    for split, dataset in data.datasets.items():
        identities = dataset.identities()
        fill_cache(cache, dataset, identities, compute, load, split)
        for identity, label, clip in zip(identities, dataset.labels.tolist(), dataset.clips, strict=True):
            if label >= 0:
                arrays.append(cache[identity])
                labels.append(label)
                parts.append(clip.part)
                splits.append(split)
    if not arrays:
        raise ValueError(f"{data.root}: no clip has a class, so that nothing can be probed")
    return Features(_stacked(arrays), torch.tensor(labels), np.array(parts), np.array(splits), data.folds)


def _stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """Pad at the end of the first axis with zeros, and stack."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True)


def _computation(task: EncoderTask, what: What) -> Callable[[dict[str, Any]], list[np.ndarray]]:
    """Batch -> array of each clip."""
    grid, frontend = task.net.encoder.grid, task.spectrogram.frontend

    @torch.inference_mode()
    def compute(batch: dict[str, Any]) -> list[np.ndarray]:
        waveform, lengths = batch["waveform"].to(task.device), batch["lengths"].to(task.device)
        n_frames = task.spectrogram.frame_counts(lengths).tolist()
        if what == STATISTICS:
            spectrogram = frontend(waveform, lengths)
            found = [_statistics(item[:, :n]) for item, n in zip(spectrogram, n_frames, strict=True)]
        elif what == STEPS:
            steps = task.net.encoder.embed_steps(task.spectrogram(waveform, lengths))
            found = [item[: -(-n // grid.patch[0])] for item, n in zip(steps, n_frames, strict=True)]
        else:
            found = list(task.embed(waveform, lengths, what))
        return [array.cpu().numpy() for array in found]

    return compute


def _statistics(spectrogram: Tensor) -> Tensor:
    """(channels, frames, bins) -> (2 * channels * bins,): mean and deviation over time."""
    return torch.cat([spectrogram.mean(1).flatten(), spectrogram.std(1, correction=0).flatten()])


def _key(task: EncoderTask, config: Mapping[str, Any], what: str) -> str:
    """Identify what the features come from: the settings of the modules, and their weights."""
    if what == STATISTICS:
        return sha256_of_json([config["frontend"]])
    settings = [config["frontend"], config["standardize"], config["net"]["encoder"], task.sample_rate]
    digest = hashlib.sha256()
    for module in (task.spectrogram, task.net.encoder):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha256_of_json([settings, digest.hexdigest()])
