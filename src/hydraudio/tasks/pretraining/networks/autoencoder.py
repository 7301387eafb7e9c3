"""The masked autoencoder: encoder, decoder and masker, with the loss on the masked patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.tasks.pretraining.networks.encoder import Encoder, Pooling
from hydraudio.tasks.pretraining.networks.grid import Grid
from hydraudio.tasks.pretraining.networks.masks import Mask, Masker

Target = Literal["raw", "patch_normalized"]
TARGETS = ("raw", "patch_normalized")
EPS = 1e-6
"""Added to the variance of a patch (He et al. 2022)."""


class Output(NamedTuple):
    """What the network gives in training.

    Attributes:
        loss: scalar float32, mean squared error over the masked patches.
        prediction: (batch, n_tokens, patch_values), in the units of the target.
        masked: (batch, n_tokens) bool.
    """

    loss: Tensor
    prediction: Tensor
    masked: Tensor


class MaskedAutoencoder(nn.Module):
    """Predict the masked patches of a spectrogram from the visible ones (He et al. 2022).

    The loss is the mean of (prediction - target)^2 over the values of the masked patches.

    Args:
        encoder: sees the visible patches.
        decoder: makes the decoder; it is told the grid, the width of the encoder, and whether that has a class token.
        masker: draws the masks.
        target: "raw": the values themselves; "patch_normalized": less the mean of their patch and divided by its
            deviation, (y - mean) / sqrt(variance + 1e-6) with the unbiased variance.
    """

    def __init__(
        self, encoder: Encoder, decoder: Callable[..., nn.Module], masker: Masker, target: Target = "raw"
    ) -> None:
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"target={target} must be one of {', '.join(TARGETS)}")
        self.encoder = encoder
        self.decoder = decoder(grid=encoder.grid, encoder_width=encoder.width, cls=encoder.cls_token is not None)
        self.masker = masker
        self.target = target

    @property
    def grid(self) -> Grid:
        """Of the patches."""
        return self.encoder.grid

    def forward(
        self, spectrogram: Tensor, mask: Mask | None = None, generator: torch.Generator | None = None
    ) -> Output:
        """spectrogram: (batch, channels, frames, bins), standardised. mask: None draws one from `generator`."""
        if mask is None:
            mask = self.draw(len(spectrogram), spectrogram.device, generator)
        patches = self.grid.patchify(spectrogram)
        prediction = self.decoder(self.encoder.encode(patches, mask.keep), mask)
        loss = _mean(_errors(prediction, self._target_of(patches)), mask.masked)
        return Output(loss, prediction, mask.masked)

    def draw(self, batch_size: int, device: torch.device | str, generator: torch.Generator | None = None) -> Mask:
        """Draw a mask per item from the numbers of `generator`, which is on `device`; None: PyTorch's own."""
        return self.masker(batch_size, self.grid, generator, device)

    def targets(self, spectrogram: Tensor) -> Tensor:
        """What is to be predicted, float32: (batch, channels, frames, bins) -> (batch, n_tokens, patch_values)."""
        return self._target_of(self.grid.patchify(spectrogram))

    def visible_loss(self, spectrogram: Tensor, output: Output) -> Tensor | None:
        """Mean squared error over the visible patches, which no weight is trained for; None if none is predicted."""
        if not self.decoder.predicts_visible:
            return None
        return _mean(_errors(output.prediction, self.targets(spectrogram)), ~output.masked)

    def baseline_loss(self, spectrogram: Tensor, masked: Tensor) -> Tensor:
        """Loss of a prediction that is the same for all: the mean of all masked values; zeros of normalised patches."""
        targets = self.targets(spectrogram)
        mean = _mean(targets.mean(-1), masked) if self.target == "raw" else targets.new_zeros(())
        return _mean(_errors(mean, targets), masked)

    def reconstruct(self, spectrogram: Tensor, output: Output) -> Tensor:
        """The prediction as a spectrogram in the units of the input. -> (batch, channels, frames, bins) float32.

        A prediction of normalised patches gets the mean and the deviation of the true ones.
        """
        values = at_least_float32(output.prediction)
        if self.target == "patch_normalized":
            mean, deviation = _moments(at_least_float32(self.grid.patchify(spectrogram)))
            values = values * deviation + mean
        return self.grid.unpatchify(values)

    def embed(self, spectrogram: Tensor, pooling: Pooling = "mean", n_frames: Tensor | None = None) -> Tensor:
        """Embed spectrograms of any length, without a mask, as `Encoder.embed`."""
        return self.encoder.embed(spectrogram, pooling, n_frames)

    def embed_steps(self, spectrogram: Tensor) -> Tensor:
        """Embed each time step, as `Encoder.embed_steps`."""
        return self.encoder.embed_steps(spectrogram)

    def embedding_dim(self, pooling: Pooling) -> int:
        """Size of what `embed` gives."""
        return self.encoder.embedding_dim(pooling)

    def _target_of(self, patches: Tensor) -> Tensor:
        patches = at_least_float32(patches)
        if self.target == "raw":
            return patches
        mean, deviation = _moments(patches)
        return (patches - mean) / deviation


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch, (batch, n_tokens, 1)."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + EPS).sqrt()


def _errors(prediction: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of each patch in float32. -> (batch, n_tokens)."""
    return (at_least_float32(prediction) - targets).square().mean(-1)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen ones of (batch, n_tokens)."""
    return (values * chosen).sum() / chosen.sum()
