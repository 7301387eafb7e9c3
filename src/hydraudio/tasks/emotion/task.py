"""Speech emotion recognition: an utterance in, a category, attributes or both out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hydra_preflight.errors import ConfigError
from hydraudio.core.exportable import Exportable, waveform_sizes
from hydraudio.core.sampling import EpochBatchSampler
from hydraudio.core.task import Stage, Task, parameter_groups
from hydraudio.metrics.accumulate import Predictions
from hydraudio.metrics.classification import SCALARS, category_scores
from hydraudio.nn.weight_decay import exempt_from_weight_decay
from hydraudio.tasks.emotion.losses import ConcordanceLoss, HeadLosses, LossOfHead
from hydraudio.tasks.emotion.metrics import attribute_scores
from hydraudio.tasks.emotion.networks.network import EmotionNetwork
from hydraudio.tasks.emotion.spec import SPEC

if TYPE_CHECKING:
    from hydraudio.tasks.emotion.corpora.base import EmotionDataModule

ATTRIBUTE_METRICS = ("ccc", "pearson", "rmse")
LAST_EPOCH = 2**31
"""What a loss with a schedule is told in a test: its last stage."""

Cached = Literal["frames", "statistics"]


class EmotionTask(Task):
    """Train and score a network with heads for categories, attributes and gender.

    Args:
        net: the network; its heads decide what is trained and scored.
        losses: loss modules by head: ``category`` on (logits, target), a :class:`CategoryLoss`; ``attributes`` on
            (prediction, target with NaN where unknown); ``gender`` on (logits, index). Losses of heads that the network
            does not have are left out.
        balance: called with the losses by name; gives one. Its parameters are trained too.
        class_names: of the categories, in the order of the logits.
        attribute_names: in the order of the attribute head.
        upstream_lr: learning rate of the upstream's top block; everything else has that of the optimizer.
        layer_decay: factor from each block of the upstream to the one below.
        mixup: called with every training batch; gives another.
        cache_features: compute what the frozen upstream makes of an utterance once and keep it on disk: ``frames``, or
            ``statistics`` (their mean and deviation, for poolings that take them); None computes it every time.
        cache_dir: folder of that cache.
        **task_arguments: see :class:`hydraudio.core.task.Task`.

    Logged: ``train/loss`` and, of several heads, ``train/loss_<head>``; ``val/`` and ``test/``, each computed once from
    the predictions of the whole set with a fixed label set: ``loss``; of categories ``macro_f1``, ``weighted_f1``,
    ``accuracy``, ``uar`` (mean recall), ``top2`` (higher is better), ``nll`` (of the plain softmax, nats) and ``brier``
    (lower is better); of attributes ``ccc``, ``pearson`` (higher is better) and ``rmse`` (1 to 7, lower is better),
    means and ``<metric>_<name>``. Items without a label are not scored.
    """

    spec = SPEC
    net: EmotionNetwork

    def __init__(
        self,
        net: EmotionNetwork,
        losses: LossOfHead,
        balance: Callable[[dict[str, Tensor]], Tensor],
        class_names: Sequence[str],
        attribute_names: Sequence[str],
        upstream_lr: float = 1e-5,
        layer_decay: float = 0.9,
        mixup: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        cache_features: Cached | None = None,
        cache_dir: str | None = None,
        **task_arguments: Any,
    ) -> None:
        super().__init__(net, **task_arguments)
        heads = _heads(net)
        self.losses = HeadLosses(losses, heads)
        self.balance = balance
        self.class_names = list(class_names) if "category" in heads else []
        self.attribute_names = list(attribute_names) if "attributes" in heads else []
        self._check_widths(net)
        self.upstream_lr, self.layer_decay = upstream_lr, layer_decay
        self.mixup = mixup
        self.cached, self.cache_dir = cache_features, cache_dir
        self._check_cache(net)
        self.predictions = {"val": Predictions(), "test": Predictions()}
        for parameter in self.parameters():
            if parameter.ndim <= 1:
                exempt_from_weight_decay(parameter)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.cached is not None:
            self._cache_features(self.cached)

    def on_train_start(self) -> None:
        """Refuse batches of one item, over which a concordance is not defined and trains nothing.

        Raises:
            ConfigError: the loss of attributes is one, and some of the batches are such.
        """
        if not isinstance(self.losses.attributes, ConcordanceLoss) or self.trainer.world_size > 1:
            return
        sampler = getattr(self.trainer.train_dataloader, "batch_sampler", None)
        sizes = sampler.batch_sizes() if isinstance(sampler, EpochBatchSampler) else []
        if n_single := sizes.count(1):
            raise ConfigError(
                f"{n_single} of {len(sizes)} training batches hold one item: the concordance loss compares the items "
                "of a batch, and accumulated batches of one do not help; set data.batch_size to 3 or more and "
                "data.batch_s (if it is set) to twice the longest utterance or more"
            )

    def optimizer_groups(self) -> list[dict[str, Any]]:
        """Group the upstream's parts with their own learning rates, then all else; each without weight decay apart."""
        groups = []
        upstream = self.net.upstream
        for group in upstream.parameter_groups(self.upstream_lr, self.layer_decay):
            groups += [{**part, "lr": group["lr"], "name": group["name"]} for part in parameter_groups(group["params"])]
        own = {id(parameter) for parameter in upstream.parameters()}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in own]
        groups += [{**part, "name": "heads"} for part in parameter_groups(rest)]
        for group in groups:
            if group.get("weight_decay") == 0.0:
                group["name"] += "/no_decay"
        return [group for group in groups if group["params"]]

    def metric_names(self, stage: Stage) -> list[str]:
        names, heads = ["loss"], [name for name, _ in self.losses.named_children()]
        if stage == "train":
            names += [f"loss_{head}" for head in heads] if len(heads) > 1 else []
        else:
            names += SCALARS if self.class_names else []
            attributes = ["", *(f"_{name}" for name in self.attribute_names)] if self.attribute_names else []
            names += [f"{metric}{ending}" for metric in ATTRIBUTE_METRICS for ending in attributes]
        return [f"{stage}/{name}" for name in names]

    def training_step(self, batch: dict[str, Any]) -> Tensor:
        self.losses.set_epoch(self.current_epoch)
        if self.mixup is not None:
            batch = self.mixup(batch)
        terms = self.losses(self._forward(batch), batch)
        loss = self.balance(terms)
        n_items = len(batch["label"])
        self.log("train/loss", loss, prog_bar=True, batch_size=n_items)
        if len(terms) > 1:
            self.log_dict({f"train/loss_{head}": term for head, term in terms.items()}, batch_size=n_items)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.losses.set_epoch(self.current_epoch)
        self.predictions["val"].clear()

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        self.losses.set_epoch(LAST_EPOCH)
        self.predictions["test"].clear()

    def test_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def evaluate_batch(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Recognise a batch and score it.

        Returns:
            ``loss`` (scalar); ``embedding`` (batch, dim); of the heads that there are ``logits`` and ``probabilities``
            (batch, n_classes), ``attributes`` (batch, n_attributes) in [0, 1] and ``gender_logits`` (batch, 2); fp32.
        """
        output = self._forward(batch)
        return {"loss": self.balance(self.losses(output, batch)), **_results(output)}

    def predict(self, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Recognise ``waveform``, of which ``lengths`` samples are valid (all, if there are no lengths)."""
        return self.predict_waveform(example["waveform"], example.get("lengths"))

    @torch.inference_mode()
    def predict_waveform(self, waveform: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Recognise (batch, time) at ``sample_rate`` with (batch,) valid samples each, None = all.

        Returns:
            ``embedding`` and, as far as there are heads, ``logits``, ``probabilities``, ``attributes`` in [0, 1] and
            ``gender_logits``; see :meth:`evaluate_batch`.
        """
        return _results(self.net(waveform, lengths))

    def stand_alone(self) -> dict[str, Any]:
        self.cached, self.mixup = None, None
        return {"cache_features": None, "cache_dir": None, "mixup": None}

    def export_module(self) -> Exportable:
        """Map ``waveform`` (1, time) to ``probabilities`` (1, classes) and ``attributes`` (1, attributes) in [0, 1]."""
        lists = {"class_names": self.class_names, "attribute_names": self.attribute_names}
        names = tuple(name for name in ("probabilities", "attributes") if lists[_LIST_OF[name]])
        metadata = {name: json.dumps(values) for name, values in lists.items()}
        metadata["shortest_samples"] = str(self.net.upstream.shortest_samples)
        metadata["sample_rate"] = str(self.sample_rate)
        inputs = {"waveform": SPEC.batch["waveform"]}
        return Exportable(_Recogniser(self.net, names), inputs, names, waveform_sizes(self.sample_rate), metadata)

    def _forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        if "features" in batch:
            return self.net.classify(batch["features"], batch["frame_lengths"], batch["gender"])
        lengths = batch["lengths"] if batch["padded"] else None
        return self.net(batch["waveform"], lengths, batch["gender"])

    def _evaluate(self, stage: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        result = self.evaluate_batch(batch)
        rows = {name: result[name] for name in ("logits", "attributes", "gender_logits") if name in result}
        truth = {name: batch[name] for name in ("target", "label", "gender")}
        self.predictions[stage].add(batch["id"], **rows, **truth, true_attributes=batch["attributes"])
        return result

    def _log_scores(self, stage: str) -> None:
        rows = self.predictions[stage].collect()
        if not rows:
            return
        scores: dict[str, float | Tensor] = {"loss": self._pooled_loss(rows)}
        if self.class_names:
            probabilities = rows["logits"].softmax(-1)
            found = category_scores(probabilities, rows["label"], len(self.class_names))
            scores |= {name: found[name] for name in SCALARS}
        if self.attribute_names:
            scores |= attribute_scores(rows["attributes"], rows["true_attributes"], self.attribute_names)
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, sync_dist=True)

    @torch.no_grad()
    def _pooled_loss(self, rows: Mapping[str, Tensor]) -> Tensor:
        """The loss of the whole set as one batch."""
        on_device = {name: value.to(self.device) for name, value in rows.items()}
        truth = {**on_device, "attributes": on_device["true_attributes"]}
        return self.balance(self.losses(on_device, truth))

    def _check_widths(self, net: EmotionNetwork) -> None:
        for kind, names, width in (
            ("class", self.class_names, net.n_classes),
            ("attribute", self.attribute_names, net.n_attributes),
        ):
            if len(names) != width:
                raise ValueError(f"{len(names)} {kind} names ({', '.join(names)}) for a head with {width} outputs")

    def _check_cache(self, net: EmotionNetwork) -> None:
        if self.cached is None:
            return
        given = f"model.cache_features={self.cached}"
        if self.cached not in ("frames", "statistics"):
            raise ValueError(f"{given} is unknown; choose frames, statistics or null")
        if not net.upstream.frozen:
            raise ValueError(
                f"{given} needs an upstream that is not trained: model.net.upstream.trainable_blocks=0, no "
                "trainable_extras and no lora"
            )
        if self.cached == "statistics" and not net.takes_statistics:
            raise ValueError(
                f"{given} needs model/emotion/pooling=mean or mean_std; the others pool frames: cache those"
            )
        if self.mixup is not None:
            raise ValueError(
                f"{given} keeps what becomes of an utterance, but mixup makes others: leave one of them out"
            )
        if self.cache_dir is None:
            raise ValueError(f"{given} needs model.cache_dir")

    def _cache_features(self, what: Cached) -> None:
        """Let the datamodule compute what is missing, on the device of the training, and give that from now on."""
        device = self.trainer.strategy.root_device
        was_training = self.net.training
        self.net.to(device).eval()

        @torch.inference_mode()
        def compute(batch: dict[str, Any]) -> list[np.ndarray]:
            waveform, lengths = batch["waveform"].to(device), batch["lengths"].to(device)
            if what == "statistics":
                return list(self.net.statistics(waveform, lengths).float().cpu().numpy())
            states, n_frames = self.net.encode(waveform, lengths)
            whole = states.float().cpu().numpy()
            return [item[:, :count] for item, count in zip(whole, n_frames.tolist(), strict=True)]

        data: EmotionDataModule = vars(self.trainer)["datamodule"]  # which Lightning does not declare
        data.cache_features(self.net.fingerprint(), what, compute, self.cache_dir)
        self.net.train(was_training)


class _Recogniser(nn.Module):
    """The network with the named results of :func:`_results` as a tuple, or as one tensor."""

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net, self.names = net, list(names)

    def forward(self, waveform: Tensor) -> Tensor | tuple[Tensor, ...]:
        results = _results(self.net(waveform))
        chosen = tuple(results[name] for name in self.names)
        return chosen if len(chosen) > 1 else chosen[0]


_LIST_OF = {"probabilities": "class_names", "attributes": "attribute_names"}


def _heads(net: EmotionNetwork) -> list[str]:
    """Names of the heads that are trained."""
    there = {
        "category": net.n_classes > 0,
        "attributes": net.n_attributes > 0,
        "gender": net.gender_mode in ("auxiliary", "adversarial"),
    }
    return [name for name, exists in there.items() if exists]


def _results(output: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's output in fp32 with probabilities."""
    results = {name: value.float() for name, value in output.items()}
    if "logits" in results:
        results["probabilities"] = results["logits"].softmax(-1)
    return results
