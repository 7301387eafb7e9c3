"""What every network and every corpus promises, as checks for a test file; the house's own tests use the same.

A test composes a configuration with :func:`compose`, makes its parts with :func:`make_network`, :func:`make_task` and
``partial(make_data, cfg)``, and calls the promises of a contract one by one:

    @pytest.mark.parametrize("promise", NetworkContract.PROMISES)
    def test_network(promise, tmp_path):
        cfg = compose(["model=TASK/mine"], tmp_path)
        getattr(NetworkContract(make_network(cfg)), promise)()

A promise that is not kept raises an ``AssertionError``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hydra_preflight import check_targets
from hydra_preflight.catalogue import Case, Catalogue, Result
from hydra_preflight.compose import compose_run
from hydra_preflight.project import enter_project, find_project
from hydra_preflight.resolvers import bind_data_attributes
from hydraudio.core.sampling import SPLITS
from hydraudio.core.spec import Axes, TaskSpec, load_spec
from hydraudio.core.task import Task


def compose(overrides: Sequence[str], output_dir: str | Path) -> DictConfig:
    """Compose the training of the project that the working directory lies in, and check it as before a run.

    Args:
        overrides: as on the command line.
        output_dir: what ``paths.output_dir`` names; not created.

    Raises:
        ConfigError: something is wrong with the configuration, or with what it instantiates.
    """
    enter_project(find_project())
    cfg = compose_run(overrides, output_dir)
    check_targets(cfg, HydraConfig.get(), trusted_prefixes=cfg.extras.trusted_targets)
    return cfg


def make_data(cfg: DictConfig, **changes: Any) -> LightningDataModule:
    """The datamodule of a configuration, with other arguments where they are given."""
    return instantiate(cfg.data, **changes)


def make_network(cfg: DictConfig) -> nn.Module:
    """The network of a configuration as training begins with it, always with the same weights."""
    bind_data_attributes(make_data(cfg))
    torch.manual_seed(0)
    return instantiate(cfg.model.net)


def make_task(cfg: DictConfig) -> Task:
    """The task of a configuration as training begins with it, always with the same weights."""
    bind_data_attributes(make_data(cfg))
    torch.manual_seed(0)
    return instantiate(cfg.model)


def noise(*shape: int, amplitude: float = 0.1) -> Tensor:
    """The same numbers, normally distributed, whenever it is called."""
    return amplitude * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class NetworkContract:
    """A network that is called as ``net(waveform)``, or for a padded batch ``net(waveform, lengths)``.

    Args:
        net: takes (batch, time) in [-1, 1] and gives a tensor or a dict of tensors, batch first. An output whose last
            axis is as long as the waveform goes along time: beyond an item's length it has no meaning.
        n_samples: length of the waveforms of most checks.
        further: name -> (3, ...) of what the network is given besides, an entry per item.
        unscored: outputs that no loss reads.
        tolerance: greatest difference of what should be equal, absolute.
    """

    PROMISES: ClassVar[tuple[str, ...]] = (
        "every_parameter_learns",
        "batch_changes_nothing",
        "padding_changes_nothing",
        "padded_gradients_add_up",
        "takes_any_length",
        "stays_finite",
        "state_dict_restores",
        "compiles_in_place",
    )
    AMPLITUDES: ClassVar[tuple[float, ...]] = (1.0, 1e-2, 1e-4, 0.0)
    DTYPES: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16, torch.float16)

    net: nn.Module
    n_samples: int = 2003
    further: Mapping[str, Tensor] = field(default_factory=dict)
    unscored: tuple[str, ...] = ()
    tolerance: float = 1e-4

    def every_parameter_learns(self) -> None:
        """Each trained parameter gets a gradient that is not zero, and no other does."""
        self.net.train().zero_grad()
        self._score(self._call(noise(2, self.n_samples))).backward()
        trained = {name for name, p in self.net.named_parameters() if p.requires_grad}
        moved = {name for name, p in self.net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert trained - moved == set(), f"no gradient reaches {sorted(trained - moved)}"
        assert moved <= trained

    def batch_changes_nothing(self) -> None:
        """An item gets the same alone as beside another."""
        waveform = noise(2, self.n_samples)
        with self._evaluating():
            together = self._call(waveform)
            self._assert_close(self._call(waveform[:1]), {name: value[:1] for name, value in together.items()})

    def padding_changes_nothing(self) -> None:
        """An item of a padded batch gets the same alone, whatever the padding holds."""
        lengths, waveform = self._lengths(3), noise(3, self.n_samples)
        with self._evaluating():
            together = self._call(waveform, torch.tensor(lengths))
            for item, length in enumerate(lengths):
                alone = self._call(waveform[item : item + 1, :length], items=slice(item, item + 1))
                of_batch = {name: self._cut(value[item : item + 1], length) for name, value in together.items()}
                self._assert_close(of_batch, alone)

    def padded_gradients_add_up(self) -> None:
        """The gradient of a padded batch is the sum of the gradients of its items."""
        lengths, waveform = self._lengths(2), noise(2, self.n_samples)
        self.net.eval().zero_grad()
        terms = [
            self._score({name: self._cut(value[item : item + 1], length) for name, value in each.items()})
            for each in [self._call(waveform, torch.tensor(lengths))]
            for item, length in enumerate(lengths)
        ]
        torch.stack(terms).sum().backward()
        together = {name: p.grad.clone() for name, p in self._graded()}
        self.net.zero_grad()
        for item, length in enumerate(lengths):
            self._score(self._call(waveform[item : item + 1, :length], items=slice(item, item + 1))).backward()
        for name, p in self._graded():
            tolerance = 1e-3 * float(p.grad.abs().max()) + 1e-7
            torch.testing.assert_close(together[name], p.grad, rtol=1e-3, atol=tolerance, msg=f"{name}: {{}}".format)

    def takes_any_length(self, lengths: Iterable[int] = (1, 17, 100, 399, 400, 1001)) -> None:
        """From one sample on, the outputs are finite."""
        with self._evaluating():
            for n_samples in lengths:
                self._assert_finite(self._call(noise(1, n_samples)), f"{n_samples} samples")

    def stays_finite(
        self, dtypes: Iterable[torch.dtype] = DTYPES, amplitudes: Iterable[float] = AMPLITUDES, n_samples: int = 1601
    ) -> None:
        """Outputs and gradients, under autocast too, from full scale to silence."""
        lengths = torch.tensor([n_samples, n_samples // 3])
        for dtype in dtypes:
            for amplitude in amplitudes:
                case, waveform = f"{dtype}, amplitude {amplitude}", noise(2, n_samples, amplitude=amplitude)
                self.net.train().zero_grad()
                with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                    output = self._call(waveform, lengths)
                self._assert_finite(output, case)
                self._score(output).backward()
                infinite = [name for name, p in self._graded() if not p.grad.isfinite().all()]
                assert infinite == [], f"{case}: gradients of {infinite}"

    def state_dict_restores(self) -> None:
        """What the state dict holds is all that the outputs depend on."""
        waveform = noise(2, self.n_samples)
        with self._evaluating():
            expected = self._call(waveform)
            state = {key: value.clone() for key, value in self.net.state_dict().items()}
            for value in self.net.parameters():
                value.add_(1)
            self.net.load_state_dict(state)
            self._assert_close(self._call(waveform), expected)

    def compiles_in_place(self) -> None:
        """Traced by the compiler, with the same keys and the same result."""
        waveform, keys = noise(2, self.n_samples), list(self.net.state_dict())
        with self._evaluating():
            expected = self._call(waveform)
            self.net.compile(backend="eager")
            self._assert_close(self._call(waveform), expected)
        assert list(self.net.state_dict()) == keys
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0

    def _call(self, waveform: Tensor, lengths: Tensor | None = None, items: slice = slice(None)) -> dict[str, Tensor]:
        chosen = slice(len(waveform)) if items == slice(None) else items
        given = {name: value[chosen] for name, value in self.further.items()}
        output = self.net(waveform, **given) if lengths is None else self.net(waveform, lengths, **given)
        return dict(output) if isinstance(output, Mapping) else {"output": output}

    def _evaluating(self) -> torch.no_grad:
        self.net.eval()
        return torch.no_grad()

    def _graded(self) -> Iterator[tuple[str, Any]]:
        return ((name, p) for name, p in self.net.named_parameters() if p.grad is not None)

    def _lengths(self, n_items: int) -> list[int]:
        return [self.n_samples, self.n_samples * 3 // 5, self.n_samples // 10][:n_items]

    def _cut(self, output: Tensor, length: int) -> Tensor:
        return output[..., :length] if output.ndim > 1 and output.shape[-1] == self.n_samples else output

    def _score(self, output: Mapping[str, Tensor]) -> Tensor:
        """A scalar in which every value of every output counts differently."""
        scored = [value.float() for name, value in output.items() if name not in self.unscored]
        return torch.stack([(value * noise(*value.shape, amplitude=1.0)).sum() for value in scored]).sum()

    def _assert_close(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=self.tolerance)

    @staticmethod
    def _assert_finite(output: Mapping[str, Tensor], case: str) -> None:
        assert all(value.isfinite().all() for value in output.values()), f"{case}: the output is not finite"


@dataclass(frozen=True)
class CorpusContract:
    """A corpus, as its datamodule gives it.

    Args:
        make: called without arguments or with some of the datamodule's (``root``, ``num_workers``); gives a new one.
        spec: the specification of its task.
        n_batches: how many of each loader are looked at.
    """

    PROMISES: ClassVar[tuple[str, ...]] = (
        "batches_match_the_specification",
        "draws_are_pure",
        "epochs_differ",
        "nothing_is_written_while_reading",
        "check_finds_no_defect",
        "missing_folder_is_named",
    )

    make: Callable[..., Any]
    spec: TaskSpec
    n_batches: int = 3

    def batches_match_the_specification(self) -> None:
        """Names, axes, types and ranges of the tensors; ids; and whether lengths differ."""
        data = self._ready()
        for split in SPLITS:
            for batch in self._batches(data, split):
                assert_matches(batch, self.spec.batch)
                n_items = len(batch["id"])
                assert all(isinstance(name, str) for name in batch["id"])
                lengths = batch["lengths"]
                assert len(lengths) == n_items
                assert batch["padded"] is bool(lengths.min() < lengths.max())

    def draws_are_pure(self) -> None:
        """Another datamodule with the same seed gives the same batches, with a worker too."""
        expected = list(self._batches(self._ready(), "train"))
        for n_workers in (0, 1):
            for found, batch in zip(self._batches(self._ready(num_workers=n_workers), "train"), expected, strict=True):
                assert found["id"] == batch["id"]
                for name in self.spec.batch:
                    torch.testing.assert_close(found[name], batch[name], rtol=0, atol=0, equal_nan=True)

    def epochs_differ(self) -> None:
        """The items of a training come in another order in every epoch."""
        loader = self._ready().train_dataloader()
        orders = []
        for epoch in (0, 1):
            loader.batch_sampler.set_epoch(epoch)
            orders.append([name for batch in loader for name in batch["id"]])
        assert len(orders[0]) < 3 or orders[0] != orders[1]

    def nothing_is_written_while_reading(self) -> None:
        """The corpus folder holds the same files before and after."""
        data = self.make()
        data.prepare_data()
        before = self._files(data.root)
        for split in SPLITS:
            list(self._batches(self._ready(), split))
        assert self._files(data.root) == before

    def check_finds_no_defect(self) -> None:
        """``check``, where the datamodule has it, finds nothing."""
        data = self._ready()
        defects = [defect for defect in data.check() if defect.severity == "error"] if hasattr(data, "check") else []
        assert defects == [], "\n".join(defect.message for defect in defects)

    def missing_folder_is_named(self) -> None:
        """A root that does not exist is an error that names it, before anything is read."""
        data, message = self.make(root="no/such/corpus"), ""
        try:
            data.prepare_data()
            data.setup("fit")
        except FileNotFoundError as error:
            message = str(error)
        assert "no/such/corpus" in message, "no error names the corpus folder that does not exist"

    def _ready(self, **changes: Any) -> Any:
        data = self.make(**changes)
        data.prepare_data()
        data.setup()
        return data

    def _batches(self, data: Any, split: str) -> Iterator[dict[str, Any]]:
        loader: DataLoader = getattr(data, f"{split}_dataloader")()
        return islice(loader, self.n_batches)

    @staticmethod
    def _files(root: Path) -> dict[str, int]:
        paths = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
        return {str(path): path.stat().st_mtime_ns for path in paths}


def assert_predicts(task: Task, batch: Mapping[str, Any]) -> None:
    """``Task.predict`` gives at least one output of the specification, each with its axes, in fp32."""
    given = {name: value for name, value in batch.items() if name in task.spec.inputs}
    found = task.eval().predict(given)
    promised = {name: axes for name, axes in task.spec.outputs.items() if name in found}
    assert promised, f"predict gives {sorted(found)}, the specification names {sorted(task.spec.outputs)}"
    known = {name: task.spec.batch[name] for name in given}
    assert_matches({**given, **{name: found[name] for name in promised}}, {**known, **promised})


def assert_matches(tensors: Mapping[str, Any], axes: Mapping[str, Axes]) -> None:
    """Every tensor has its axes, type and range, and an axis is as long in one tensor as in the others."""
    sizes: dict[str, int] = {}
    for name, promised in axes.items():
        assert name in tensors, f"{name} is missing"
        value, names = tensors[name], promised.axes.split()
        assert value.ndim == len(names), f"{name} is {tuple(value.shape)}, expected ({', '.join(names)})"
        assert str(value.dtype) == f"torch.{promised.dtype}", f"{name} is {value.dtype}, expected {promised.dtype}"
        for axis, size in zip(names, value.shape, strict=True):
            assert sizes.setdefault(axis, size) == size, f"{name}: {axis} is {size}, elsewhere {sizes[axis]}"
        bounds = re.match(r"\[(-?\d+), (-?\d+)\]", promised.unit)
        if bounds and value.numel():
            known = value[~value.isnan()] if "NaN" in promised.unit else value
            inside = (known >= float(bounds[1])) & (known <= float(bounds[2]))
            assert bool(inside.all()), f"{name} leaves {promised.unit}"


def assert_configs_compose(config_dir: str | Path) -> None:
    """Each file of a project's folder of configurations composes with the house's, is right, and can be chosen.

    What the configurations name is imported, and the arguments are bound.
    """
    enter_project(find_project())
    catalogue = Catalogue(Path(config_dir), targets=True)
    results: dict[Case, Result] = {}
    cases = list(catalogue.first_cases())
    while cases:
        results |= {case: catalogue.check(case) for case in cases}
        cases = list(catalogue.further_cases(results))
    failures = [f"[{case}]\n{result.failure}" for case, result in results.items() if result.failure is not None]
    failures += [f"{path}: nothing chooses this file" for path in catalogue.unreached(results.values())]
    assert failures == [], "\n".join(failures)


def spec_of(cfg: DictConfig) -> TaskSpec:
    """The specification of the task that a configuration chooses."""
    return load_spec(cfg.task.spec, cfg.extras.trusted_targets)
