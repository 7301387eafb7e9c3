"""Speech separation and enhancement: a mixture in, one waveform per source out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hydraudio.core.exportable import Exportable, waveform_sizes
from hydraudio.core.task import Stage, Task
from hydraudio.losses.permutation import PermutationInvariant, reorder
from hydraudio.metrics.accumulate import MaskedMean
from hydraudio.metrics.sdr import si_sdr
from hydraudio.tasks.separation.networks.tasnet import Separator, StreamingSeparator
from hydraudio.tasks.separation.spec import SPEC

MEANS = ("loss", "si_sdr", "si_sdri")
"""What is logged of a validation and of a test."""


class SeparationTask(Task):
    """Train and score a network that maps (batch, time) to (batch, n_sources, time).

    Args:
        net: a :class:`hydraudio.tasks.separation.networks.tasnet.Separator`.
        loss: permutation-invariant wrapper around a waveform loss; one source is its trivial case.
        zero_mean: remove the mean of each signal before SI-SDR; the same in loss, baseline and metric.
        **task_arguments: see :class:`hydraudio.core.task.Task`.

    Logged: ``train/loss``; ``val/`` and ``test/`` ``loss``, ``si_sdr`` (dB, higher is better), ``si_sdri`` (improvement
    over the mixture, dB, higher is better). Degenerate items, whose mixture equals the target, are not averaged in.
    """

    spec = SPEC

    def __init__(
        self, net: nn.Module, loss: PermutationInvariant, zero_mean: bool = False, **task_arguments: Any
    ) -> None:
        super().__init__(net, **task_arguments)
        self.loss = loss
        self.zero_mean = zero_mean
        if not isinstance(net, Separator):
            raise ValueError(f"model.net: {type(net).__name__} has no n_sources, so it is no network for separation")
        self.n_sources = net.n_sources
        names = [f"{stage}_{name}" for stage in ("val", "test") for name in MEANS]
        self.means = nn.ModuleDict({name: MaskedMean() for name in names})

    def metric_names(self, stage: Stage) -> list[str]:
        return ["train/loss"] if stage == "train" else [f"{stage}/{name}" for name in MEANS]

    def training_step(self, batch: dict[str, Any]) -> Tensor:
        estimate = self._separate(batch)
        loss = self.loss(estimate, batch["target"], batch["lengths"])[0].mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(estimate))
        return loss

    def validation_step(self, batch: dict[str, Any]) -> None:
        self._log_means("val", batch, self.evaluate_batch(batch))

    def test_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        result = self.evaluate_batch(batch)
        self._log_means("test", batch, result)
        return result

    def evaluate_batch(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Separate a batch and score it.

        Returns:
            ``loss`` (batch,); ``estimate`` (batch, n_sources, time) in the targets' order, fp32; ``permutation``
            (batch, n_sources), the estimate that belongs to each target; ``si_sdr``, ``si_sdr_mixture`` and
            ``si_sdri``, each (batch, n_sources) in dB.
        """
        mixture, target, lengths = batch["mixture"], batch["target"], batch["lengths"]
        estimate = self._separate(batch).float()
        loss, permutation = self.loss(estimate, target, lengths)
        estimate = reorder(estimate, permutation)
        after = si_sdr(estimate, target, lengths, zero_mean=self.zero_mean)
        before = si_sdr(mixture[:, None].expand_as(target), target, lengths, zero_mean=self.zero_mean)
        return {
            "loss": loss,
            "estimate": estimate,
            "permutation": permutation,
            "si_sdr": after,
            "si_sdr_mixture": before,
            "si_sdri": after - before,
        }

    def predict(self, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Separate ``mixture`` into ``estimate``, in the order of the network."""
        return {"estimate": self.predict_waveform(example["mixture"])}

    @torch.inference_mode()
    def predict_waveform(self, waveform: Tensor) -> Tensor:
        """Separate (batch, time) at ``sample_rate`` into (batch, n_sources, time), fp32."""
        return self.net(waveform).float()

    @torch.inference_mode()
    def predict_stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Separate a recording that comes in blocks (channels, time) into blocks (channels, n_sources, time), fp32.

        The memory needed does not grow, and the whole equals what `predict_waveform` gives for the whole. Needs a
        causal network.
        """
        net, state = self.require_causal(), None
        for block in blocks:
            estimate, state = net.stream(block, state)
            yield estimate.float()
        if state is not None:
            yield net.flush(state).float()

    def export_module(self) -> Exportable:
        """Return the network itself: ``mixture`` (1, time) to ``estimate`` (1, n_sources, time)."""
        metadata = {"sample_rate": str(self.sample_rate), "n_sources": str(self.n_sources)}
        inputs = {"mixture": SPEC.batch["mixture"]}
        return Exportable(self.net, inputs, ("estimate",), waveform_sizes(self.sample_rate), metadata)

    def require_causal(self) -> StreamingSeparator:
        """Return the network, if it can be streamed; else ValueError."""
        if not (isinstance(self.net, StreamingSeparator) and self.net.causal):
            raise ValueError(
                f"streaming=true: {type(self.net).__name__} is not causal as it is configured; leave streaming=false, "
                "or train with model.net.causal=true (Conv-TasNet) or model.net.bidirectional=false (Mamba-TasNet)"
            )
        return self.net

    def _separate(self, batch: dict[str, Any]) -> Tensor:
        """(batch, n_sources, time); what lies beyond an item's length in a padded batch has no meaning."""
        if batch["padded"]:
            return self.net(batch["mixture"], batch["lengths"])
        return self.net(batch["mixture"])

    def _log_means(self, stage: str, batch: dict[str, Any], result: dict[str, Tensor]) -> None:
        scored = ~batch["degenerate"]
        for name in MEANS:
            mean = cast(MaskedMean, self.means[f"{stage}_{name}"])
            mean.update(result[name], scored)
            self.log(f"{stage}/{name}", mean, on_step=False, on_epoch=True)
