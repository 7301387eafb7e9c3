"""Pretraining of a masked autoencoder: most patches of a spectrogram are hidden, and predicted from the others."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hydraudio.core.exportable import Exportable
from hydraudio.core.task import Stage
from hydraudio.metrics.accumulate import MaskedMean, Predictions
from hydraudio.tasks.pretraining.encoding import EncoderTask, WaveformEncoder, clip_sizes
from hydraudio.tasks.pretraining.networks.autoencoder import MaskedAutoencoder
from hydraudio.tasks.pretraining.networks.encoder import Pooling
from hydraudio.tasks.pretraining.representation import neighbour_accuracy, rankme
from hydraudio.tasks.pretraining.spec import SPEC

_LOSSES = ("loss", "baseline_loss", "visible_loss")


class MAETask(EncoderTask):
    """Train a masked autoencoder, and watch what its embeddings are worth.

    A training item that is longer than the encoder's grid is cut to it at a drawn place. In validation and test, whole
    clips are cut into windows of the grid, and the masks of a batch depend on its clips: they are the same in every
    epoch.

    Args:
        net: the autoencoder.
        pooling: of embeddings: cls, mean, cls+mean, or frequency (mean over time of each band, side by side).
        probe_every_n_epochs: embed the validation set in the validations of the n-th, the 2n-th epoch and so on, for
            RankMe and the nearest neighbours; None = in the test only.
        probe_items: training clips that a neighbour is looked for among, at most.
        **encoder_arguments: see :class:`hydraudio.tasks.pretraining.encoding.EncoderTask`.

    Logged (lower is better but for the last two): ``loss``, the mean squared error over masked patches;
    ``baseline_loss``, that of their mean, which a network must beat; ``relative_loss``, the one by the other; of
    decoders that predict them, ``visible_loss`` over visible patches, which nothing is trained for. Of embeddings,
    ``rankme`` (1 = collapsed) and, of corpora with classes, ``knn_accuracy``: how often the nearest training clips vote
    for the right class.
    """

    spec = SPEC
    net: MaskedAutoencoder

    def __init__(
        self,
        net: MaskedAutoencoder,
        pooling: Pooling = "mean",
        probe_every_n_epochs: int | None = 1,
        probe_items: int = 1000,
        **encoder_arguments: Any,
    ) -> None:
        super().__init__(net, **encoder_arguments)
        if probe_items < 1 or (probe_every_n_epochs is not None and probe_every_n_epochs < 1):
            raise ValueError(
                f"probe_items={probe_items} and probe_every_n_epochs={probe_every_n_epochs} must be at least 1"
            )
        net.embedding_dim(pooling)  # a wrong pooling is known before the training
        self.pooling, self.probe_every_n_epochs, self.probe_items = pooling, probe_every_n_epochs, probe_items
        self.means = nn.ModuleDict({name: MaskedMean() for name in self._losses()})
        self.embeddings = Predictions()

    def metric_names(self, stage: Stage) -> list[str]:
        names = [*self._losses(), "relative_loss"]
        if stage == "test" or (stage == "val" and self.probe_every_n_epochs is not None):
            names += ["rankme", *(["knn_accuracy"] if self.class_names else [])]
        return [f"{stage}/{name}" for name in (["loss", "baseline_loss"] if stage == "train" else names)]

    def training_step(self, batch: dict[str, Any]) -> Tensor:
        draws = self.step_generator()
        spectrogram = self.drawn(batch, draws)
        output = self.net(spectrogram, self.net.draw(len(spectrogram), spectrogram.device, draws))
        self.log("train/loss", output.loss, prog_bar=True, batch_size=len(spectrogram))
        with torch.no_grad():
            baseline = self.net.baseline_loss(spectrogram, output.masked)
        self.log("train/baseline_loss", baseline, batch_size=len(spectrogram))
        return output.loss

    def on_validation_epoch_start(self) -> None:
        self._forget()

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._evaluate(batch, embeds=self._probes_now())

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", self._probes_now())

    def on_test_epoch_start(self) -> None:
        self._forget()

    def test_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._evaluate(batch, embeds=True)

    def on_test_epoch_end(self) -> None:
        self._log_scores("test", probes=True)

    def evaluate_batch(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Hide patches of whole clips and predict them.

        Returns:
            ``loss``, ``baseline_loss`` and, if there is one, ``visible_loss`` (scalars); ``item_loss`` (batch,) of each
            clip; ``n_windows``, of which the losses are means.
        """
        windows, owners = self.windows(batch)
        mask = self.net.draw(len(windows), windows.device, self._fixed_generator(batch["id"]))
        output = self.net(windows, mask)
        found = {"loss": output.loss, "baseline_loss": self.net.baseline_loss(windows, output.masked)}
        visible = self.net.visible_loss(windows, output)
        if visible is not None:
            found["visible_loss"] = visible
        errors = (output.prediction.float() - self.net.targets(windows)).square().mean(-1)
        of_window = (errors * output.masked).sum(1) / output.masked.sum(1)
        sums = torch.zeros(len(batch["id"]), device=windows.device).index_add_(0, owners, of_window)
        found["item_loss"] = sums / torch.bincount(owners, minlength=len(sums))
        return {**found, "n_windows": torch.tensor(len(windows))}

    def predict(self, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Embed ``waveform``, of which ``lengths`` samples count (all, if there are no lengths)."""
        return self.predict_waveform(example["waveform"], example.get("lengths"))

    @torch.inference_mode()
    def predict_waveform(self, waveform: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Embed (batch, time) at ``sample_rate`` with (batch,) samples that count, None = all: ``embedding``."""
        return {"embedding": self.embed(waveform, lengths, self.pooling)}

    def export_module(self) -> Exportable:
        """Map ``waveform`` (1, time) to ``embedding`` (1, channels): the encoder, without masks and decoder."""
        metadata = {"sample_rate": str(self.sample_rate), "pooling": json.dumps(self.pooling)}
        inputs = {"waveform": SPEC.batch["waveform"]}
        module = WaveformEncoder(self.spectrogram, self.net.encoder, self.pooling)
        return Exportable(module, inputs, ("embedding",), clip_sizes(self.sample_rate), metadata)

    def _losses(self) -> tuple[str, ...]:
        return _LOSSES if self.net.decoder.predicts_visible else _LOSSES[:2]

    def _fixed_generator(self, ids: list[str]) -> torch.Generator:
        """Of the masks of a batch of whole clips."""
        return self.generator(zlib.crc32("\0".join(ids).encode()))

    def _probes_now(self) -> bool:
        if self.trainer.sanity_checking or self.probe_every_n_epochs is None:
            return False
        return (self.current_epoch + 1) % self.probe_every_n_epochs == 0

    def _means(self) -> dict[str, MaskedMean]:
        return {name: cast(MaskedMean, mean) for name, mean in self.means.items()}

    def _forget(self) -> None:
        self.embeddings.clear()
        for mean in self._means().values():
            mean.reset()

    def _evaluate(self, batch: dict[str, Any], embeds: bool) -> dict[str, Tensor]:
        result = self.evaluate_batch(batch)
        for name, mean in self._means().items():
            mean.update(result[name].expand(int(result["n_windows"])))
        if embeds:
            result["embedding"] = self.embed(batch["waveform"], batch["lengths"], self.pooling)
            self.embeddings.add(batch["id"], embedding=result["embedding"], label=batch["label"])
        return result

    def _log_scores(self, stage: str, probes: bool) -> None:
        scores = {name: mean.compute() for name, mean in self._means().items()}
        scores["relative_loss"] = scores["loss"] / scores["baseline_loss"]
        rows = self.embeddings.collect()
        if probes and rows:
            scores |= self._probe(rows["embedding"], rows["label"])
        self.log_dict({f"{stage}/{name}": value.float() for name, value in scores.items()}, sync_dist=True)

    def _probe(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scores = {"rankme": rankme(embeddings)}
        known = labels >= 0
        if self.class_names and known.any():
            bank, bank_labels = self._bank()
            scores["knn_accuracy"] = neighbour_accuracy(
                bank, bank_labels, embeddings[known], labels[known], len(self.class_names)
            )
        return scores

    @torch.inference_mode()
    def _bank(self) -> tuple[Tensor, Tensor]:
        """Embeddings (n, channels) and classes (n,) of labelled training clips."""
        found = Predictions()
        for batch in self._clips.clip_loader("train", self.probe_items):
            waveform, lengths = (batch[name].to(self.device) for name in ("waveform", "lengths"))
            embedding = self.embed(waveform, lengths, self.pooling)
            found.add(batch["id"], embedding=embedding, label=batch["label"])
        rows = found.collect()
        known = rows["label"] >= 0
        return rows["embedding"][known], rows["label"][known]
