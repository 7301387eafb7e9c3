"""A trained network as a folder that stands alone: written from a checkpoint, and loaded from nothing else."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydra_preflight.foreign import admit
from hydraudio.core.files import sha256_of_file, whole_path, write_json, write_text
from hydraudio.core.pretrained import CONFIG, PREPROCESSOR, read_json
from hydraudio.core.task import Task
from hydraudio.share.card import CardContent, CardOptions, model_card
from hydraudio.share.model_config import model_config, preprocessor_config, read_model_config, self_contained
from hydraudio.share.sharing import sharing_of

if TYPE_CHECKING:
    from torch import Tensor


WEIGHTS, CARD, METRICS = "model.safetensors", "README.md", "metrics.json"
DETAILS = "details.json"
"""What the report of a floor says beside the scores, in the folder of the report."""
REQUIRED = (WEIGHTS, CONFIG, PREPROCESSOR, CARD)
ALLOWED = (*REQUIRED, METRICS)
# Files that can hold code, and what access tokens look like.
_PICKLES = {".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz"}
_TOKENS = re.compile(
    rb"\bhf_[A-Za-z0-9]{20,}|\bapi_org_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{20,}"
    rb"|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


@dataclass(frozen=True)
class Trained:
    """A restored checkpoint that stands alone: what its modules took from elsewhere is in its weights.

    Attributes:
        path: of the checkpoint.
        config: its configuration, with targets that were checked.
        contents: of the checkpoint.
        task: the restored task, in evaluation mode.
        model: the node `model` that builds the task from its weights alone.
        facts: what the floor says of the model.
    """

    path: Path
    config: DictConfig
    contents: dict[str, Any]
    task: Task
    model: dict[str, Any]
    facts: dict[str, Any]


def open_trained(cfg: DictConfig, path: Path) -> Trained:
    """Restore a checkpoint for sharing: adapters are folded into the weights.

    Args:
        cfg: composed from ``configs/eval.yaml``.
        path: the checkpoint.
    """
    from hydraudio.trained import open_checkpoint, restore_data, restore_task

    config, contents = open_checkpoint(cfg, path)
    task = restore_task(config, contents, path)
    model = self_contained(config, task)
    datamodule = restore_data(cfg, copy.deepcopy(config), path)  # which lays cfg.data over its argument
    facts = sharing_of(task.spec).facts(task, plain_config(config), datamodule)
    return Trained(path, config, contents, task, model, facts)


def plain_config(config: DictConfig, resolve: bool = True) -> Any:
    """A configuration as plain dicts and lists."""
    return OmegaConf.to_container(config, resolve=resolve)


def write_model_folder(
    folder: Path, trained: Trained, options: CardOptions | None = None, report: Path | None = None
) -> Path:
    """Write weights, configuration, preprocessing, card and metrics of a checkpoint.

    Args:
        folder: new, empty, or written by this function before.
        trained: what to write.
        options: of the card.
        report: folder with the run's metrics.json; None takes that of the checkpoint's run, where it is about this
            checkpoint.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder holds other files.
    """
    from safetensors.torch import save_file

    foreign = sorted(file.name for file in folder.glob("*") if file.name not in ALLOWED) if folder.is_dir() else []
    if foreign:
        raise FileExistsError(f"{folder}: holds other files ({', '.join(foreign[:3])}); give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    config = model_config(trained.task, trained.config, trained.contents, run_name(trained.path), trained.model)
    config |= trained.facts
    options = options or CardOptions()
    config["base_model"] = options.base_model or config["base_model"]
    metrics = run_metrics(trained.path, report)
    with whole_path(folder / WEIGHTS) as partial:
        save_file(plain_weights(trained.task), partial, metadata={"format": "pt"})
    write_json(folder / CONFIG, config)
    write_json(folder / PREPROCESSOR, preprocessor_config(config))
    (folder / METRICS).unlink(missing_ok=True)
    if metrics is not None:
        write_json(folder / METRICS, metrics)
    spec, as_given = trained.task.spec, plain_config(trained.config, resolve=False)
    sections = sharing_of(spec).sections(config, metrics)
    content = CardContent(spec, config, as_given, metrics or {}, sections, trained.task.parts)
    write_text(folder / CARD, str(model_card(content, options)))
    return folder


def load_model_folder(folder: Path, trusted_prefixes: Iterable[str] = ()) -> Task:
    """The task of a folder that :func:`write_model_folder` wrote, in evaluation mode; no other file is read.

    Args:
        folder: its path.
        trusted_prefixes: further packages whose classes config.json may name.

    Raises:
        FileNotFoundError: a file is missing.
        ConfigError: config.json names something that may not be instantiated.
        ValueError: the weights are not those of the network, or not float32.
    """
    from hydraudio.trained import build_task

    content = {"model": read_model_config(folder)["model"]}
    cfg = admit(content, str(folder / CONFIG), trusted_prefixes=trusted_prefixes)
    try:
        task = build_task(cfg)
    except Exception as error:  # whatever a constructor says to arguments that nobody checked
        raise ValueError(f"{folder / CONFIG}: the network cannot be built: {' '.join(str(error).split())}") from error
    state = read_weights(folder)
    problems = differences(state, plain_weights(task))
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"{folder / WEIGHTS}: not the weights of the network in {CONFIG}: {'; '.join(problems[:4])}{more}"
        )
    task.load_state_dict(state, strict=False)  # losses and metrics have none here; the parts are complete
    return task.eval()


def plain_weights(task: Task) -> dict[str, Tensor]:
    """State of the task's parts by name, on the CPU, floating-point values as float32."""
    prefixes = tuple(f"{part}." for part in task.parts)
    own = {name: value for name, value in task.state_dict().items() if name.startswith(prefixes)}
    return {
        name: (value.float() if value.is_floating_point() else value).detach().cpu().clone().contiguous()
        for name, value in own.items()
    }


