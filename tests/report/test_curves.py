"""Learning curves from a file as CSVLogger writes it."""

from pathlib import Path

import numpy as np
import pytest

from hydraudio.report.curves import curves_of_runs, learning_curves


def test_curves_skip_gaps_and_prefer_the_epoch_mean(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,train/loss,val/loss_epoch,val/loss_step,lonely\n"
        "0,9,3.5,,7,\n0,9,,2.5,,1\n1,19,1.5,,7,\n1,19,,0.5,,\n"
    )
    curves = learning_curves(path, ["train/loss", "val/loss", "val/si_sdri", "lonely"])
    assert set(curves) == {"train/loss", "val/loss"}
    assert (curves["train/loss"].x, curves["train/loss"].y) == ([9, 19], [3.5, 1.5])
    assert curves["val/loss"].y == [2.5, 0.5]


def test_every_point_of_a_loss_by_the_batch_is_the_mean_of_several_the_last_one_too(tmp_path: Path) -> None:
    lines = [f"{step},{step // 500},{value},{7 if step % 500 == 499 else ''}" for step, value in enumerate(range(1003))]
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,train/loss,val/loss\n" + "".join(f"{line}\n" for line in lines))
    curves = learning_curves(path, ["train/loss", "val/loss"])
    losses = curves["train/loss"]
    assert len(losses.x) == 125
    assert losses.y[0] == pytest.approx(np.mean(range(9)))
    assert losses.y[-1] == pytest.approx(np.mean(range(995, 1003)))
    assert losses.x == losses.y
    assert curves["val/loss"].x == [499, 999]


def test_curves_of_many_epochs_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,val/loss\n" + "".join(f"{k},{k},{k}\n" for k in range(1000)))
    curve = learning_curves(path, ["val/loss"])["val/loss"]
    assert len(curve.x) == 200
    assert curve.y[-1] == pytest.approx(997)


def test_the_first_run_with_curves_counts(tmp_path: Path) -> None:
    charts = {"Loss": ("train/loss", "val/loss"), "Score": ("val/si_sdri",)}
    runs = [tmp_path / name for name in ("none", "empty", "first", "second")]
    for run, values in zip(runs[1:], ((1.0,), (2.0, 3.0), (4.0, 5.0)), strict=True):
        run.mkdir()
        lines = [f"{step},{value}" for step, value in enumerate(values)]
        (run / "metrics.csv").write_text("step,val/loss\n" + "".join(f"{line}\n" for line in lines))
    curves = curves_of_runs(runs, charts)
    assert {title: [(curve.name, curve.y) for curve in found] for title, found in curves.items()} == {
        "Loss": [("val/loss", [2.0, 3.0])]
    }
    assert curves_of_runs(runs[:2], charts) == {}
