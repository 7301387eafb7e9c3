"""The metrics file: contents, kills, resumes."""

import csv
import multiprocessing
import os
import signal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from hydraudio.core.csv_logger import CSVMetricsLogger, MetricsTable


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_step_and_columns_as_they_come(tmp_path):
    logger = CSVMetricsLogger(tmp_path / "run")
    logger.log_metrics({"train/loss": torch.tensor(0.5), "epoch": 0}, step=4)
    logger.log_metrics({"lr": 1e-3}, step=4)
    logger.log_metrics({"train/loss": 0.25, "epoch": 0}, step=9)
    logger.log_metrics({"val/loss": 1.5, "epoch": 1}, step=9)
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines() == [
        "step,epoch,train/loss,lr,val/loss",
        "4,0,0.5,0.001,",
        "9,1,0.25,,1.5",
    ]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]


def test_shorter_value_leaves_no_rest_of_the_longer_one(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log(1, {"epoch": 0, "a": 0.123456789})
    table.log(1, {"a": 2})
    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,a\n1,0,2\n"


def test_new_logger_continues_the_file(tmp_path):
    CSVMetricsLogger(tmp_path).log_metrics({"a": 1.0, "epoch": 0}, step=0)
    CSVMetricsLogger(tmp_path).log_metrics({"b": 2.0, "epoch": 0}, step=0)
    CSVMetricsLogger(tmp_path).log_metrics({"a": 3.0, "epoch": 1})
    assert read(tmp_path / "metrics.csv") == [
        {"step": "0", "epoch": "0", "a": "1.0", "b": "2.0"},
        {"step": "1", "epoch": "1", "a": "3.0", "b": ""},
    ]


@pytest.mark.parametrize("rest", ["5,1,0.7", "5,1", "5", "5,1,0.7\n5\n", "5,1,0.7\n,9\n"])
def test_row_that_a_kill_cut_is_removed(tmp_path, rest):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,a\n1,0,0.25\n" + rest)
    n_complete = 3 if rest.count("\n") == 2 else 2
    CSVMetricsLogger(tmp_path).log_metrics({"a": 0.5, "epoch": 2}, step=8)
    rows = read(path)
    assert [row["step"] for row in rows] == ["1", "5", "8"][-n_complete:] if n_complete == 3 else ["1", "8"]
    assert all(None not in row and row["a"] for row in rows)


@pytest.mark.parametrize(
    "bad", ["5,1\n", "5,1,0.7,0.8\n", "5,1,0.55,1,0.7\n", "\0" * 40 + "\n", "x,1,2\n", "\ufffd,,\n"]
)
def test_damaged_rows_are_set_aside_with_a_warning(tmp_path, bad, caplog):
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,epoch,a\n1,0,0.25\n{bad}9,1,0.5\n")
    CSVMetricsLogger(tmp_path).log_metrics({"a": 0.5, "epoch": 2}, step=12)
    assert [row["step"] for row in read(path)] == ["1", "9", "12"]
    assert (tmp_path / "metrics.csv.bad").read_text() == bad
    assert "1 damaged rows were moved to metrics.csv.bad" in caplog.text


@pytest.mark.parametrize("content", ["time,value\n1,2\n", "\0" * 100, ""])
def test_a_file_without_our_header_is_set_aside(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    CSVMetricsLogger(tmp_path).log_metrics({"a": 1.0}, step=0)
    assert read(tmp_path / "metrics.csv") == [{"step": "0", "epoch": "", "a": "1.0"}]
    assert [path.read_text() for path in tmp_path.glob("metrics.1.csv")] == ([content] if content else [])


class Tiny(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, batch):
        loss = self.net(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch):
        self.log("val/loss", self.net(batch).square().mean())

    def test_step(self, batch):
        self.log("test/loss", self.net(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Kill(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def loader():
    return DataLoader(torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), batch_size=2)


def make_trainer(folder, *callbacks, max_epochs=3):
    return Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=CSVMetricsLogger(folder),
        log_every_n_steps=2,
        val_check_interval=0.5,
        callbacks=[ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=True), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_run_killed_and_resumed_has_the_rows_of_an_uninterrupted_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    make_trainer(whole).fit(Tiny(), loader(), loader())

    def run():
        make_trainer(killed, Kill(step=18)).fit(Tiny(), loader(), loader())

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    before = read(killed / "metrics.csv")
    assert int(before[-1]["step"]) > 12  # logged beyond the checkpoint, which lies at step 10

    trainer = make_trainer(killed)
    trainer.fit(Tiny(), loader(), loader(), ckpt_path=killed / "last.ckpt")
    rows = read(killed / "metrics.csv")
    assert rows == read(whole / "metrics.csv")
    assert [row["step"] for row in rows if row["val/loss"]] == ["4", "9", "14", "19", "24", "29"]

    trainer.test(Tiny(), loader(), verbose=False)  # tests only add
    tested = read(killed / "metrics.csv")
    assert [{key: row[key] for key in rows[0]} for row in tested][: len(rows)] == rows
    assert tested[-1]["test/loss"]

    make_trainer(killed, max_epochs=1).fit(Tiny(), loader(), loader())  # not a resume: a new file
    assert read(killed / "metrics.1.csv") == tested
    assert read(killed / "metrics.csv") == rows[: len(read(killed / "metrics.csv"))]
