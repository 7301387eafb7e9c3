"""Which ends of a trial are the parameters' fault, and what the callback reports."""

import math

import pytest
import torch
from hydra.errors import InstantiationException
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from hydra_plugins.hydraudio_pruning_sweeper._trial_task import is_out_of_memory, objective_values, reason_to_prune
from hydra_preflight.errors import ConfigError
from hydraudio.core.callbacks.nan_guard import NonFiniteError
from hydraudio.core.callbacks.pruning import TrialPruning
from hydraudio.core.trial import TrialPruned, run_as, running_trial


def wrapped(error):
    """As Hydra raises what happens while something is instantiated."""
    outer = InstantiationException("Error in call to target")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12345 bytes."),
        wrapped(MemoryError()),
    ],
)
def test_out_of_memory_prunes(error):
    assert reason_to_prune(error).startswith("out of memory: ")


def test_real_allocation_failure_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error", [TrialPruned("given up"), NonFiniteError("the loss is nan"), wrapped(TrialPruned("x"))]
)
def test_bad_trials_are_pruned_with_their_reason(error):
    assert reason_to_prune(error) == str(error.__cause__ or error)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shape mismatch"), ConfigError("x"), KeyError("x")])
def test_other_exceptions_are_failures(error):
    assert reason_to_prune(error) is None


def test_objective_values():
    assert objective_values(1) == (1.0,)
    assert objective_values((1.5, 2)) == (1.5, 2.0)
    assert math.isnan(objective_values(float("nan"))[0])
    for value in (None, "many", [1, None]):
        with pytest.raises(ConfigError, match="is not a number"):
            objective_values(value)


class FakeTrial:
    number = 0

    def __init__(self, prune_at=99):
        self.reports, self.prune_at = [], prune_at

    def report(self, value, step):
        self.reports.append((step, value))

    def should_prune(self):
        return self.reports[-1][0] >= self.prune_at


class Climbing(LightningModule):
    """Its metric is the epoch, or what `broken` says."""

    def __init__(self, broken=None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.broken = broken

    def training_step(self, batch):
        return self.layer(batch).sum()

    def validation_step(self, batch):
        self.log("val/score", float(self.current_epoch) if self.broken is None else self.broken)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(callback, module, folder, **options):
    loader = DataLoader(torch.zeros(2, 1))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(
        max_epochs=4, callbacks=[callback], accelerator="cpu", default_root_dir=folder, **quiet, **options
    )
    trainer.fit(module, loader, loader)
    return trainer


def test_every_validation_is_reported_once_and_none_of_the_sanity_check(tmp_path):
    trial = FakeTrial()
    with run_as(trial):
        fit(TrialPruning("val/score"), Climbing(), tmp_path, num_sanity_val_steps=1)
    assert trial.reports == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]
    assert running_trial() is None


def test_pruned_trial_stops_there(tmp_path):
    trial = FakeTrial(prune_at=2)
    with run_as(trial), pytest.raises(TrialPruned, match="pruned after validation 2 with val/score = 1"):
        fit(TrialPruning("val/score"), Climbing(), tmp_path)
    assert [step for step, _ in trial.reports] == [1, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metric_that_is_not_finite_ends_the_trial_unreported(tmp_path, value):
    trial = FakeTrial()
    with run_as(trial), pytest.raises(TrialPruned, match=f"val/score is {value} after validation 1"):
        fit(TrialPruning("val/score"), Climbing(value), tmp_path)
    assert trial.reports == []


def test_unknown_metric_is_an_error_that_lists_those_there_are(tmp_path):
    with run_as(FakeTrial()), pytest.raises(ConfigError, match=r"no metric 'val/other'; there are .*val/score"):
        fit(TrialPruning("val/other"), Climbing(), tmp_path)


def test_outside_of_a_search_the_callback_says_so(tmp_path):
    with pytest.raises(ConfigError, match="~callbacks"):
        fit(TrialPruning("val/score"), Climbing(), tmp_path)


def test_trial_ends_with_its_context_even_after_an_error():
    with pytest.raises(ZeroDivisionError), run_as(FakeTrial()):
        raise ZeroDivisionError
    assert running_trial() is None
