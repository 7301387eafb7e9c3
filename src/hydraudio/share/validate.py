"""Validation of a shared model: fetch the very copy that others get, check it against its checkpoint, and report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
import yaml
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hydraudio.core.pretrained import CONFIG, HUB_ID, PREPROCESSOR, read_json
from hydraudio.core.task import Task
from hydraudio.share.hub import COMMIT, explained, hub_api
from hydraudio.share.model_config import read_model_config
from hydraudio.share.model_folder import (
    CARD,
    WEIGHTS,
    Trained,
    content_problems,
    differences,
    file_hashes,
    load_model_folder,
    plain_config,
    read_weights,
)
from hydraudio.share.probe import probe_in_clean_process, probe_outputs
from hydraudio.share.sharing import sharing_of

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

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
    """

    folder: Path
    name: str
    revision: str | None = None
    is_private: bool | None = None
    remote_hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Validation:
    """A copy beside the checkpoint that it should be; each check returns a finding, or raises.

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
    datamodule: pl.LightningDataModule
    n_items: int = 64
    private: bool | None = None
    trusted_prefixes: tuple[str, ...] = ()
    probe: Callable[..., dict[str, Tensor]] = probe_in_clean_process
    outputs: dict[str, Tensor] | None = None

    @property
    def folder(self) -> Path:
        return self.copy.folder

    def reachable(self) -> str:
        """The revision of the copy is fixed, and who can see it is as asked."""
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
        given, expected = (_card_data(folder / CARD) for folder in (self.folder, self.reference))
        _require(given.license, "the card names no license")
        base = read_model_config(self.folder)["base_model"]
        _require(read_model_config(self.reference)["base_model"] in (None, base), f"{CONFIG} has base_model {base}")
        _require(given.base_model == base, f"the card's base_model is {given.base_model}, not {base}")
        for name in ("metrics", "eval_results"):
            as_reported = given.get(name) == expected.get(name)
            _require(as_reported, f"{name}: the results in the card are not those of the run's report")
        if expected.eval_results is None:
            return f"license {given.license}, no metrics (the run has no report)"
        return f"license {given.license}, {len(expected.eval_results)} results"

    def loading(self) -> str:
        """The folder loads strictly by itself, where neither a hub nor what training started from is in reach."""
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
        """What the numbers mean is as the checkpoint, its data and its floor say."""
        config, expected = read_model_config(self.folder), read_model_config(self.reference)
        keys = [key for key in expected.keys() | config.keys() if key not in _VARYING_KEYS]
        wrong = sorted(key for key in keys if config.get(key) != expected.get(key))
        _require(not wrong, f"{CONFIG} differs from the checkpoint in {', '.join(wrong)}")
        task, sharing = self.trained.task, sharing_of(self.trained.task.spec)
        task.check_data(self.datamodule)
        facts = sharing.facts(task, plain_config(self.trained.config), self.datamodule)
        wrong = [name for name, value in facts.items() if config[name] != value]
        _require(not wrong, f"{CONFIG} differs from the data in {', '.join(wrong)}")
        sharing.check(task, config)
        preprocessor = read_json(self.folder / PREPROCESSOR)
        same = preprocessor == read_json(self.reference / PREPROCESSOR)
        _require(same, f"{PREPROCESSOR} differs from the checkpoint's preprocessing")
        return f"{CONFIG} and {PREPROCESSOR} agree with the checkpoint and its data"

    def metric(self) -> str:
        """Items of the validation set score as with the checkpoint."""
        copy = load_model_folder(self.folder, self.trusted_prefixes)
        loader_items = validation_items(self.datamodule, self.n_items)
        expected = scores(self.trained.task, self.datamodule, loader_items)
        found = scores(copy, self.datamodule, loader_items)
        _require(expected.keys() == found.keys(), f"the copy has other scores: {sorted(found)}")
        far = {name: found[name] - value for name, value in expected.items() if _differ(found[name], value)}
        listed = ", ".join(f"{name} by {value:+.2e}" for name, value in far.items())
        _require(not far, f"on {self.n_items} items the copy differs in {listed}")
        names = [metric.name for metric in self.trained.task.spec.metrics if metric.name in expected]
        shown = ", ".join(f"{name} {expected[name]:.4f}" for name in names)
        return f"{sum(map(_size, loader_items))} validation items: {shown}"


def validation_items(datamodule: pl.LightningDataModule, n_items: int) -> list[dict[str, Any]]:
    """Items from the whole length of the validation set as batches."""
    datamodule.prepare_data()
    datamodule.setup("validate")
    loader = datamodule.val_dataloader()
    dataset = loader.dataset
    n_taken = min(n_items, len(dataset))
    items = (dataset[(0, number * len(dataset) // n_taken)] for number in range(n_taken))
    return [loader.collate_fn(list(chunk)) for chunk in iter(lambda: list(itertools.islice(items, 8)), [])]


def scores(task: Task, datamodule: pl.LightningDataModule, batches: list[dict[str, Any]]) -> dict[str, float]:
    """What the task logs of these batches as its validation, by the names of its metrics."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (found,) = trainer.validate(task, datamodule=_Items(task, datamodule, batches), verbose=False)
    return {name.partition("/")[2]: value for name, value in found.items()}


