"""Libri2Mix from configuration to report, padded batches, and every checkpoint on every corpus."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hydra_preflight.errors import ConfigError

Command = Callable[..., subprocess.CompletedProcess]
TINY = [
    "trainer=cpu",
    "logger=csv",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "callbacks.progress=null",
    "data.num_workers=0",
    "data.batch_size=3",
    "data.eval_batch_size=3",
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
    "report.n_examples=1",
    "report.n_bootstrap=50",
    "report.metrics=fast",
]
WHOLE = ["data=separation/libri2mix", "data.segment_s=null"]
"""Whole utterances, hence padded batches."""


@pytest.fixture(scope="module", autouse=True)
def project_root(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        yield


def train(root: Path, folder: Path, *arguments: str) -> Path:
    """Train in this process; returns the run folder."""
    from hydra_preflight.compose import compose_run
    from hydraudio import run

    run.train(compose_run([*TINY, *arguments, f"data.root={root}"], folder))
    return folder


def evaluate(folder: Path, *arguments: str) -> Path:
    """Evaluate in this process; returns the run folder."""
    from hydra_preflight.compose import compose_run
    from hydraudio import run

    common = ("report.metrics=fast", "data.num_workers=0", "trainer.accelerator=cpu")
    run.evaluate(compose_run([*common, *arguments], folder, "eval.yaml"))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(libri2mix_root, tmp_path_factory) -> Path:
    """Run folder of a training on padded batches."""
    return train(libri2mix_root, tmp_path_factory.mktemp("logs") / "tiny" / "run", *WHOLE)


def test_padded_batches_train_and_are_reported(trained):
    steps = [float(row["throughput/padding"]) for row in rows(trained / "metrics.csv") if row.get("throughput/padding")]
    assert 0 < max(steps) < 0.4
    items = rows(trained / "report" / "items.csv")
    assert len(items) == 4
    assert {item["variant"] for item in items} == {"mix_clean"}
    assert all(item["ssr_db"] and item["sexes"] and item["talkers"] for item in items)
    assert any(row["slice"] == "Sex of the talkers" for row in rows(trained / "report" / "slices.csv"))


def test_batch_size_of_the_evaluation_changes_no_score(trained, tmp_path):
    run = evaluate(tmp_path, f"ckpt_path={trained}/checkpoints/best.ckpt", "data.eval_batch_size=1")
    alone, together = (rows(folder / "report" / "items.csv") for folder in (run, trained))
    assert [item["id"] for item in alone] == [item["id"] for item in together]
    for one, other in zip(alone, together, strict=True):
        assert float(one["si_sdr"]) == pytest.approx(float(other["si_sdr"]), abs=2e-3)


@pytest.fixture(scope="module")
def checkpoints(trained, polsess_root, tmp_path_factory) -> list[str]:
    """A checkpoint trained on Libri2Mix (two sources) and one trained on PolSESS (one source)."""
    other = train(polsess_root, tmp_path_factory.mktemp("logs") / "es" / "run", "test=false")
    return [str(run / "checkpoints" / "best.ckpt") for run in (trained, other)]


@pytest.mark.slow
def test_matrix_of_checkpoints_and_corpora(checkpoints, libri2mix_root, polsess_root, command, tmp_path):
    clean = ("clean", "data=separation/libri2mix", f"data.root={libri2mix_root}")
    noisy = (
        "noisy",
        "data=separation/libri2mix",
        f"data.root={libri2mix_root}",
        "data.problem=mix_both",
        "data.mode=max",
    )
    single = ("single", "data=separation/libri2mix", f"data.root={libri2mix_root}", "data.problem=mix_single")
    polsess = (
        "polsess",
        "data=separation/polsess",
        f"data.root={polsess_root}",
        "data.problem=SB",
        "data.test_variants=[SE,SER]",
    )
    corpora = [word for corpus in (clean, noisy, single, polsess) for word in ("--corpus", *corpus)]
    arguments = (f"ckpt_path=[{','.join(checkpoints)}]", "data.num_workers=0", *corpora, "--output", "out")
    assert "SI-SDRi / dB" in command("scripts/results/cross_corpus.py", *arguments).stdout
    matrix = {(row["model"].split("_")[0], row["corpus"]): row for row in rows(tmp_path / "out" / "matrix.csv")}
    assert len(matrix) == 8
    n_items = {place: int(row["si_sdri_n"]) for place, row in matrix.items() if not row["reason"]}
    assert n_items["tiny", "clean"] == n_items["tiny", "noisy"] == n_items["es", "single"] == 4
    assert n_items["tiny", "polsess"] == 6
    assert matrix["es", "clean"]["reason"] == "n_sources: data 2, model 1"
    assert matrix["tiny", "single"]["reason"] == "n_sources: data 1, model 2"
    assert "n_sources: data 2, model 1" in (tmp_path / "out" / "index.html").read_text()
    items = rows(next((tmp_path / "out" / "clean").glob("tiny*/report/items.csv")))
    mean = sum(float(item["si_sdri"]) for item in items) / len(items)
    assert float(matrix["tiny", "clean"]["si_sdri"]) == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=separation/libri2mix"], r"the data has n_sources=2, but the model was built for n_sources=1"),
        (
            ["data=separation/libri2mix", "data.problem=mix_single", "data.sample_rate=16000"],
            r"sample_rate=16000, but .*=8000",
        ),
        (["data=separation/libri2mix", "data.problm=mix_single"], r"data.problm"),
        (
            ["data=separation/libri2mix", "+data.test_variants=SER"],
            r"data.test_variants: .*no argument|data.test_variants",
        ),
        (["data=separation/libri2mix", "data.problem=mix_single", "data.test_variants=SER"], r"data.test_variants"),
        (["data.problm=ES"], r"data.problm"),
        (["+data.problm=ES"], r"data.problm"),
    ],
)
def test_unfitting_corpora_and_keys_are_refused(checkpoints, libri2mix_root, tmp_path, arguments, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(tmp_path, f"ckpt_path={checkpoints[1]}", f"data.root={libri2mix_root}", *arguments)


def test_cut_training_with_bucketing_ends_with_the_same_state(libri2mix_root, tmp_path, monkeypatch):
    from hydraudio.tasks.separation.task import SeparationTask

    arguments = [*WHOLE, "test=false", "callbacks.last_checkpoint.every_n_steps=1", "trainer.max_epochs=3"]
    whole = train(libri2mix_root, tmp_path / "whole", *arguments)
    original, seen = SeparationTask.training_step, []

    def step(task, batch):
        seen.append(batch)
        if len(seen) == 7:  # of four in an epoch
            raise RuntimeError("pulled the plug")
        return original(task, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SeparationTask, "training_step", step)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train(libri2mix_root, tmp_path / "cut", *arguments)
    assert any(batch["padded"] for batch in seen)
    cut = train(libri2mix_root, tmp_path / "cut", *arguments, "ckpt_path=last")
    ends = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, cut)]
    for key, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][key]), key
    moments = [end["optimizer_states"][0]["state"][0]["exp_avg"] for end in ends]
    assert torch.equal(*moments)
    assert ends[0]["global_step"] == ends[1]["global_step"] == 12
