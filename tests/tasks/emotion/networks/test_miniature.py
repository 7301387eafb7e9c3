"""The miniature with random weights tells emotions apart, so that runs on the embedded corpus mean something."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.metrics.classification import category_scores
from hydraudio.tasks.emotion.networks.pooling import frame_statistics
from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream


@torch.no_grad()
def statistics(loader: object, upstream: Upstream) -> tuple[Tensor, Tensor]:
    """(items, 2 * dim) mean and deviation of the last state of waveforms of variance 1, and (items,) labels."""
    features, labels = [], []
    for batch in loader:  # type: ignore[attr-defined]
        pooled = frame_statistics(*upstream(batch["waveform"] / 0.09, batch["lengths"]))
        features.append(pooled.flatten(1))
        labels.append(batch["label"])
    return torch.cat(features), torch.cat(labels)


def fitted(features: Tensor, labels: Tensor) -> torch.nn.Linear:
    """A linear classifier with classes weighted by their rarity and a ridge."""
    probe = torch.nn.Linear(features.shape[1], 8)
    torch.nn.init.zeros_(probe.weight)
    weight = len(labels) / torch.bincount(labels, minlength=8).clamp(min=1)
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=60)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(probe(features), labels, weight) + 0.01 * probe.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return probe


@pytest.mark.slow
def test_a_linear_probe_is_clearly_above_chance(tmp_path: Path) -> None:
    from hydraudio.tasks.emotion.corpora.msp_podcast.datamodule import MSPPodcastDataModule  # which imports lightning
    from hydraudio.tasks.emotion.corpora.msp_podcast.embedded import EmbeddedMSPPodcast

    root = EmbeddedMSPPodcast(n_processes=1)(tmp_path / "corpus")
    data = MSPPodcastDataModule(root=str(root), cache_dir=str(tmp_path / "cache"), batch_size=32)
    data.prepare_data()
    data.setup("fit")
    upstream = Upstream(trainable_blocks=0).eval()
    features, labels = statistics(data.train_dataloader(), upstream)
    held_out, expected = statistics(data.val_dataloader(), upstream)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    probe = fitted((features - mean) / deviation, labels)
    probabilities = probe((held_out - mean) / deviation).softmax(1).detach()
    score = category_scores(probabilities, expected, 8)["macro_f1"]
    shuffled = category_scores(probabilities, expected.roll(37), 8)["macro_f1"]
    assert score > 0.3, (score, shuffled)
    assert shuffled < 0.2