class _Items(pl.LightningDataModule):
    """Some batches in the place of the validation set of a corpus."""

    def __init__(self, task: Task, datamodule: pl.LightningDataModule, batches: list[dict[str, Any]]) -> None:
        super().__init__()
        self.batches = batches
        for name in task.spec.agree:
            setattr(self, name, getattr(datamodule, name, None))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(cast(Dataset, self.batches), batch_size=None)


def _differ(found: float, expected: float) -> bool:
    both_unknown = found != found and expected != expected
    return not both_unknown and not abs(found - expected) <= METRIC_TOLERANCE


def _size(batch: Mapping[str, Any]) -> int:
    return len(batch["lengths"]) if "lengths" in batch else len(next(iter(batch.values())))


def _card_data(path: Path) -> ModelCardData:
    """Metadata of a card."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(path).data
    except yaml.YAMLError as error:
        raise CheckFailed(f"the metadata of the card is not YAML ({str(error).splitlines()[0]})") from error


def _require(condition: Any, problem: str) -> None:
    if not condition:
        raise CheckFailed(problem)


CHECKS = ("reachable", "files", "checksums", "card", "loading", "tensors", "results", "description", "metric")
"""Methods of :class:`Validation`, in their order: results needs what loading has found."""


@dataclass(frozen=True)
class Outcome:
    """Of one check: what it found, or what is wrong."""

    name: str
    passed: bool
    finding: str


def validate(validation: Validation, names: Sequence[str] = CHECKS) -> list[Outcome]:
    """Run the checks of these names; one that fails does not keep the others from running."""
    return [_outcome(validation, name) for name in names]


def report(validation: Validation, outcomes: list[Outcome]) -> dict[str, Any]:
    """The machine-readable report."""
    copy = validation.copy
    return {
        "model": copy.name,
        "revision": copy.revision,
        "checkpoint": str(validation.trained.path),
        "passed": all(outcome.passed for outcome in outcomes),
        "checks": [asdict(outcome) for outcome in outcomes],
    }


def fetch_copy(name: str, folder: Path, revision: str | None = None, endpoint: str | None = None) -> Copy:
    """The copy behind a name: a local folder as it is, or all files of one commit of a repository on the hub.

    Args:
        name: a folder, or OWNER/NAME.
        folder: gets the files of a repository.
        revision: commit, tag or branch; it is resolved to a commit before anything is fetched.
        endpoint: address of the hub; None takes HF_ENDPOINT.

    Raises:
        HubError: the hub does not give the files; the message says why.
        ValueError: the name is neither of the two, or a revision was given for a local folder.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"--revision {revision} belongs to a repository on the hub, and {name} is a folder")
        return Copy(Path(name), name)
    if not HUB_ID.fullmatch(name):
        raise ValueError(f"{name} is neither a folder nor the name of a repository (OWNER/NAME)")
    api = hub_api(endpoint)
    with explained(api, f"{name} could not be fetched"):
        info = api.model_info(name, revision=revision, files_metadata=True)
        api.snapshot_download(name, revision=info.sha, local_dir=folder)
    hashes = {file.rfilename: file.lfs.sha256 for file in info.siblings or [] if file.lfs is not None}
    return Copy(folder, name, info.sha, info.private, hashes)


def _outcome(validation: Validation, name: str) -> Outcome:
    try:
        return Outcome(name, True, getattr(validation, name)())
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        message = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        return Outcome(name, False, " ".join(message.split()))
