"""The checks of a shared model, on the very copy that others get. Each returns a finding, or raises."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydraudio.core.pretrained import CONFIG, PREPROCESSOR, read_json
from hydraudio.metrics.classification import category_scores
from hydraudio.share.card import read_card
from hydraudio.share.hub import COMMIT
from hydraudio.share.model_config import ATTRIBUTE_SCALE, GENDER_ORDER, read_model_config
from hydraudio.share.model_folder import (
    CARD,
    METRICS,
    WEIGHTS,
    Trained,
    content_problems,
    differences,
    file_hashes,
    load_model_folder,
    read_weights,
)
from hydraudio.share.probe import clips, probe_in_clean_process, probe_outputs
from hydraudio.tasks.emotion.metrics import attribute_scores

if TYPE_CHECKING:
    from torch import Tensor


OUTPUT_TOLERANCE = 1e-5
METRIC_TOLERANCE = 1e-4
# Of config.json, what another version of Hydraudio writes otherwise, and what the pretrained model's folder says while
# it exists.
_VARYING_KEYS = ("library_version", "base_model")


class CheckFailed(ValueError):
    """A check found something wrong."""


@dataclass(frozen=True)
class Copy:
    """What is checked.

    Attributes:
        folder: the files.
        name: OWNER/NAME on the hub, or the folder.
        revision: commit on the hub; None for a local folder.
        is_private: visibility on the hub; None for a local folder.
        remote_hashes: SHA-256 that the hub reports, by file.
        error: why there is no copy.
    """

    folder: Path
    name: str
    revision: str | None = None
    is_private: bool | None = None
    remote_hashes: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Validation:
    """A copy beside the checkpoint that it should be.

    Args:
        copy: what is checked.
        reference: folder that was written from the checkpoint right now.
        trained: the checkpoint.
        datamodule: of the checkpoint's configuration.
        n_items: of the validation set, for the metric.
        private: visibility that is asked for; None asks for none.
        trusted_prefixes: as extras.trusted_targets.
        probe: loads a folder in a clean process and gives the outputs of the clips.
    """

    copy: Copy
    reference: Path
    trained: Trained
    datamodule: Any
    n_items: int = 64
    private: bool | None = None
    trusted_prefixes: tuple[str, ...] = ()
    probe: Callable[..., dict[str, Tensor]] = probe_in_clean_process
    outputs: dict[str, Tensor] | None = None

    @property
    def folder(self) -> Path:
        return self.copy.folder

    def reachable(self) -> str:
        """There is such a copy, its revision is fixed, and who can see it is as asked."""
        if self.copy.error is not None:
            raise CheckFailed(self.copy.error)
        if not self.folder.is_dir():
            raise CheckFailed(f"{self.folder}: there is no such folder")
        if self.copy.revision is None:
            _require(self.private is None, "a local folder is neither private nor public")
            return f"local folder {self.folder}"
        _require(COMMIT.fullmatch(self.copy.revision), f"revision {self.copy.revision!r} is not a commit")
        visibility = "private" if self.copy.is_private else "public"
        _require(
            self.private in (None, self.copy.is_private), f"the repository is {visibility}, which was not asked for"
        )
        return f"{self.copy.name} at {self.copy.revision}, {visibility}"

    def files(self) -> str:
        """The files that are needed are there, and none that could run code or holds a token."""
        problems = content_problems(self.folder)
        _require(not problems, "; ".join(problems))
        return f"{len(file_hashes(self.folder))} files, no pickle, no token"

    def checksums(self) -> str:
        """The bytes are those that the hub reports and that the checkpoint gives."""
        ours, theirs = file_hashes(self.reference)[WEIGHTS], file_hashes(self.folder)
        _require(
            theirs.get(WEIGHTS) == ours, f"{WEIGHTS} has SHA-256 {theirs.get(WEIGHTS)}, the checkpoint's has {ours}"
        )
        for name, reported in self.copy.remote_hashes.items():
            _require(theirs.get(name) == reported, f"{name} is not what the hub reports ({reported})")
        return f"{WEIGHTS} has SHA-256 {ours}"

    def card(self) -> str:
        """The card can be read and has licence, base model and the run's metrics."""
        front, _ = read_card((self.folder / CARD).read_text(encoding="utf-8"))
        _require(front.get("license"), "the card names no license")
        base = read_model_config(self.folder)["base_model"]
        _require(read_model_config(self.reference)["base_model"] in (None, base), f"{CONFIG} has base_model {base}")
        _require(front.get("base_model") == base, f"the card's base_model is {front.get('base_model')}, not {base}")
        recorded = self.reference / METRICS
        if not recorded.is_file():
            return f"license {front['license']}, no metrics (the run has no report)"
        _require(front.get("metrics"), "the card names no metrics")
        expected, _ = read_card((self.reference / CARD).read_text(encoding="utf-8"))
        _require(_results(front) == _results(expected), "the results in the card are not those of the run's report")
        return f"license {front['license']}, {len(_results(front))} results"

    def loading(self) -> str:
        """The folder loads strictly by itself, where neither the network nor the upstream's folder can be reached."""
        self.outputs = self.probe(self.folder, self.trusted_prefixes)
        return "loads strictly from the folder alone"

    def tensors(self) -> str:
        """Names, shapes and types are those of the checkpoint's network."""
        given = read_weights(self.folder)
        found = differences(given, read_weights(self.reference))
        _require(not found, "; ".join(found[:5]))
        return f"{len(given)} tensors agree in name, shape and type"

    def results(self) -> str:
        """The clips give what the checkpoint gives, alone and in a batch."""
        if self.outputs is None:
            raise CheckFailed("the model could not be loaded")
        expected = probe_outputs(self.trained.task)
        _require(expected.keys() == self.outputs.keys(), f"the results are {sorted(self.outputs)}")
        worst = max(((self.outputs[name] - value).abs().max().item(), name) for name, value in expected.items())
        is_close = all(
            self.outputs[name].shape == value.shape and (self.outputs[name] - value).abs().max() <= OUTPUT_TOLERANCE
            for name, value in expected.items()
        )
        _require(is_close, f"{worst[1]} differs by {worst[0]:.1e}, allowed are {OUTPUT_TOLERANCE:.0e}")
        return f"three clips, alone and in a batch, differ by {worst[0]:.1e} at most"

    def description(self) -> str:
        """Labels, frames, sample rate and normalisation are those of the checkpoint and of its data."""
        config, expected = read_model_config(self.folder), read_model_config(self.reference)
        keys = [key for key in expected.keys() | config.keys() if key not in _VARYING_KEYS]
        wrong = sorted(key for key in keys if config.get(key) != expected.get(key))
        _require(not wrong, f"{CONFIG} differs from the checkpoint in {', '.join(wrong)}")
        self._agrees_with_data(config)
        preprocessor = read_json(self.folder / PREPROCESSOR)
        same = preprocessor == read_json(self.reference / PREPROCESSOR)
        _require(same, f"{PREPROCESSOR} differs from the checkpoint's preprocessing")
        if "frames" in config:
            self._count_frames(config["frames"])
        return f"{CONFIG} and {PREPROCESSOR} agree with the checkpoint and its data"

    def metric(self) -> str:
        """Items of the validation set score as with the checkpoint."""
        copy = load_model_folder(self.folder, self.trusted_prefixes)
        loader_items = validation_items(self.datamodule, self.n_items)
        expected, found = scores(self.trained.task, loader_items), scores(copy, loader_items)
        _require(expected.keys() == found.keys(), f"the copy has other scores: {sorted(found)}")
        far = {name: found[name] - value for name, value in expected.items() if _differ(found[name], value)}
        listed = ", ".join(f"{name} by {value:+.2e}" for name, value in far.items())
        _require(not far, f"on {self.n_items} items the copy differs in {listed}")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in expected.items())
        return f"{sum(map(_size, loader_items))} validation items: {shown}"

    def _agrees_with_data(self, config: Mapping[str, Any]) -> None:
        data = self.datamodule
        _require(
            config["sample_rate"] == data.sample_rate, f"sample_rate {config['sample_rate']}, data {data.sample_rate}"
        )
        if "class_names" in config:
            names = list(data.class_names)
            by_index = {str(index): name for index, name in enumerate(names)}
            _require(
                config["class_names"] == names and config["num_labels"] == len(names),
                f"classes {config['class_names']}",
            )
            _require(config["class_letters"] == list(data.class_letters), f"letters {config['class_letters']}")
            _require(config["id2label"] == by_index, f"id2label {json.dumps(config['id2label'])}")
            inverse = {name: int(index) for index, name in by_index.items()}
            _require(config["label2id"] == inverse, f"label2id {json.dumps(config['label2id'])}")
        if "attribute_names" in config:
            same = config["attribute_names"] == list(data.attribute_names)
            _require(same and config["attribute_scale"] == ATTRIBUTE_SCALE, f"attributes {config['attribute_names']}")
        if "gender_order" in config:
            _require(config["gender_order"] == list(GENDER_ORDER), f"gender_order {config['gender_order']}")

    def _count_frames(self, frames: Mapping[str, Any]) -> None:
        task: Any = self.trained.task
        for clip in clips(task.sample_rate):
            counted = int(task.net.encode(clip[None])[1][0])
            expected = len(clip)
            for kernel, stride in zip(frames["kernels"], frames["strides"], strict=True):
                expected = (expected - kernel) // stride + 1
            _require(counted == expected, f"{len(clip)} samples are {counted} frames, the formula says {expected}")


