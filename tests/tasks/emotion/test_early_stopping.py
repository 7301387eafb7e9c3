"""Worked examples of the rule, its edge cases, and the callback inside real trainings."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from hydra_preflight.errors import ConfigError
from hydraudio.core.callbacks.last_checkpoint import LastCheckpoint
from hydraudio.core.checkpoints import AtomicCheckpointIO
from hydraudio.core.csv_logger import CSVMetricsLogger
from hydraudio.tasks.emotion.early_stopping import HybridEarlyStopping, HybridRule


def run(scores, losses, **options) -> tuple[HybridRule, list[float]]:
    """Feed the rule until it stops; the rule and all averages."""
    rule, averages = HybridRule(**options), []
    for loss, score in zip(losses, scores, strict=True):
        averages.append(rule.update(loss, score).smoothed)
        if rule.stop:
            break
    return rule, averages


# name: window, scores, losses, averages, (event of the stop, its reason, event of the saved model)
VECTORS = {
    "A dip while filling": (
        5,
        [0.30, 0.31, 0.29, 0.40],
        [1.5, 1.45, 1.44, 1.40],
        [0.30, 0.305, 0.30],
        (3, "smoothed_f1", 2),
    ),
    "B raw best not saved": (
        5,
        [0.30, 0.36, 0.34, 0.35, 0.33],
        [1.5, 1.4, 1.41, 1.42, 1.43],
        [0.30, 0.33, 1 / 3, 0.3375, 0.336],
        (5, "smoothed_f1", 4),
    ),
    "C loss beats score": (5, [0.30, 0.33, 0.37], [1.40, 1.36, 1.43], [0.30, 0.315, 1 / 3], (3, "loss", 2)),
    "D exactly 1.05": (5, [0.30, 0.33, 0.37], [1.0, 1.0, 1.05], [0.30, 0.315, 1 / 3], (3, None, 3)),
    "E window 3": (
        3,
        [0.20, 0.30, 0.31, 0.25, 0.32, 0.29],
        [1.5, 1.4, 1.3, 1.3, 1.3, 1.3],
        [0.2, 0.25, 0.27, 0.86 / 3, 0.88 / 3, 0.86 / 3],
        (6, "smoothed_f1", 5),
    ),
    "F zero first": (5, [0.0, 0.3], [2.0, 1.8], [0.0, 0.15], (2, None, 2)),  # a model is saved all the same
    "G tie": (5, [0.30, 0.30], [1.0, 1.0], [0.30, 0.30], (2, "smoothed_f1", 1)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_worked_vectors(name):
    window, scores, losses, averages, (event, reason, saved) = VECTORS[name]
    rule, found = run(scores, losses, window=window)
    assert found == pytest.approx(averages, abs=1e-12)
    assert (rule.n_events, rule.stop, rule.best_event) == (event, reason, saved)


def test_first_zero_is_saved_and_a_second_one_stops():
    rule, _ = run([0.0, 0.0, 0.5], [2.0, 1.9, 1.8])
    assert (rule.n_events, rule.stop, rule.best_event) == (2, "smoothed_f1", 1)


def test_continues_exactly_where_the_short_form_of_the_rule_says():
    """From the definition follows: t <= window needs a score above the mean of all before, later one above f_{t-w}."""
    generator = random.Random(0)
    for _ in range(2000):
        window = generator.randint(1, 6)
        scores = [round(generator.random(), 2) for _ in range(12)]
        rule, _ = run(scores, [1.0] * 12, window=window)
        t = 1
        while t < 12:
            before = scores[:t]
            above = sum(before) / t if t < window else scores[t - window]
            if scores[t] <= above + 1e-9:
                break
            t += 1
        expected = (12, None) if t == 12 else (t + 1, "smoothed_f1")
        assert (rule.n_events, rule.stop) == expected, (window, scores)


@pytest.mark.parametrize(("loss", "score"), [(math.nan, 0.5), (math.inf, 0.5), (1.0, math.nan), (-math.inf, 0.5)])
def test_not_finite_stops_and_keeps_the_last_good_model(loss, score):
    rule = HybridRule()
    rule.update(1.0, 0.3)
    verdict = rule.update(loss, score)
    assert (verdict.save, verdict.stop) == (False, "non_finite")
    assert (rule.best_event, rule.best, rule.min_loss) == (1, 0.3, 1.0)


def test_losses_that_are_not_positive():
    rule, _ = run([0.1, 0.2, 0.3, 0.4], [-1.0, -2.0, -1.9, -1.89])
    assert (rule.n_events, rule.stop) == (4, "loss")  # the threshold is -2 + 0.05 * 2
    assert rule.loss_threshold == pytest.approx(-1.9)
    assert run([0.1, 0.2, 0.3], [0.0, 0.0, 0.0])[0].stop is None


def test_the_first_loss_never_stops():
    for loss in (-5.0, 0.0, 1e-30, 1e30):
        assert HybridRule(ratio=1.0001).update(loss, 0.1).stop is None


def test_ties_of_floating_point_are_ties():
    assert run([0.1, 0.1, 0.1], [1.0, 1.0, 1.0])[0].n_events == 2
    assert run([0.1, 0.1 + 1e-13], [1.0, 1.0])[0].stop == "smoothed_f1"
    assert run([0.1, 0.1 + 1e-11], [1.0, 1.0])[0].stop is None


def test_min_delta():
    assert run([0.30, 0.34], [1.0, 1.0], min_delta=0.02)[0].stop == "smoothed_f1"  # the average grows by just that
    assert run([0.30, 0.35], [1.0, 1.0], min_delta=0.02)[0].stop is None


def test_several_failures_in_a_row():
    scores, losses = [0.3, 0.2, 0.5, 0.1, 0.2, 0.9], [1.0, 1.0, 1.0, 2.0, 1.0, 1.0]
    rule, _ = run(scores, losses, window=1, patience=2)
    assert (rule.n_events, rule.stop, rule.best_event) == (5, "smoothed_f1", 3)
    rule, _ = run(scores, losses, window=1, patience=3)
    assert (rule.n_events, rule.stop, rule.best_event) == (6, None, 6)


@pytest.mark.parametrize(
    "options",
    [{"window": 0}, {"window": 2.0}, {"window": True}, {"ratio": 1.0}, {"ratio": math.nan}, {"min_delta": -1}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        HybridRule(**options)


def test_state_continues_anywhere():
    generator = random.Random(1)
    scores = [generator.random() for _ in range(8)]
    whole = HybridRule(window=3, patience=4)
    expected = [whole.update(1.0, score) for score in scores]
    for cut in range(8):
        first, second = HybridRule(window=3, patience=4), HybridRule(window=3, patience=4)
        found = [first.update(1.0, score) for score in scores[:cut]]
        second.load_state_dict(first.state_dict())
        assert found + [second.update(1.0, score) for score in scores[cut:]] == expected


def test_patience_is_one_as_published():
    published, patient = HybridEarlyStopping("x").rule, HybridEarlyStopping("x", window=4, patience=3).rule
    assert (published.window, published.patience) == (5, 1)
    assert (patient.window, patient.patience) == (4, 3)


class Scripted(LightningModule):
    """Validates to given numbers; its weight counts the optimizer steps."""

    def __init__(self, scores: list[float], losses: list[float] | None = None) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.net.weight)
        self.scores, self.losses = scores, losses or [1.0] * len(scores)
        self.n_validations = 0

    def training_step(self, batch):
        return -self.net.weight.sum()

    def validation_step(self, batch):
        pass

    def on_validation_epoch_end(self):
        self.log_dict({"val/macro_f1": self.scores[self.n_validations], "val/loss": self.losses[self.n_validations]})
        if not self.trainer.sanity_checking:
            self.n_validations += 1

    def on_save_checkpoint(self, checkpoint):
        checkpoint["n_validations"] = self.n_validations

    def on_load_checkpoint(self, checkpoint):
        self.n_validations = checkpoint["n_validations"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class KillBefore(Callback):
    """As a kill does: nothing runs after a batch is about to begin or a validation has ended."""

    def __init__(self, hook: str, step: int) -> None:
        self.step = step
        setattr(self, hook, self._maybe)

    def _maybe(self, trainer, *_):
        if trainer.global_step == self.step:
            raise SystemExit


def trainer_of(folder: Path, callback: HybridEarlyStopping, *callbacks: Callback, **options) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[LastCheckpoint(str(folder / "checkpoints")), *callbacks, callback],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "max_epochs": 20, "num_sanity_val_steps": 0, **options},
    )


def fit(folder: Path, module: Scripted, *callbacks: Callback, ckpt_path: str | None = None, rule=None, **options):
    callback = HybridEarlyStopping(str(folder / "checkpoints"), **(rule or {}))
    trainer = trainer_of(folder, callback, *callbacks, **options)
    loader = DataLoader(torch.zeros(4, 1), batch_size=1)
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path)
    return trainer, callback


def load(path: str | Path) -> dict:
    return torch.load(path, weights_only=True)


def saved_steps(path: str | Path) -> int:
    """Optimizer steps that the weights in a checkpoint have taken."""
    return round(float(load(path)["state_dict"]["net.weight"]))


def test_the_trainer_stops_and_the_best_model_is_on_disk(tmp_path):
    module = Scripted([0.30, 0.36, 0.34, 0.35, 0.33, 0.9])
    trainer, callback = fit(tmp_path, module, logger=CSVMetricsLogger(tmp_path))
    assert trainer.checkpoint_callback is callback
    assert module.n_validations == 5
    assert callback.stop_reason == "smoothed_f1"
    assert callback.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert saved_steps(callback.best_model_path) == 4 * 4
    assert float(callback.best_model_score) == pytest.approx(0.35)  # of the saved model
    assert float(trainer.callback_metrics["val/best_smoothed_f1"]) == pytest.approx(0.3375)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/smoothed_f1"]]
    assert [float(row["val/smoothed_f1"]) for row in rows] == pytest.approx([0.30, 0.33, 1 / 3, 0.3375, 0.336])
    assert [row["val/macro_f1"] != "" for row in rows] == [True] * 5  # in the rows of the validations
    assert float(rows[-1]["val/loss_threshold"]) == pytest.approx(1.05)
    assert not [each for each in trainer.callbacks if isinstance(each, ModelCheckpoint)]


def test_loss_stops_without_saving(tmp_path):
    module = Scripted([0.1, 0.2, 0.3], [1.40, 1.36, 1.43])
    _, callback = fit(tmp_path, module)
    assert callback.stop_reason == "loss"
    assert saved_steps(callback.best_model_path) == 2 * 4


def test_nan_keeps_the_last_good_model(tmp_path):
    _, callback = fit(tmp_path, Scripted([0.1, math.nan, 0.3]))
    assert callback.stop_reason == "non_finite"
    assert saved_steps(callback.best_model_path) == 4


def test_sanity_check_does_not_count(tmp_path):
    module = Scripted([0.3, 0.2])
    _, callback = fit(tmp_path, module, num_sanity_val_steps=2)
    assert callback.rule.scores == pytest.approx([0.3, 0.2])
    assert callback.stop_reason == "smoothed_f1"


def test_every_validation_of_an_epoch_counts(tmp_path):
    module = Scripted([0.1, 0.2, 0.3, 0.1])
    trainer, callback = fit(tmp_path, module, val_check_interval=0.5, rule={"window": 1}, limit_val_batches=1)
    assert callback.rule.scores == pytest.approx([0.1, 0.2, 0.3, 0.1])
    assert trainer.global_step == 8
    assert saved_steps(callback.best_model_path) == 6


def test_a_stop_in_the_midst_of_an_epoch(tmp_path):
    trainer, callback = fit(tmp_path, Scripted([0.2, 0.3, 0.1]), val_check_interval=0.5, rule={"window": 1})
    assert (trainer.global_step, callback.stop_reason) == (6, "smoothed_f1")


def test_min_epochs_keeps_training_but_not_deciding(tmp_path):
    trainer, callback = fit(tmp_path, Scripted([0.2, 0.1, 0.9, 0.95]), min_epochs=4)
    assert trainer.current_epoch == 4
    assert callback.rule.scores == pytest.approx([0.2, 0.1])
    assert saved_steps(callback.best_model_path) == 4


def test_patient_mode(tmp_path):
    module = Scripted([0.3, 0.2, 0.5, 0.1, 0.2, 0.9])
    _, callback = fit(tmp_path, module, rule={"window": 1, "patience": 2})
    assert callback.rule.scores == pytest.approx([0.3, 0.2, 0.5, 0.1, 0.2])
    assert saved_steps(callback.best_model_path) == 12


def test_another_score_has_its_own_name(tmp_path):
    trainer, _ = fit(tmp_path, Scripted([0.3, 0.2]), rule={"monitor": "val/loss"}, max_epochs=1)
    assert float(trainer.callback_metrics["val/best_smoothed_loss"]) == 1.0


def test_missing_metric_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no metric 'val/f1'.*val/macro_f1"):
        fit(tmp_path, Scripted([0.1]), rule={"monitor": "val/f1"})


@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_end", "on_train_batch_start"])
@pytest.mark.parametrize("step", [8, 12, 16])
def test_killed_and_resumed_decides_as_the_whole_run(tmp_path, hook, step):
    """Kills before, in the midst of and after the decision of a validation."""
    scores = [0.30, 0.36, 0.34, 0.35, 0.33, 0.9]
    _, whole = fit(tmp_path / "whole", Scripted(scores))
    cut = tmp_path / "cut"
    with pytest.raises(SystemExit):
        fit(cut, Scripted(scores), KillBefore(hook, step))
    last = str(cut / "checkpoints" / "last.ckpt")
    _, resumed = fit(cut, Scripted(scores), ckpt_path=last)
    assert resumed.rule.state_dict() == whole.rule.state_dict()
    assert saved_steps(resumed.best_model_path) == saved_steps(whole.best_model_path)
    assert float(resumed.best_model_score) == float(whole.best_model_score)
    ours, theirs = (load(path) for path in (resumed.best_model_path, whole.best_model_path))
    strip = {"best_model_path": ""}
    assert {**ours["callbacks"]["HybridEarlyStopping"], **strip} == {
        **theirs["callbacks"]["HybridEarlyStopping"],
        **strip,
    }


def test_a_stopped_run_stays_stopped(tmp_path):
    fit(tmp_path, Scripted([0.3, 0.2]))
    module = Scripted([0.9] * 20)
    trainer, callback = fit(tmp_path, module, ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"))
    assert trainer.global_step == 8
    assert callback.stop_reason == "smoothed_f1"
    assert saved_steps(callback.best_model_path) == 4


@pytest.mark.parametrize(("patience", "stop"), [(2, "smoothed_f1"), (3, None)])
def test_more_patience_lets_a_stopped_rule_go_on(patience, stop):
    rule = HybridRule(patience=2)
    for score in (0.3, 0.2, 0.1):
        rule.update(1.0, score)
    assert rule.stop == "smoothed_f1"
    resumed = HybridRule(patience=patience)
    resumed.load_state_dict(rule.state_dict())
    assert resumed.stop == stop


def test_resumed_in_another_folder_still_knows_the_best(tmp_path):
    _, first = fit(tmp_path / "first", Scripted([0.3, 0.4, 0.5]), max_epochs=2)
    (tmp_path / "second").mkdir()
    last = str(tmp_path / "first" / "checkpoints" / "last.ckpt")
    _, second = fit(tmp_path / "second", Scripted([0.3, 0.4, 0.1]), ckpt_path=last)
    assert second.best_model_path == first.best_model_path
    assert second.stop_reason == "smoothed_f1"


def test_fast_dev_run_writes_nothing(tmp_path):
    _, callback = fit(tmp_path, Scripted([0.3]), fast_dev_run=True)
    assert callback.best_model_path == ""
    assert not (tmp_path / "checkpoints").exists()


def test_processes_decide_on_the_mean_of_their_numbers(tmp_path, monkeypatch):
    callback = HybridEarlyStopping(str(tmp_path))
    trainer = trainer_of(tmp_path, callback)
    trainer.callback_metrics.update({"val/loss": torch.tensor(1.0), "val/macro_f1": torch.tensor(0.5)})
    monkeypatch.setattr(Trainer, "world_size", property(lambda self: 2))
    sent = []
    monkeypatch.setattr(trainer.strategy, "reduce", lambda value, reduce_op: (value + 3 * value) / 2)
    monkeypatch.setattr(trainer.strategy, "broadcast", lambda value: sent.append(value) or [7.0, 8.0])
    assert callback._values(trainer) == (7.0, 8.0)
    assert sent == [[2.0, 1.0]]
