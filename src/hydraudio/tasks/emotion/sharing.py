"""What a shared emotion network says of itself: letters of its classes, scales, genders, frames; results by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from hydraudio.core.task import Task
from hydraudio.share.card import card_table, interval_text, number_text
from hydraudio.share.probe import clips
from hydraudio.share.sharing import Sharing
from hydraudio.tasks.emotion.networks.network import EmotionNetwork
from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream
from hydraudio.tasks.emotion.spec import SPEC
from hydraudio.tasks.emotion.task import EmotionTask

GENDER_ORDER = ("Female", "Male", "Unknown")
ATTRIBUTE_SCALE = {"model": [0.0, 1.0], "ratings": [1.0, 7.0]}
Content = Mapping[str, Any]


class EmotionSharing(Sharing):
    """Facts and results of emotion networks."""

    def facts(self, task: Task, trained: Content, datamodule: LightningDataModule) -> dict[str, Any]:
        if not isinstance(task, EmotionTask):
            raise ValueError(f"{type(task).__name__} is no EmotionTask, so its facts are unknown")
        found = _classes(task.class_names, getattr(datamodule, "class_letters", []))
        if task.attribute_names:
            found["attribute_scale"] = ATTRIBUTE_SCALE
        found |= _frames(task.net) | {"gender_order": list(GENDER_ORDER), "gender_mode": task.net.gender_mode}
        if "normalization" in trained["model"]["net"] and trained["model"]["net"]["normalization"]:
            found["normalization"] = _kind(trained["model"]["net"]["normalization"])
        if trained["data"].get("max_s") is not None:
            found["max_s"] = trained["data"]["max_s"]
        return found

    def check(self, task: Task, config: Content) -> None:
        """The frames of the network are as many as the formula says."""
        assert isinstance(task, EmotionTask)
        for clip in clips(task.sample_rate) if "frames" in config else ():
            counted = int(task.net.encode(clip[None])[1][0])
            expected = len(clip)
            for kernel, stride in zip(config["frames"]["kernels"], config["frames"]["strides"], strict=True):
                expected = (expected - kernel) // stride + 1
            if counted != expected:
                raise ValueError(f"frames: {len(clip)} samples are {counted}, the formula says {expected}")

    def sections(self, config: Content, metrics: Content | None) -> dict[str, str]:
        found = {
            "Data and splits": _data(config, metrics),
            "Output": _output(config),
            "Preprocessing": _preprocessing(config),
        }
        if metrics is None:
            return found
        return found | {"Categories": _categories(metrics), "Groups": _groups(metrics), "Calibration": _fit(metrics)}


def _classes(names: list[str], letters: list[str]) -> dict[str, Any]:
    by_index = {str(index): name for index, name in enumerate(names)}
    inverse = {name: index for index, name in enumerate(names)}
    found = {"num_labels": len(names), "class_letters": list(letters), "id2label": by_index, "label2id": inverse}
    return found if names else {}


def _frames(net: EmotionNetwork) -> dict[str, Any]:
    """Of encoders of ours; those of others do not say how they cut."""
    if not isinstance(net.upstream, Upstream):
        return {}
    formula = "per layer: frames = (frames - kernel) // stride + 1, from samples; no padding"
    return {
        "frames": {"kernels": list(net.upstream.kernels), "strides": list(net.upstream.strides), "formula": formula}
    }


def _kind(node: Content) -> dict[str, Any]:
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return {"kind": node["_target_"].rpartition(".")[2], **arguments}


def _data(config: Content, metrics: Content | None) -> str:
    lines = [f"- Utterances are cut to their first {config['max_s']:g} s."] if "max_s" in config else []
    if metrics and "n_labelled" in metrics:
        lines.append(f"- {metrics['n_labelled']} of the items of the test have a category.")
    return "\n".join(lines)


def _output(config: Content) -> str:
    parts = []
    if "class_letters" in config:
        names = config["class_names"]
        letters = config["class_letters"] or [""] * len(names)
        rows = [(str(index), *row) for index, row in enumerate(zip(names, letters, strict=True))]
        parts.append(card_table(("Index", "Category", "Letter"), rows))
    if "attribute_scale" in config:
        parts.append("Attributes in [0, 1] stand for ratings from 1 to 7.")
    parts.append(f"Genders are indexed {', '.join(config['gender_order'])} (mode: {config['gender_mode']}).")
    return "\n\n".join(parts)


def _preprocessing(config: Content) -> str:
    lines = []
    if "normalization" in config:
        values = {key: value for key, value in config["normalization"].items() if key != "kind"}
        kind = config["normalization"]["kind"]
        lines.append(f"- The network normalises the waveform itself: {kind} {values or ''}".rstrip())
    if "frames" in config:
        kernels, strides, formula = (config["frames"][key] for key in ("kernels", "strides", "formula"))
        lines.append(f"- Frames: convolutions of {kernels} samples every {strides}; {formula}.")
    return "\n".join(lines)


def _categories(metrics: Content) -> str:
    rows = [
        (name, *(number_text(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:.0f}")
        for name, row in metrics.get("classes", {}).items()
    ]
    return card_table(("Category", "Precision", "Recall", "F1", "Items"), rows) if rows else "Not reported."


def _groups(metrics: Content) -> str:
    rows = [
        (
            name,
            ", ".join(group["classes"]),
            *(number_text(group[key]) for key in ("accuracy", "recall", "f1")),
            group["n"],
        )
        for name, group in metrics.get("groups", {}).items()
    ]
    parts = [card_table(("Classes", "Which", "Accuracy", "Mean recall", "Mean F1", "Items"), rows)] if rows else []
    slices = [entry for entry in metrics.get("slices", []) if not entry["suppressed"]]
    shown = [name for name in ("macro_f1", "uar", "ccc") if any(name in entry["scores"] for entry in slices)]
    if slices:
        labels = [metric.label for name in shown if (metric := SPEC.metric(name)) is not None]
        found = [
            (one["slice"], one["value"], *(interval_text(one["scores"].get(name, {})) for name in shown), one["n"])
            for one in slices
        ]
        parts.append(card_table(("Property", "Group", *labels, "Items"), found))
    return "\n\n".join(parts) or "Not reported."


def _fit(metrics: Content) -> str:
    """How well probabilities fit, before and after the temperature."""
    scores = metrics.get("scores", {})
    if "ece" not in scores:
        return "Not reported."
    text = f"Expected calibration error over 15 bins: {number_text(scores['ece'].get('value'))}."
    if metrics.get("temperature") is None:
        return text + " No temperature was fitted."
    after = number_text(scores.get("ece_scaled", {}).get("value"))
    fitted = f"{metrics['temperature']:.3f}, which was fitted on validation data"
    return f"{text} Dividing the logits by {fitted}, gives {after}."
