"""A classifier of spectrograms: an encoder, pooling, and a linear head."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from hydraudio.nn.layers.normalization import LayerNorm
from hydraudio.tasks.pretraining.networks.encoder import Encoder, Pooling
from hydraudio.tasks.pretraining.networks.masks import RandomMasker


class EncoderClassifier(nn.Module):
    """Compute W LN(pooled tokens) + b. (batch, channels, frames, bins) -> (batch, n_classes) float32 logits.

    Args:
        encoder: from the pretraining, or with random weights.
        n_classes: logits.
        pooling: of the tokens, as in `Encoder.embed`.
        patch_drop: share of patches that the encoder does not see in training (Koutini et al. 2022, "PaSST").
        head_std: deviation of the head's first weights.
    """

    def __init__(
        self,
        encoder: Encoder,
        n_classes: int,
        pooling: Pooling = "mean",
        patch_drop: float = 0.0,
        head_std: float = 2e-5,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.masker = RandomMasker(patch_drop) if patch_drop else None
        if self.masker is not None and pooling == "frequency":
            raise ValueError("pooling=frequency needs all patches: patch_drop=0")
        dim = encoder.embedding_dim(pooling)
        self.n_classes = n_classes
        output = nn.Linear(dim, n_classes)
        nn.init.trunc_normal_(output.weight, std=head_std)
        nn.init.zeros_(output.bias)
        self.head = nn.Sequential(OrderedDict(norm=LayerNorm(dim, eps=1e-6), output=output))

    def forward(self, spectrogram: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """n_frames: (batch,) frames of each item, from 1; further ones have no effect. None: all."""
        masker = self.masker if self.training else None
        return self.classify(self.encoder.embed(spectrogram, self.pooling, n_frames, masker))

    def classify(self, embedding: Tensor) -> Tensor:
        """(batch, channels) of the encoder's pooled tokens -> (batch, n_classes) float32 logits."""
        return self.head(embedding).float()
