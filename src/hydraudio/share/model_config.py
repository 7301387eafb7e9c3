"""What config.json of a shared model says: how to build it again, and what its numbers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_preflight.errors import ConfigError
from hydraudio import __version__
from hydraudio.core.pretrained import CONFIG, HUB_ID, read_json

LIBRARY = "hydraudio"
FORMAT_VERSION = 1
GENDER_ORDER = ("Female", "Male", "Unknown")
ATTRIBUTE_SCALE = {"model": [0.0, 1.0], "ratings": [1.0, 7.0]}
# What training needs and a shared model does not: folders of one machine, caches, changes of training batches.
_TRAINING_ONLY = {"cache_features": None, "cache_dir": None, "mixup": None, "compile": False}


def model_config(
    task: Any, trained: DictConfig, checkpoint: Mapping[str, Any], origin: str, class_letters: Sequence[str]
) -> dict[str, Any]:
    """Content of config.json.

    Args:
        task: restored, with LoRA merged.
        trained: its configuration.
        checkpoint: its contents.
        origin: name of the run.
        class_letters: of the corpus, in the order of the classes; empty if there are none.
    """
    config: dict[str, Any] = {
        "library_name": LIBRARY,
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "model_type": LIBRARY,
        "architectures": [trained.model._target_.rpartition(".")[2]],
        "base_model": base_model(trained),
        "sample_rate": task.sample_rate,
        "source": _source(trained, checkpoint, origin),
    }
    config |= _classes(task, class_letters) | _attributes(task) | _frames(task.net) | _normalization(trained)
    if hasattr(task.net, "gender_mode"):
        config |= {"gender_order": list(GENDER_ORDER), "gender_mode": task.net.gender_mode}
    if trained.data.get("max_s") is not None:
        config["max_s"] = trained.data.max_s
    config["model"] = self_contained(trained, task)
    return config


def preprocessor_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Content of preprocessor_config.json: what a waveform must be. The network normalises it itself."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config["sample_rate"],
        "do_normalize": False,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "normalization": config.get("normalization"),
    }


def base_model(trained: DictConfig) -> str | None:
    """Name on the hub of the pretrained model that the training started from; None without one, or for a folder."""
    source = OmegaConf.select(trained, "model.net.upstream.source")
    name = None if source is None else str(source)
    if name is None or Path(name).expanduser().is_dir():
        record = None if name is None else Path(name).expanduser() / "source.json"
        return None if record is None or not record.is_file() else str(json.loads(record.read_text())["model_id"])
    return name if HUB_ID.fullmatch(name) else None


def self_contained(trained: DictConfig, task: Any) -> dict[str, Any]:
    """The node `model` without anything outside of it: no folder, no pretrained source, no adapters."""
    model: Any = OmegaConf.to_container(trained.model, resolve=True)
    model |= {key: value for key, value in _TRAINING_ONLY.items() if key in model}
    for name, module in task.net.named_modules():
        node = _node_at(model["net"], name)
        if node is not None and hasattr(module, "architecture"):
            node |= {"source": None, "revision": None, "architecture": _plain(module.architecture)}
        if node is not None and hasattr(module, "merge_lora"):
            node["lora"] = None
    return model


def read_model_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one of a model that this version of Hydraudio shares.
    """
    config = read_json(folder / CONFIG)
    if config.get("library_name") != LIBRARY or not isinstance(config.get("model"), dict):
        raise ValueError(f"{folder / CONFIG}: this is not a model that Hydraudio wrote (scripts/share/push_to_hub.py)")
    if config.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG}: format {config.get('format_version')!r} cannot be read, only {FORMAT_VERSION}; "
            f"use the version of Hydraudio that wrote it ({config.get('library_version')})"
        )
    _refuse_interpolations(config["model"], folder / CONFIG)
    return config


def _source(trained: DictConfig, checkpoint: Mapping[str, Any], origin: str) -> dict[str, Any]:
    about = checkpoint.get("hydraudio", {})
    return {
        "run": origin,
        "experiment": trained.get("name"),
        "epoch": checkpoint.get("epoch"),
        "global_step": checkpoint.get("global_step"),
        "trained_with_version": about.get("version"),
        "git_revision": about.get("git_revision"),
        "corpus": trained.data._target_.rpartition(".")[2].removesuffix("DataModule"),
        "corpus_fingerprint": about.get("fingerprint"),
        "generated_corpus": trained.data.get("root") is None and trained.data.get("embedded") is not None,
    }


def _classes(task: Any, letters: Sequence[str]) -> dict[str, Any]:
    names = list(getattr(task, "class_names", []))
    if not names:
        return {}
    by_index = {str(index): name for index, name in enumerate(names)}
    return {
        "num_labels": len(names),
        "class_names": names,
        "class_letters": list(letters),
        "id2label": by_index,
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _attributes(task: Any) -> dict[str, Any]:
    names = list(getattr(task, "attribute_names", []))
    return {"attribute_names": names, "attribute_scale": ATTRIBUTE_SCALE} if names else {}


def _frames(net: Any) -> dict[str, Any]:
    upstream = getattr(net, "upstream", None)
    if upstream is None:
        return {}
    return {
        "frames": {
            "kernels": list(upstream.kernels),
            "strides": list(upstream.strides),
            "formula": "per layer: frames = (frames - kernel) // stride + 1, from samples; no padding",
        }
    }


def _normalization(trained: DictConfig) -> dict[str, Any]:
    node = OmegaConf.select(trained, "model.net.normalization")
    if node is None:
        return {}
    values: Any = OmegaConf.to_container(node, resolve=True)
    kind = values.pop("_target_").rpartition(".")[2]
    return {"normalization": {"kind": kind, **values}}


def _node_at(net: dict[str, Any], module_name: str) -> dict[str, Any] | None:
    """The node of the configuration that a module was made of, if its path is the module's."""
    node: Any = net
    for part in module_name.split(".") if module_name else []:
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _refuse_interpolations(value: Any, path: Path) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_interpolations(item, path)
    elif isinstance(value, list):
        for item in value:
            _refuse_interpolations(item, path)
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{path}: refused, because it holds an interpolation ({value!r}); a shared model has none")
