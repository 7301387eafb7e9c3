"""The network of speech emotion recognition: upstream, learned mix of its states, pooling, heads."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hydraudio.core.files import sha256_of
from hydraudio.nn.layers.masking import check_lengths
from hydraudio.tasks.emotion.networks.gender import UNKNOWN, GenderMode
from hydraudio.tasks.emotion.networks.layer_mix import LayerMix
from hydraudio.tasks.emotion.networks.pooling import frame_statistics
from hydraudio.tasks.emotion.networks.standardization import RunningStandardization
from hydraudio.tasks.emotion.networks.waveform_normalization import UtteranceNormalization

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
        normalization: of the waveform: `CorpusNormalization`, `UtteranceNormalization`, or null.
        hierarchical: the last hidden layer of the category head is a further input of the attribute head.
        normalize_states: layer-normalise each state before the mix.
        standardize: bring the pooled vector to mean 0 and variance 1 by its moments over the training batches.
    """

    def __init__(
        self,
        upstream: nn.Module,
        pooling: Callable[..., nn.Module],
        category: Callable[..., nn.Module] | None = None,
        attributes: Callable[..., nn.Module] | None = None,
        gender: nn.Module | Callable[..., nn.Module] | None = None,
        normalization: nn.Module | None = None,
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
        if getattr(upstream, "do_normalize", None) and not isinstance(normalization, UtteranceNormalization):
            log.warning(
                "The upstream was pretrained on utterances of mean 0 and variance 1 (do_normalize in its "
                "configuration); model/emotion/normalization=utterance gives it such utterances"
            )
        self.mix = LayerMix(int(upstream.n_states), int(upstream.dim), normalize_states)  # type: ignore[arg-type]
        self.pooling = pooling(in_features=upstream.dim)
        width = int(self.pooling.out_features)  # type: ignore[arg-type]
        self.standardization = RunningStandardization(width) if standardize else None
        self.gender = gender if isinstance(gender, nn.Module) or gender is None else gender(in_features=width)
        self.gender_mode: GenderMode = "none" if self.gender is None else self.gender.mode  # type: ignore[assignment]
        if self.gender_mode == "condition" and attributes is None:
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
        return 0 if self.category is None else int(self.category.n_classes)  # type: ignore[arg-type]

    @property
    def n_attributes(self) -> int:
        """Number of attributes; 0 without an attribute head."""
        return 0 if self.attributes is None else int(self.attributes.n_attributes)  # type: ignore[arg-type]

    @property
    def takes_statistics(self) -> bool:
        """Whether `classify` also takes means and deviations instead of frames."""
        return bool(self.pooling.pools_statistics)

    def fingerprint(self) -> str:
        """Key of what `encode` computes: weights and layers of the upstream, normalisation of the waveform."""
        normalization = "none" if self.normalization is None else self.normalization.key()  # type: ignore[operator]
        upstream = self.upstream.fingerprint()  # type: ignore[operator]
        return sha256_of(f"{upstream}\n{normalization}")

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
        """States of the upstream, (batch, n_states, frames, dim), and the frames of each item, (batch,)."""
        if waveform.ndim != 2:
            raise ValueError(f"waveform must be (batch, time), got {tuple(waveform.shape)}")
        if lengths is not None:
            check_lengths(lengths, waveform)
        if self.normalization is not None:
            waveform = self.normalization(waveform, lengths)
        return self.upstream(waveform, lengths)

    def statistics(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean and deviation over the frames of each state, (batch, n_states, 2 * dim) float32."""
        return frame_statistics(*self.encode(waveform, lengths))

    def classify(self, states: Tensor, frame_lengths: Tensor, gender: Tensor | None = None) -> dict[str, Tensor]:
        """What `forward` returns, from (batch, n_states, frames, dim) or statistics (batch, n_states, 2 * dim).

        Raises:
            ValueError: statistics are given to a pooling that needs frames.
        """
        pooled = self._pool(states, frame_lengths)
        if self.standardization is not None:
            pooled = self.standardization(pooled)
        result = {"embedding": pooled}
        embedding = None
        if self.category is not None:
            embedding = self.category.embed(pooled)  # type: ignore[operator]
            result["logits"] = self.category.output(embedding)  # type: ignore[operator]
        if self.attributes is not None:
            result["attributes"] = self.attributes(pooled, self._context(pooled, embedding, gender))
        if self.gender is not None and self.gender_mode != "condition":
            result["gender_logits"] = self.gender(pooled)
        return result

    def _pool(self, states: Tensor, frame_lengths: Tensor) -> Tensor:
        if not self.takes_statistics:
            if states.ndim == 3:
                raise ValueError(
                    f"{type(self.pooling).__name__} pools frames, and statistics of them are given; cache frames "
                    "(cache_features=frames) or choose model/emotion/pooling=mean_std or mean"
                )
            return self.pooling(self.mix(states), frame_lengths)
        statistics = states if states.ndim == 3 else frame_statistics(states, frame_lengths)
        return self.pooling.from_statistics(self.mix(statistics)).to(states.dtype)  # type: ignore[operator]

    def _context_width(self) -> int:
        """Width of what the attribute head gets besides the pooled vector."""
        category = int(self.category.embedding_features) if self.hierarchical and self.category else 0  # type: ignore
        return category + (int(self.gender.dim) if self.gender and self.gender_mode == "condition" else 0)  # type: ignore

    def _context(self, pooled: Tensor, embedding: Tensor | None, gender: Tensor | None) -> Tensor | None:
        """(batch, context width), or None where there is nothing besides."""
        parts = [embedding] if self.hierarchical and embedding is not None else []
        if self.gender is not None and self.gender_mode == "condition":
            if gender is None:
                gender = torch.full((len(pooled),), UNKNOWN, device=pooled.device)
            parts.append(self.gender(gender))
        return torch.cat(parts, dim=-1) if parts else None
