"""Classification of clips by an encoder: fine-tuning of a pretrained one, or training from scratch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multilabel_average_precision

from hydraudio.core.exportable import Exportable
from hydraudio.core.sampling import generator
from hydraudio.core.task import Stage, parameter_groups
from hydraudio.losses.category import CategoryLoss
from hydraudio.metrics.accumulate import Predictions
from hydraudio.metrics.classification import SCALARS, category_scores
from hydraudio.tasks.pretraining.augmentation import Mixup, SpecAugment
from hydraudio.tasks.pretraining.encoding import EncoderTask, Spectrogram, clip_sizes
from hydraudio.tasks.pretraining.networks.classifier import EncoderClassifier
from hydraudio.tasks.pretraining.networks.encoder import Encoder
from hydraudio.tasks.pretraining.spec import SPEC


class ClassificationTask(EncoderTask):
    """Train a classifier of clips, and score whole clips.

    A clip that is longer than the encoder's grid is embedded in chunks of it, and classified by their mean. Weights of
    a pretraining: ``init_from=CKPT init_only=[net.encoder,spectrogram]``.

    Args:
        net: the encoder with a head.
        loss: on logits and target: of one class per clip, or of several (`multilabel`).
        multilabel: a clip may have several classes; their probabilities are sigmoids, else a softmax.
        layer_decay: factor of the learning rate from each block of the encoder to the one below it; 1 = none.
        mixup: of waveforms, in training; None = none.
        augment: of spectrograms, in training; None = none.
        **encoder_arguments: see :class:`hydraudio.tasks.pretraining.encoding.EncoderTask`.

    Logged: ``train/loss``; ``val/`` and ``test/``, each computed once from the predictions of the whole set: ``loss``;
    of one class per clip ``macro_f1``, ``weighted_f1``, ``accuracy``, ``uar`` (mean recall), ``top2`` (higher is
    better), ``nll`` (nats) and ``brier`` (lower is better); of several classes ``mean_ap``, the mean over classes of
    the average precision. Clips without a label are not scored.
    """

    spec = SPEC
    net: EncoderClassifier

    def __init__(
        self,
        net: EncoderClassifier,
        loss: CategoryLoss,
        multilabel: bool = False,
        layer_decay: float = 0.75,
        mixup: Mixup | None = None,
        augment: SpecAugment | None = None,
        **encoder_arguments: Any,
    ) -> None:
        super().__init__(net, **encoder_arguments)
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay} must be above 0 and at most 1")
        if len(self.class_names) != net.n_classes:
            raise ValueError(f"{len(self.class_names)} classes for a head with {net.n_classes} outputs")
        self.loss, self.multilabel, self.layer_decay = loss, multilabel, layer_decay
        self.mixup, self.augment = mixup, augment
        self.predictions = {"val": Predictions(), "test": Predictions()}

    def optimizer_groups(self) -> list[dict[str, Any]]:
        """Group by depth: layer 0 is what stands before the blocks, the highest the norm, the head and all else."""
        layers = layer_numbers(self.net.encoder)
        top = len(self.net.encoder.blocks) + 1
        by_layer: dict[int, list[nn.Parameter]] = {}
        for parameter in self.parameters():
            by_layer.setdefault(layers.get(parameter, top), []).append(parameter)
        rate, groups = self.learning_rate(), []
        for layer, parameters in sorted(by_layer.items()):
            for group in parameter_groups(parameters):
                name = f"layer_{layer}" + ("/no_decay" if group.get("weight_decay") == 0.0 else "")
                groups.append({**group, "lr": rate * self.layer_decay ** (top - layer), "name": name})
        return [group for group in groups if group["params"]]

    def metric_names(self, stage: Stage) -> list[str]:
        scores = () if stage == "train" else ("mean_ap",) if self.multilabel else SCALARS
        return [f"{stage}/{name}" for name in ("loss", *scores)]

    def training_step(self, batch: dict[str, Any]) -> Tensor:
        rng = generator(self.seed, *self.step_numbers())
        if self.mixup is not None:
            batch = self.mixup(batch, rng)
        lengths = batch["lengths"] if batch["padded"] else None
        spectrogram = self.spectrogram(batch["waveform"], lengths)
        if self.augment is not None:
            spectrogram = self.augment(spectrogram, rng)
        counts = None if lengths is None else self.spectrogram.frame_counts(lengths)
        loss = self.mean_loss(self.net(spectrogram, counts), batch["target"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(spectrogram))
        return loss

    def on_validation_epoch_start(self) -> None:
        self.predictions["val"].clear()

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        self.predictions["test"].clear()

    def test_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def evaluate_batch(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Classify whole clips and score them.

        Returns:
            ``loss`` (scalar); ``logits`` and ``probabilities`` (batch, classes); fp32.
        """
        result = self.predict_waveform(batch["waveform"], batch["lengths"])
        return {"loss": self.mean_loss(result["logits"], batch["target"]), **result}

    def predict(self, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Classify ``waveform``, of which ``lengths`` samples count (all, if there are no lengths)."""
        return self.predict_waveform(example["waveform"], example.get("lengths"))

    @torch.inference_mode()
    def predict_waveform(self, waveform: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Classify (batch, time) at ``sample_rate`` with (batch,) samples that count, None = all.

        Returns:
            ``logits`` and ``probabilities`` (batch, classes).
        """
        counts = None if lengths is None else self.spectrogram.frame_counts(lengths)
        logits = self.net(self.spectrogram(waveform, lengths), counts)
        return {"logits": logits, "probabilities": self.probabilities(logits)}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of each class, (batch, classes)."""
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)

    def mean_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Average the loss over the clips that have a target; 0 without any."""
        return self.loss(logits, target).sum() / self.loss.reduction_weights(target).sum().clamp_min(1e-12)

    def stand_alone(self) -> dict[str, Any]:
        self.mixup = self.augment = None
        return {"mixup": None, "augment": None, "cache_dir": None}

    def export_module(self) -> Exportable:
        """Map ``waveform`` (1, time) to ``probabilities`` (1, classes)."""
        metadata = {"sample_rate": str(self.sample_rate), "class_names": json.dumps(self.class_names)}
        inputs = {"waveform": SPEC.batch["waveform"]}
        module = _Recogniser(self.spectrogram, self.net, self.multilabel)
        return Exportable(module, inputs, ("probabilities",), clip_sizes(self.sample_rate), metadata)

    def _evaluate(self, stage: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        result = self.evaluate_batch(batch)
        truth = {name: batch[name] for name in ("target", "label")}
        self.predictions[stage].add(batch["id"], logits=result["logits"], **truth)
        return result

    @torch.no_grad()
    def _log_scores(self, stage: str) -> None:
        rows = self.predictions[stage].collect()
        if not rows:
            return
        logits, target = (rows[name].to(self.device) for name in ("logits", "target"))
        scores: dict[str, float | Tensor] = {"loss": self.mean_loss(logits, target)}
        if self.multilabel:
            scores["mean_ap"] = mean_average_precision(self.probabilities(logits), target)
        else:
            found = category_scores(self.probabilities(logits), rows["label"], len(self.class_names))
            scores |= {name: found[name] for name in SCALARS}
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, sync_dist=True)


class _Recogniser(nn.Module):
    """(1, time) waveform -> (1, classes) probabilities."""

    def __init__(self, spectrogram: Spectrogram, net: EncoderClassifier, multilabel: bool) -> None:
        super().__init__()
        self.spectrogram, self.net, self.multilabel = spectrogram, net, multilabel

    def forward(self, waveform: Tensor) -> Tensor:
        logits = self.net(self.spectrogram(waveform))
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)


def layer_numbers(encoder: Encoder) -> dict[nn.Parameter, int]:
    """Number the layers that a parameter of an encoder may lie in: 0 before the blocks, k + 1 in block k.

    The norm after the blocks has no number: it learns as fast as what stands above it.
    """
    inside = {parameter: index for index, block in enumerate(encoder.blocks, 1) for parameter in block.parameters()}
    after = set(encoder.norm.parameters())
    return {parameter: inside.get(parameter, 0) for parameter in encoder.parameters() if parameter not in after}


def mean_average_precision(probabilities: Tensor, target: Tensor) -> Tensor:
    """Average over the classes that occur of the average precision, of clips with any class.

    Args:
        probabilities: (n, classes).
        target: (n, classes), 0 or 1.
    """
    known = target.sum(-1) > 0
    wanted = target[known].round().long()
    occurs = wanted.any(0)
    if not occurs.any():
        return probabilities.new_tensor(float("nan"))
    p, t = probabilities[known][:, occurs], wanted[:, occurs]
    if p.shape[1] == 1:  # torchmetrics takes two columns at least
        p, t = p.repeat(1, 2), t.repeat(1, 2)
    return multilabel_average_precision(p, t, num_labels=p.shape[1], average="macro")
