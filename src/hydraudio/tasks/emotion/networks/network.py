"""The network of speech emotion recognition: upstream, learned mix of its states, pooling, heads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hydraudio.core.files import sha256_of
from hydraudio.nn.layers.masking import check_lengths
from hydraudio.tasks.emotion.networks.heads import (
    UNKNOWN,
    AttributeHead,
    BranchAttributeHead,
    ClassifierHead,
    GenderClassifier,
    GenderCondition,
    GenderMode,
)
from hydraudio.tasks.emotion.networks.normalization import RunningStandardization, WaveformNormalization
from hydraudio.tasks.emotion.networks.pooling import LayerMix, Pooling, frame_statistics

if TYPE_CHECKING:
    from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream

log = logging.getLogger(__name__)


class EmotionNetwork(nn.Module):
    """Waveform (batch, time) at the upstream's rate -> categories, attributes, gender, as far as there are heads.

    An item padded to the length of a longer one gives the same as alone. Heads and pooling are factories (``_partial_``
    in YAML) that get their ``in_features`` here.

    Where the pooling is a mean or mean and deviation, each state is pooled first and the mix is one of statistics, so
    that cached statistics and waveforms give the same; elsewhere frames are mixed, then pooled.

    Args:
        upstream: waveform and lengths -> states (batch, n_states, frames, dim) and frames per item.
        pooling: called with ``in_features``; one of `hydraudio.tasks.emotion.networks.pooling`.
        category: called with ``in_features``; a `ClassifierHead`, or null.
        attributes: called with ``in_features`` and ``context_features``; an `AttributeHead`, a `BranchAttributeHead`,
            or null.
        gender: a `GenderCondition`, or a `GenderClassifier` or `GenderAdversary` as a factory, or null.
        normalization: of the waveform, a `WaveformNormalization` or null.
        hierarchical: the last hidden layer of the category head is a further input of the attribute head.
        normalize_states: layer-normalise each state before the mix.
        standardize: bring the pooled vector to mean 0 and variance 1 by its moments over the training batches.
    """

    upstream: Upstream
    normalization: WaveformNormalization | None
    pooling: Pooling
    category: ClassifierHead | None
    attributes: AttributeHead | BranchAttributeHead | None
    gender: GenderCondition | GenderClassifier | None

    def __init__(
        self,
        upstream: Upstream,
        pooling: Callable[..., Pooling],
        category: Callable[..., ClassifierHead] | None = None,
        attributes: Callable[..., AttributeHead | BranchAttributeHead] | None = None,
        gender: GenderCondition | Callable[..., GenderClassifier] | None = None,
        normalization: WaveformNormalization | None = None,
        hierarchical: bool = False,
        normalize_states: bool = False,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        if category is None and attributes is None:
            raise ValueError("the network has no head: give model.net.category, model.net.attributes or both")
        if hierarchical and (category is None or attributes is None):
            raise ValueError("hierarchical=true needs both heads: model.net.category and model.net.attributes")
        self.normalization = normalization
        self.upstream = upstream
        if upstream.do_normalize and not (normalization is not None and normalization.per_utterance):
            log.warning(
                "The upstream was pretrained on utterances of mean 0 and variance 1 (do_normalize in its "
                "configuration); model/emotion/normalization=utterance gives it such utterances"
            )
        self.mix = LayerMix(upstream.n_states, upstream.dim, normalize_states)
        self.pooling = pooling(in_features=upstream.dim)
        width = self.pooling.out_features
        self.standardization = RunningStandardization(width) if standardize else None
        self.gender = gender if gender is None or isinstance(gender, GenderCondition) else gender(in_features=width)
        if isinstance(gender, GenderCondition) and attributes is None:
            raise ValueError(
                "gender=condition feeds the attribute head, and this network has none: the logits of categories never "
                "see gender. Give model.net.attributes, or choose gender none, auxiliary or adversarial"
            )
        self.category = None if category is None else category(in_features=width)
        self.hierarchical = hierarchical
        self.attributes = (
            None if attributes is None else attributes(in_features=width, context_features=self._context_width())
        )

    @property
    def n_classes(self) -> int:
        """Width of the logits; 0 without a category head."""
        return 0 if self.category is None else self.category.n_classes

    @property
    def n_attributes(self) -> int:
        """Number of attributes; 0 without an attribute head."""
        return 0 if self.attributes is None else self.attributes.n_attributes

    @property
    def gender_mode(self) -> GenderMode:
        """What becomes of the talker's gender."""
        return "none" if self.gender is None else self.gender.mode

    @property
    def takes_statistics(self) -> bool:
        """Whether `classify` also takes means and deviations instead of frames."""
        return self.pooling.pools_statistics

    def fingerprint(self) -> str:
        """Identify what `encode` computes: weights and layers of the upstream, normalisation of the waveform."""
        normalization = "none" if self.normalization is None else self.normalization.key()
        return sha256_of(f"{self.upstream.fingerprint()}\n{normalization}")

    def forward(
        self, waveform: Tensor, lengths: Tensor | None = None, gender: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score waveforms.

        Args:
            waveform: (batch, time) float32 in [-1, 1], zeros behind an item's end.
            lengths: (batch,) valid samples; None takes all.
            gender: (batch,) int64, 0 Female, 1 Male, 2 Unknown; None means Unknown. Only ``condition`` reads it.

        Returns:
            ``embedding`` (batch, pooled width); ``logits`` (batch, n_classes); ``attributes`` (batch, n_attributes) in
            [0, 1]; ``gender_logits`` (batch, 2). Without a head there is no key.
        """
        return self.classify(*self.encode(waveform, lengths), gender)

    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the states of the upstream, (batch, n_states, frames, dim), and the frames of each item, (batch,)."""
        if waveform.ndim != 2:
            raise ValueError(f"waveform must be (batch, time), got {tuple(waveform.shape)}")
        if lengths is not None:
            check_lengths(lengths, waveform)
        if self.normalization is not None:
            waveform = self.normalization(waveform, lengths)
        return self.upstream(waveform, lengths)

    def statistics(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the mean and deviation over the frames of each state, (batch, n_states, 2 * dim) float32."""
        return frame_statistics(*self.encode(waveform, lengths))

    def classify(self, states: Tensor, frame_lengths: Tensor, gender: Tensor | None = None) -> dict[str, Tensor]:
        """Compute what `forward` returns, from (batch, n_states, frames, dim) or statistics (batch, n_states, 2 * dim).

        Raises:
            ValueError: statistics are given to a pooling that needs frames.
        """
        pooled = self._pool(states, frame_lengths)
        if self.standardization is not None:
            pooled = self.standardization(pooled)
        result = {"embedding": pooled}
        embedding = None
        if self.category is not None:
            embedding = self.category.embed(pooled)
            result["logits"] = self.category.output(embedding)
        if self.attributes is not None:
            result["attributes"] = self.attributes(pooled, self._context(pooled, embedding, gender))
        if isinstance(self.gender, GenderClassifier):
            result["gender_logits"] = self.gender(pooled)
        return result

    def _pool(self, states: Tensor, frame_lengths: Tensor) -> Tensor:
        if states.ndim == 4 and not self.takes_statistics:
            return self.pooling(self.mix(states), frame_lengths)
        statistics = states if states.ndim == 3 else frame_statistics(states, frame_lengths)
        return self.pooling.from_statistics(self.mix(statistics)).to(states.dtype)

    def _context_width(self) -> int:
        """Width of what the attribute head gets besides the pooled vector."""
        category = self.category.embedding_features if self.hierarchical and self.category is not None else 0
        return category + (self.gender.dim if isinstance(self.gender, GenderCondition) else 0)

    def _context(self, pooled: Tensor, embedding: Tensor | None, gender: Tensor | None) -> Tensor | None:
        """(batch, context width), or None where there is nothing besides."""
        parts = [embedding] if self.hierarchical and embedding is not None else []
        if isinstance(self.gender, GenderCondition):
            if gender is None:
                gender = torch.full((len(pooled),), UNKNOWN, device=pooled.device)
            parts.append(self.gender(gender))
        return torch.cat(parts, dim=-1) if parts else None