def validation_items(datamodule: Any, n_items: int) -> list[dict[str, Any]]:
    """Items from the whole length of the validation set as batches."""
    datamodule.prepare_data()
    datamodule.setup("validate")
    loader = datamodule.val_dataloader()
    dataset = loader.dataset
    n_taken = min(n_items, len(dataset))
    items = (dataset[(0, number * len(dataset) // n_taken)] for number in range(n_taken))
    return [loader.collate_fn(list(chunk)) for chunk in iter(lambda: list(itertools.islice(items, 8)), [])]


def scores(task: Any, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Scores over all items: of categories and attributes where there are any, else means of what the task measures."""
    import torch

    outputs: list[dict[str, Any]] = []
    with torch.inference_mode():
        for batch in batches:
            outputs.append({**task.evaluate_batch(batch), "_batch": batch})
    found: dict[str, float] = {}
    names, attributes = getattr(task, "class_names", []), getattr(task, "attribute_names", [])
    if names:
        labels = torch.cat([output["_batch"]["label"] for output in outputs])
        scored = category_scores(torch.cat([output["probabilities"] for output in outputs]), labels, len(names))
        found |= {name: scored[name] for name in ("macro_f1", "accuracy", "uar", "nll")}
    if attributes:
        truth = torch.cat([output["_batch"]["attributes"] for output in outputs])
        given = torch.cat([output["attributes"] for output in outputs])
        found |= {name: attribute_scores(given, truth, attributes)[name] for name in ("ccc", "rmse")}
    if not found:
        measured = [name for name, value in outputs[0].items() if name != "_batch" and value.is_floating_point()]
        found = {name: torch.cat([output[name].flatten() for output in outputs]).mean().item() for name in measured}
    return found


def _differ(found: float, expected: float) -> bool:
    both_unknown = found != found and expected != expected
    return not both_unknown and not abs(found - expected) <= METRIC_TOLERANCE


def _size(batch: Mapping[str, Any]) -> int:
    return len(batch["lengths"]) if "lengths" in batch else len(next(iter(batch.values())))


def _results(front: Mapping[str, Any]) -> dict[str, float]:
    return {
        metric["name"]: metric["value"]
        for entry in front.get("model-index", [])
        for result in entry["results"]
        for metric in result["metrics"]
    }


def _require(condition: Any, problem: str) -> None:
    if not condition:
        raise CheckFailed(problem)
