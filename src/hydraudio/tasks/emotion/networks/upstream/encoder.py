"""Speech encoders as upstreams of emotion networks: WavLM, HuBERT and wav2vec 2.0.

Chen et al., "WavLM", IEEE JSTSP 16(6), 2022; Hsu et al., "HuBERT", IEEE/ACM TASLP 29, 2021; Baevski et al.,
"wav2vec 2.0", NeurIPS 2020. The layers are those of transformers; the way through them is ours, so that padding has no
influence, frozen parts keep no graph, every hidden state is at hand, and WavLM's attention uses the fused kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hydraudio.core.options import check_choice
from hydraudio.nn.layers.masking import check_lengths, frame_mask
from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.tasks.emotion.networks.upstream import trainable
from hydraudio.tasks.emotion.networks.upstream.attention import position_table
from hydraudio.tasks.emotion.networks.upstream.loading import SAMPLE_RATE, open_model

ATTENTIONS = ("sdpa", "eager")
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Of the seven convolutions without padding of all three families: 20 ms per frame at 16 kHz, 25 ms seen by each
(strides multiply to 320 samples, the receptive field is 400)."""

Count = TypeVar("Count", int, Tensor)


class Upstream(nn.Module):
    """(batch, time) at 16 kHz -> hidden states (batch, states, frames, dim) and the frames of each item.

    A padded batch with `lengths` gives each item the states that it has alone. Frozen parts are always in evaluation
    mode, and everything below the first trained part runs without a graph. LayerDrop is never used: it would change the
    number of hidden states from step to step.

    Args:
        source: folder in the format of the Hugging Face hub, or a name on the hub; its config.json says which of the
            three families it is. None: random weights, of `architecture` if that is given, else of a miniature.
        architecture: content of config.json (`${pretrained_config:SOURCE}`), kept with the run so that a checkpoint is
            restored without the source.
        revision: commit, tag or branch of a hub name.
        trainable_blocks: how many of the topmost blocks are trained, or "all".
        trainable_extras: parts that are trained beside: `convolutions`, `feature_projection`, `positional` (with the
            norm before the blocks, if any), `final_norm`, or `all` for those that have a part in the states.
        layers: which states come out. "last": the encoder's output, behind the final norm where the model has one.
            "all": the input of the first block and the output of every block, all before the final norm. A list of
            indices into "all", negative ones from the end. Blocks above the highest are dropped.
        attention: "sdpa" (fused) or "eager" (as transformers computes it by default).
        mask_time_prob: SpecAugment along time on the projected features, in training, as long as any part is trained:
            the share of frames in spans of the configuration's `mask_time_length`. None: the configuration's share.
        gradient_checkpointing: recompute trained blocks in the backward pass instead of keeping their activations.
        lora: `{rank, alpha, targets}` puts adapters into every block, which are then all that is trained.
        seed: of random weights and adapters; the global generators are left alone.

    Attributes:
        n_states: number of states that come out.
        dim: their width.
        n_blocks: blocks in use.
        sample_rate: 16000.
        shortest_samples: what one frame sees, 400; shorter waveforms are padded to it.
        do_normalize: whether the model wants every utterance at mean 0 and variance 1; None where the source does not
            say. The caller does it.

    Raises:
        FileNotFoundError: the source does not exist.
        ValueError: the source or an option does not fit; the message names it.
    """

    def __init__(
        self,
        source: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        revision: str | None = None,
        trainable_blocks: int | str = 3,
        trainable_extras: Sequence[str] = (),
        layers: str | Sequence[int] = "last",
        attention: str = "sdpa",
        mask_time_prob: float | None = None,
        gradient_checkpointing: bool = False,
        lora: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.attention = check_choice("attention", attention, ATTENTIONS)
        self.gradient_checkpointing = gradient_checkpointing
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.architecture, self.model = open_model(source, architecture, revision, attention)
            self._choose_states(layers)
            self.mask_time_prob = self._mask_probability(mask_time_prob)
            trainable.mark_no_weight_decay(self.model)
            self._train_lora(lora, trainable_blocks, trainable_extras)
        config = self.model.config
        self.dim = int(config.hidden_size)
        self.sample_rate = SAMPLE_RATE
        self.do_normalize: bool | None = self.architecture.get("do_normalize")
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.shortest_samples = receptive_field(self.kernels, self.strides)
        self._fingerprint: tuple[tuple[int, ...], str] | None = None
        self.train(self.training)

    @property
    def n_blocks(self) -> int:
        return len(self.model.encoder.layers)

    @property
    def n_states(self) -> int:
        return len(self.states) if self.states else 1

    def stand_alone(self) -> dict[str, Any]:
        """Fold the adapters into the weights; return the arguments that build the result without its source."""
        self.merge_lora()
        return {"source": None, "revision": None, "architecture": dict(self.architecture), "lora": None}

    @property
    def part_names(self) -> list[str]:
        """Names of the parts that can be frozen, in the order of computation."""
        return list(trainable.upstream_parts(self.model))

    @property
    def frozen(self) -> bool:
        """Whether nothing is trained, so that the states of an utterance never change."""
        return not any(parameter.requires_grad for parameter in self.model.parameters())

    def set_trainable(self, blocks: int | str, extras: Sequence[str] = ()) -> None:
        """Train the top `blocks` blocks and the `extras` and nothing else, from the next step on.

        Raises:
            ValueError: there are no such parts, or there are adapters, beside which nothing is trained.
        """
        if any(map(trainable.is_lora, self.model.state_dict())):
            raise ValueError("lora: the adapters alone are trained; no block can be unfrozen beside them")
        used = [name for name in self.part_names if name != "final_norm" or not self.states]
        if "final_norm" in extras and self.states:
            raise ValueError("trainable_extras: final_norm has no part in the states; it is used with layers=last only")
        trained = trainable.trained_parts(used, blocks, list(extras))
        if self.states and max(self.states) == 0 and "block_0" in trained:
            raise ValueError("trainable_blocks: no block has a part in layers=[0], the input of the first one")
        for name in self.part_names:
            for parameter in trainable.part_parameters(self.model, name):
                parameter.requires_grad_(name in trained)
        if self.mask_time_prob == 0 and hasattr(self.model, "masked_spec_embed"):
            self.model.masked_spec_embed.requires_grad_(False)  # without use
        self.train(self.training)

    def train(self, mode: bool = True) -> Upstream:
        """As in every module, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for name, modules in trainable.upstream_parts(self.model).items():
            for module in modules:
                module.train(mode and trainable.is_trained(self.model, name))
        return self

    def parameter_groups(self, lr: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
        """Group trained parts as `{params, lr, name}`; the top block gets `lr`, each below `layer_decay` times it."""
        return trainable.parameter_groups(self.model, lr, layer_decay)

    def merge_lora(self) -> None:
        """Fold the adapters into the weights, in place: the same states without adapters, all frozen."""
        trainable.merge_lora(self.model)
        self.set_trainable(0)

    def fingerprint(self) -> str:
        """SHA-256 of the architecture, the choice of states and the weights, as 64 hexadecimal digits."""
        parameters = dict(sorted(self.model.named_parameters()))
        versions = tuple(parameter._version for parameter in parameters.values())
        if self._fingerprint is None or self._fingerprint[0] != versions:
            digest = hashlib.sha256(json.dumps([self.architecture, self.states], sort_keys=True).encode())
            for name, parameter in parameters.items():
                digest.update(f"{name} {tuple(parameter.shape)}".encode())
                digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
            self._fingerprint = versions, digest.hexdigest()
        return self._fingerprint[1]

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states of every item.

        Args:
            waveform: (batch, time) float32. Fewer than 400 samples are padded with zeros.
            lengths: (batch,) int64 samples of each item; None: all of `time`. Samples behind them have no influence.

        Returns:
            states (batch, n_states, frames, dim), without meaning behind an item's frames, and the frames of each item
            (batch,) int64.
        """
        waveform, n_frames = self._padded(waveform, lengths)
        first = 0 if waveform.requires_grad else self._first_trained()
        with _graph(first <= 0):
            x = self._convolutions(waveform, lengths)
        valid = None if lengths is None else frame_mask(n_frames, x.shape[-1])
        with _graph(first <= 1):
            x = self._projection(x.transpose(1, 2), n_frames)
        with _graph(first <= 2):
            x = self._positions(x, valid)
        states = self._blocks(x, valid, first - 3)
        return states, n_frames

    def _padded(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The waveform with zeros behind each item and at least one frame, and the frames of each item."""
        if waveform.ndim != 2:
            raise ValueError(f"the waveform must be (batch, time), got {tuple(waveform.shape)}")
        n_samples = waveform.shape[1]
        if lengths is None:
            counts = torch.full((len(waveform),), n_samples, device=waveform.device)
        else:
            check_lengths(lengths, waveform)
            counts = lengths
            waveform = waveform.masked_fill(~frame_mask(lengths, n_samples), 0)
        if n_samples < self.shortest_samples:
            waveform = F.pad(waveform, (0, self.shortest_samples - n_samples))
        return waveform, frame_lengths(counts, self.kernels, self.strides)

    def _convolutions(self, waveform: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, time) -> (batch, channels, frames)."""
        x = waveform.unsqueeze(1)
        for layer in self.model.feature_extractor.conv_layers:
            norm = getattr(layer, "layer_norm", None)
            if lengths is not None and isinstance(norm, nn.GroupNorm):
                clamped = lengths.clamp(min=self.shortest_samples)
                counts = frame_lengths(clamped, self.kernels[:1], self.strides[:1])
                x = layer.activation(masked_group_norm(layer.conv(x), counts, norm))
            else:
                x = layer(x)
        return x

    def _projection(self, x: Tensor, n_frames: Tensor) -> Tensor:
        """(batch, frames, channels) -> (batch, frames, dim), with spans replaced in training."""
        projected: Any = self.model.feature_projection(x)
        x = projected if isinstance(projected, Tensor) else projected[0]
        if not self.training or self.frozen or self.mask_time_prob == 0:
            return x
        config = self.model.config
        span, least = config.mask_time_length, config.mask_time_min_masks
        chosen = time_mask(n_frames, x.shape[1], self.mask_time_prob, span, least)
        return torch.where(chosen.unsqueeze(-1), self.model.masked_spec_embed.to(x.dtype), x)

    def _positions(self, x: Tensor, valid: Tensor | None) -> Tensor:
        encoder = self.model.encoder
        if valid is not None:  # the positional convolution looks across the end of an item
            x = x.masked_fill(~valid.unsqueeze(-1), 0)
        x = x + encoder.pos_conv_embed(x)
        if not self.model.config.do_stable_layer_norm:
            x = encoder.layer_norm(x)
        return encoder.dropout(x)

    def _blocks(self, x: Tensor, valid: Tensor | None, first: int) -> Tensor:
        """(batch, frames, dim) -> (batch, states, frames, dim); blocks from `first` on keep a graph."""
        blocks = self.model.encoder.layers
        shared = self._shared_inputs(x, valid)
        states = [x]
        for i, block in enumerate(blocks):
            with _graph(first <= i):
                x = self._block(block, x, shared)
            states.append(x)
        if self.states:
            return torch.stack([states[i] for i in self.states], 1)
        if self.model.config.do_stable_layer_norm:
            with _graph(first <= len(blocks)):
                x = self.model.encoder.layer_norm(x)
        return x.unsqueeze(1)

    def _block(self, block: nn.Module, x: Tensor, shared: dict[str, Tensor | None]) -> Tensor:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            y = checkpoint(partial(block, **shared), x, use_reentrant=False)
        else:
            y = block(x, **shared)
        return y if isinstance(y, Tensor) else y[0]

    def _shared_inputs(self, x: Tensor, valid: Tensor | None) -> dict[str, Tensor | None]:
        """What every block gets beside its input: the mask of valid keys and, for WavLM, the position biases."""
        mask = None if valid is None else _additive_mask(valid, x.dtype)
        if self.architecture["model_type"] != "wavlm":
            return {"attention_mask": mask}
        attention = self.model.encoder.layers[0].attention
        table = position_table(attention, x.shape[1])
        if self.attention == "eager":  # which wants the valid keys, and the table repeated per item
            return {"attention_mask": valid, "position_bias": table.expand(x.shape[0], -1, -1, -1).flatten(0, 1)}
        return {"attention_mask": mask, "position_bias": table}

    def _first_trained(self) -> int:
        """Position of the first trained part; behind the last one if everything is frozen."""
        names = self.part_names
        return next((i for i, name in enumerate(names) if trainable.is_trained(self.model, name)), len(names))

    def _choose_states(self, layers: str | Sequence[int]) -> None:
        """Set `states`, the indices into all states (empty: the encoder's output), and drop the blocks above them."""
        self.states: list[int] = []
        if layers == "last":
            return
        n_states = self.n_blocks + 1
        chosen = range(n_states) if layers == "all" else layers
        if isinstance(chosen, str) or not len(chosen) or not all(-n_states <= i < n_states for i in chosen):
            raise ValueError(f"layers={layers!r}: give last, all, or a list of indices from 0 to {n_states - 1}")
        self.states = [i % n_states for i in chosen]
        self.model.encoder.layers = self.model.encoder.layers[: max(1, *self.states)]

    def _train_lora(self, options: Mapping[str, Any] | None, blocks: int | str, extras: Sequence[str]) -> None:
        if options is None:
            self.set_trainable(blocks, extras)
            return
        if blocks != 0 or list(extras):
            raise ValueError(
                "lora trains adapters in every block and nothing else: set trainable_blocks=0 and no extras"
            )
        rank, alpha, targets = trainable.check_lora(options, self.architecture["model_type"], self.attention)
        trainable.add_lora(self.model, rank, alpha, targets)

    def _mask_probability(self, given: float | None) -> float:
        config = self.model.config
        usual = config.mask_time_prob if config.apply_spec_augment else 0.0
        probability = float(usual if given is None else given)
        if not 0 <= probability <= 1:
            raise ValueError(f"mask_time_prob={probability} must be between 0 and 1")
        if probability > 0 and not hasattr(self.model, "masked_spec_embed"):
            raise ValueError(f"mask_time_prob={probability}: the model has no masked_spec_embed")
        return probability


def _additive_mask(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, frames) bool -> (batch, 1, 1, frames), zero on valid keys and minus infinity on others."""
    return torch.zeros_like(valid, dtype=dtype).masked_fill(~valid, -torch.inf)[:, None, None]


def _graph(kept: bool) -> torch.set_grad_enabled:
    """Context that keeps the graph only if asked to, and only where the caller wants one."""
    return torch.set_grad_enabled(kept and torch.is_grad_enabled())


def receptive_field(kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> int:
    """Return the samples that one frame sees: the shortest waveform that gives a frame."""
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return field


def frame_lengths(lengths: Count, kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> Count:
    """Frames of waveforms of these lengths, an int or an integer tensor of any shape.

    Shorter waveforms than the receptive field count as padded to it, so that there is always a frame.

    Raises:
        ValueError: the lengths are a tensor of floats, whose sums are inexact in half precision.
    """
    if isinstance(lengths, Tensor) and lengths.is_floating_point():
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    shortest = receptive_field(kernels, strides)
    frames = lengths.clamp(min=shortest) if isinstance(lengths, Tensor) else max(lengths, shortest)
    for kernel, stride in zip(kernels, strides, strict=True):
        frames = (frames - kernel) // stride + 1
    return frames


def masked_group_norm(x: Tensor, n_frames: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Return `norm` with one group per channel, its statistics over each item's own frames alone, in float32.

    Encoders with feat_extract_norm="group" normalise the first convolution's output over time, padding included, so an
    utterance's features depend on the batch that it is in; with this they do not.

    Args:
        x: (batch, channels, frames).
        n_frames: (batch,) int64.
        norm: gives gain, bias and epsilon.

    Returns:
        as x; what follows an item's frames is without meaning.
    """
    valid = frame_mask(n_frames, x.shape[-1]).unsqueeze(1)
    x32 = at_least_float32(x)
    count = n_frames[:, None, None]
    mean = x32.masked_fill(~valid, 0).sum(-1, keepdim=True) / count
    variance = torch.where(valid, x32 - mean, 0).square().sum(-1, keepdim=True) / count
    scale = torch.rsqrt(variance + norm.eps) * norm.weight[:, None]
    return torch.addcmul(norm.bias[:, None] - mean * scale, x32, scale).to(x.dtype)


def time_mask(n_frames: Tensor, size: int, probability: float, span: int, min_spans: int = 0) -> Tensor:
    """SpecAugment along time: which frames to replace. (batch,) int64 -> (batch, size) bool.

    Park et al., "SpecAugment", Interspeech 2019, in the form of wav2vec 2.0: probability * n_frames / span spans of
    `span` frames start at places drawn without replacement and may overlap; the fraction is rounded up as often as it
    says. An item gets at most n_frames // span spans, hence none where it is shorter than a span. Draws from torch's
    generator of the device.
    """
    device = n_frames.device
    spans = (probability * n_frames / span + torch.rand(len(n_frames), device=device)).long()
    spans = torch.minimum(spans.clamp(min=min_spans), n_frames // span)
    allowed = frame_mask(n_frames - span + 1, size)
    rank = torch.rand(len(n_frames), size, device=device).masked_fill(~allowed, 2).argsort(1).argsort(1)
    starts = (rank < spans[:, None]).float()
    return F.max_pool1d(F.pad(starts, (span - 1, 0))[:, None], span, stride=1)[:, 0].bool()
