"""What config.json of a shared model says: how to build it again, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from omegaconf import DictConfig, OmegaConf

from hydra_preflight.errors import ConfigError
from hydra_preflight.foreign import places, read_file
from hydraudio import __version__
from hydraudio.core.pretrained import CONFIG, HUB_ID, read_json
from hydraudio.core.task import Task

LIBRARY = "hydraudio"
FORMAT_VERSION = 2


@runtime_checkable
class StandsAlone(Protocol):
    """A module that can do without what its configuration names outside of it, see `Task.stand_alone`."""

    def stand_alone(self) -> Mapping[str, Any]: ...


def model_config(
    task: Task, trained: DictConfig, checkpoint: Mapping[str, Any], origin: str, model: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of config.json, but for what the floor adds.

    Args:
        task: restored.
        trained: its configuration.
        checkpoint: its contents.
        origin: name of the run.
        model: what :func:`self_contained` gave.
    """
    said = {name: getattr(task, name) for name in task.spec.agree}
    return {
        "library_name": LIBRARY,
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "model_type": LIBRARY,
        "architectures": [trained.model._target_.rpartition(".")[2]],
        "base_model": base_model(trained),
        **{name: _plain(value) for name, value in said.items() if value not in (None, [])},
        "source": _source(trained, checkpoint, origin),
        "model": model,
    }


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
    source = next(_sources(OmegaConf.to_container(trained.model, resolve=True)), None)
    if source is None:
        return None
    folder = Path(source).expanduser()
    if folder.is_dir():
        return read_json(folder / "source.json")["model_id"] if (folder / "source.json").is_file() else None
    return source if HUB_ID.fullmatch(source) else None


def self_contained(trained: DictConfig, task: Task) -> dict[str, Any]:
    """The node `model` without anything outside of it: no folder, no pretrained source, no adapters.

    The task is changed with it: what its modules take in is in their weights then.
    """
    model: Any = OmegaConf.to_container(trained.model, resolve=True)
    for name, module in list(task.named_modules()):
        node = _node_at(model, name)
        if node is not None and isinstance(module, StandsAlone):
            node |= _plain(module.stand_alone())
    require_self_contained(model, "the network")
    return model


def read_model_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one of a model that this version of Hydraudio shares.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder / CONFIG}: there is no such file, so the folder of the model is incomplete")
    config = read_file(folder / CONFIG)
    if config.get("library_name") != LIBRARY or not isinstance(config.get("model"), dict):
        raise ValueError(f"{folder / CONFIG}: this is not a model that Hydraudio wrote (scripts/share/push_to_hub.py)")
    if config.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG}: format {config.get('format_version')!r} cannot be read, only {FORMAT_VERSION}; "
            f"use the version of Hydraudio that wrote it ({config.get('library_version')})"
        )
    require_self_contained(config["model"], str(folder / CONFIG))
    return config


def require_self_contained(model: dict[str, Any], origin: str) -> None:
    """Refuse a node `model` that names a place outside of the folder.

    Raises:
        ConfigError: naming the key.
    """
    if "${" in str(model):
        raise ConfigError(f"{origin}: refused, because it holds an interpolation; a shared model has none")
    found = list(places(model, "model"))
    if found:
        raise ConfigError(
            f"{origin}: refused, because {found[0]} lies outside of the folder; a shared model stands alone"
        )


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


def _sources(node: Any) -> Iterator[str]:
    """The values of keys `source` in a node, outermost first."""
    if isinstance(node, dict):
        if isinstance(node.get("source"), str):
            yield node["source"]
        for item in node.values():
            yield from _sources(item)


def _node_at(model: dict[str, Any], module_name: str) -> dict[str, Any] | None:
    """The node of the configuration that a module was made of, if its path is the module's."""
    node: Any = model
    for part in module_name.split(".") if module_name else []:
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