def read_weights(folder: Path) -> dict[str, Tensor]:
    """State dict of a folder.

    Raises:
        FileNotFoundError: there is no model.safetensors; other formats are not read.
        ValueError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; weights are read from safetensors only")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); fetch it again") from error


def differences(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What distinguishes two state dicts in names, shapes and types; values are not compared."""
    found = [f"{name} is missing" for name in expected if name not in given]
    found += [f"{name} is unknown" for name in given if name not in expected]
    for name in expected.keys() & given.keys():
        ours, theirs = expected[name], given[name]
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            shapes = f"{tuple(theirs.shape)} {theirs.dtype} instead of {tuple(ours.shape)} {ours.dtype}"
            found.append(f"{name} is {shapes}")
    return sorted(found)


def content_problems(folder: Path) -> list[str]:
    """What must not be in a shared folder or is missing there: pickles, token-like strings, other files."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name not in (".gitattributes",) and not name.startswith(".cache/")]
    problems = [f"{name} is missing" for name in REQUIRED if name not in names]
    problems += [f"{name} can execute code when it is loaded" for name in names if Path(name).suffix in _PICKLES]
    others = [name for name in names if name not in ALLOWED and Path(name).suffix not in _PICKLES]
    problems += [f"{name} does not belong to the model" for name in others]
    texts = [name for name in names if Path(name).suffix not in {".safetensors", *_PICKLES}]
    leaks = [name for name in texts if _TOKENS.search((folder / name).read_bytes())]
    return problems + [f"{name} holds what looks like a token" for name in leaks]


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a model, by name."""
    return {name: sha256_of_file(folder / name) for name in ALLOWED if (folder / name).is_file()}


def run_metrics(checkpoint: Path, report: Path | None = None) -> dict[str, Any] | None:
    """What the test of a checkpoint has found: metrics.json of the run, and details.json of its report if there is one.

    Args:
        checkpoint: ``<run>/checkpoints/<file>``.
        report: folder of another report to take it from.

    Returns:
        Their content; None where the run has none about this checkpoint.

    Raises:
        FileNotFoundError: there is neither metrics.json beside `report` nor details.json in it.
        ValueError: `report` is about another checkpoint.
    """
    folder = report or _run(checkpoint) / "report"
    files = [path for path in (folder.parent / METRICS, folder / DETAILS) if path.is_file()]
    if report is not None and not files:
        raise FileNotFoundError(f"{folder.parent / METRICS}: there is no such file, nor {folder / DETAILS}")
    found: dict[str, Any] = {}
    for path in files:
        content = read_json(path)
        about = Path(str(content.get("information", {}).get("Checkpoint", "")))
        if about.name == checkpoint.name and (report is None or _run(about).name == _run(checkpoint).name):
            found |= content
        elif report is not None:
            raise ValueError(
                f"{path} is about {about}, not about {checkpoint}; make its report: "
                f"python src/eval.py ckpt_path={checkpoint}"
            )
    if not found:
        return None
    information = found["information"] | {"Checkpoint": f"{run_name(checkpoint)}/{checkpoint.name}"}
    if "Corpus" in information:  # its folder is nobody else's business
        information["Corpus"] = Path(information["Corpus"]).name
    return found | {"information": information}


def run_name(checkpoint: Path) -> str:
    """Experiment and start of the run of ``logs/<experiment>/<run>/checkpoints/<file>``."""
    run = _run(checkpoint)
    return f"{run.parent.name}/{run.name}"


def _run(checkpoint: Path) -> Path:
    return checkpoint.resolve().parent.parent
