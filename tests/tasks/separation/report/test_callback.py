"""The report of a test: through a real trainer on synthetic items whose scores are known."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from hydraudio.core.task import Task
from hydraudio.report.run_scores import read_run_scores
from hydraudio.report.tables import Row, read_csv
from hydraudio.tasks.separation.metrics import perceptual
from hydraudio.tasks.separation.report.callback import SeparationReport
from hydraudio.tasks.separation.report.summaries import TEXT_COLUMNS
from hydraudio.tasks.separation.spec import SPEC

SAMPLE_RATE, N_SAMPLES = 8000, 8000
HOSTILE = '<img src=x onerror="alert(1)">.wav'


def talker(rng: np.random.Generator) -> np.ndarray:
    """One second of a voice-like tone in syllables, (time,) float32."""
    time_s = np.arange(N_SAMPLES) / SAMPLE_RATE
    phase = 2 * np.pi * rng.uniform(90, 220) * (time_s + 0.01 * np.sin(2 * np.pi * 3 * time_s))
    tone = sum(np.sin(k * phase) / k for k in range(1, 15))
    return (0.1 * tone * (np.sin(2 * np.pi * 4 * time_s) > -0.5)).astype(np.float32)


def item(number: int, variant: str, n_sources: int = 1) -> dict[str, Any]:
    """The same number is the same recording; noise is 4 samples per talker's 10 in amplitude, none in C."""
    rng = np.random.default_rng(number)
    target = np.stack([talker(rng) for _ in range(n_sources)])
    noise = (0.04 * rng.normal(size=N_SAMPLES)).astype(np.float32)
    degenerate = variant == "C" and n_sources == 1
    name = HOSTILE if number == 0 else f"{number:04d}.wav"
    metadata = {"indoor": number % 2 == 0, "ssr_db": float(number % 5 - 2), "scene_class": "park"}
    return {
        "mixture": target.sum(0) + (variant != "C") * noise,
        "target": target,
        "id": name,
        "variant": variant,
        "degenerate": degenerate,
        "metadata": metadata,
    }


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {key: [one[key] for one in items] for key in ("id", "variant", "metadata")}
    for key in ("mixture", "target"):
        batch[key] = torch.from_numpy(np.stack([one[key] for one in items]))
    batch["degenerate"] = torch.tensor([one["degenerate"] for one in items])
    batch["lengths"] = torch.full((len(items),), N_SAMPLES)
    return batch


class HalfNoise(Task):
    """An "enhancer" that removes half of the error, so that SI-SDR improves by about 6 dB."""

    spec = SPEC

    def __init__(self, n_sources: int = 1) -> None:
        super().__init__(torch.nn.Linear(3, 5), torch.optim.SGD, sample_rate=SAMPLE_RATE)
        self.n_sources = n_sources

    def test_step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        target, mixture = batch["target"], batch["mixture"][:, None]
        estimate = target + 0.5 * (mixture - target) + 1e-4 * torch.sin(torch.arange(N_SAMPLES))
        before, after = (_si_sdr(x.expand_as(target), target) for x in (mixture, estimate))
        n_items = len(target)
        permutation = torch.arange(self.n_sources).flip(0).expand(n_items, -1)
        scores = {"si_sdr": after, "si_sdr_mixture": before, "si_sdri": after - before}
        return {"loss": -after.mean(1), "estimate": estimate, "permutation": permutation, **scores}


def _si_sdr(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True)
    error = (scale * target - estimate).square().sum(-1)
    return 10 * torch.log10((scale * target).square().sum(-1) / (error + 1e-12))


def run(folder: Path, items: list[dict[str, Any]], n_sources: int = 1, **arguments: Any) -> Path:
    report = SeparationReport(folder / "report", n_bootstrap=50, **arguments)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[report]
    )
    loader = DataLoader(items, batch_size=3, collate_fn=collate)  # type: ignore[arg-type]
    trainer.test(HalfNoise(n_sources), loader, verbose=False)
    return folder / "report"


def rows_of(report: Path) -> list[Row]:
    return read_csv(report / "items.csv", TEXT_COLUMNS)


@pytest.fixture(scope="module")
def enhancement(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("es") / "polsess_es" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,train/loss,val/si_sdri\n1,3,1\n2,2,5\n")
    items = [item(number, variant) for number in range(4) for variant in ("SER", "SE", "C")]
    return run(folder, items, metrics="fast", n_examples=1, monitor="val/si_sdri")


def test_files_hold_every_item_and_the_right_means(enhancement: Path) -> None:
    rows = rows_of(enhancement)
    assert len(rows) == 12
    assert sorted(file.name for file in enhancement.iterdir()) == [
        "index.html",
        "items.csv",
        "slices.csv",
        "variants.csv",
    ]
    summaries = {row["variant"]: row for row in read_csv(enhancement / "variants.csv", ["variant"])}
    usual = [row["si_sdri"] for row in rows if row["variant"] == "SER"]
    assert summaries["SER"]["si_sdri"] == pytest.approx(np.mean(usual), abs=1e-4)
    assert summaries["SER"]["si_sdri"] == pytest.approx(6.0, abs=0.3)
    assert summaries["mean of items"]["n_items"] == 8
    assert summaries["C"]["kind"] == "degenerate"
    assert summaries["C"]["si_sdri"] is None
    assert any(row["slice"] == "Place" for row in read_csv(enhancement / "slices.csv"))


def test_the_run_folder_has_the_means_of_the_variants_as_its_scores(enhancement: Path) -> None:
    (macro,) = (row for row in read_csv(enhancement / "variants.csv", ["variant"]) if row["kind"] == "macro")
    found = read_run_scores(enhancement.parent)
    assert (found.task, found.monitor) == ("separation", "val/si_sdri")
    assert found.scores["si_sdri"].mean == pytest.approx(macro["si_sdri"], abs=1e-4)
    assert found.scores["si_sdri"].low < found.scores["si_sdri"].mean < found.scores["si_sdri"].high
    assert found.scores["si_sdr"].n == 8


@pytest.mark.parametrize(("metrics", "found"), [(["si_sdr", "stoi"], ["stoi"]), (["pesq"], ["pesq"]), (["si_sdr"], [])])
def test_metrics_are_chosen_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: list[str], found: list[str]
) -> None:
    """And of PESQ and STOI only the package of the chosen one is needed."""
    packages = {"pesq": "pesq", "stoi": "pystoi"}
    absent = {package for name, package in packages.items() if name not in found}
    present = perceptual.importlib.util.find_spec
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None if name in absent else present(name))
    report = run(tmp_path, [item(k, "SER") for k in (1, 2)], metrics=metrics, n_examples=1, n_processes=1)
    scored = {name for row in rows_of(report) for name, value in row.items() if value is not None}
    assert scored & set(packages) == set(found)
    assert set(read_run_scores(tmp_path).scores) & {*packages, "si_sdri"} == {*found, "si_sdri"}
    page = (report / "index.html").read_text(encoding="utf-8")
    assert {name for name in packages if f"{name.upper()}, mixture" in page} == set(found)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["si_sdr", "stio"], "metrics='stio' is unknown.*stoi"),
        ("all", "metrics='all' must be full, fast, or a list"),
        ([], "must be full, fast, or a list"),
    ],
)
def test_a_wrong_choice_of_metrics_is_named(tmp_path: Path, metrics: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeparationReport(tmp_path, metrics=metrics)


def test_the_page_stands_alone_and_is_safe(enhancement: Path) -> None:
    page = (enhancement / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;.wav" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "polsess_es" in page
    assert "2026-01-01" in page
    assert "20 parameters" in page
    assert 'id="curves"' in page
    assert "reported apart" in page


def test_examples_come_with_players_for_every_signal(enhancement: Path) -> None:
    page = (enhancement / "index.html").read_text(encoding="utf-8")
    n_cards = page.count('class="card item"')
    assert n_cards == 6  # worst, best and typical of two variants; none of the degenerate one
    assert page.count("<audio") == 3 * n_cards
    assert page.count('class="spectrogram"') == page.count("mask-image") == 3 * n_cards
    assert page.index("<audio") < page.index("<table")  # one comes to listen


def test_two_sources_fill_their_columns_and_players(tmp_path: Path) -> None:
    report = run(tmp_path, [item(k, "C", 2) for k in range(3)], 2, metrics="fast", n_examples=1)
    row = rows_of(report)[0]
    assert row["permutation"] == "1 0"
    assert row["si_sdr"] == pytest.approx((row["si_sdr_1"] + row["si_sdr_2"]) / 2, abs=1e-4)  # type: ignore[operator]
    assert row["degenerate"] is False
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 5 * page.count('class="card item"')


def test_pesq_and_stoi_are_filled_in_and_what_fails_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("pesq")
    silent = {**item(7, "SER"), "target": np.zeros((1, N_SAMPLES), np.float32), "id": "silent.wav"}
    items = [item(2, "SER"), silent, item(2, "C")]
    report = run(tmp_path, items, metrics="full", n_processes=1, cache_dir=tmp_path / "cache")
    rows = {(row["variant"], row["id"]): row for row in rows_of(report)}
    scored = rows["SER", "0002.wav"]
    assert scored["pesq"] > scored["pesq_mixture"]  # type: ignore[operator]
    assert scored["stoi"] > scored["stoi_mixture"]  # type: ignore[operator]
    assert scored["error"] is None
    failed = rows["SER", "silent.wav"]
    assert failed["pesq"] is None
    assert "pesq" in str(failed["error"])
    assert "si_sdr" in str(failed["error"])
    assert rows["C", "0002.wav"]["pesq"] is None
    printed = capsys.readouterr().out.replace("\n", "")
    assert "silent.wav" in printed
    assert printed.strip().endswith("index.html")
    assert list((tmp_path / "cache").rglob("*.sqlite"))


def test_a_repeated_item_counts_once_and_the_page_says_so(tmp_path: Path) -> None:
    report = run(tmp_path, [item(1, "SE"), item(1, "SE"), item(2, "SE")], metrics="fast")
    assert len(rows_of(report)) == 2
    assert "1 repetitions" in (report / "index.html").read_text(encoding="utf-8")


def test_the_page_keeps_its_size_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    items = [item(number, "SER") for number in range(8)]
    report = run(tmp_path, items, metrics="fast", max_page_mb=0.2)
    page = (report / "index.html").read_text(encoding="utf-8")
    assert len(page) < 220_000
    assert "more examples were left out" in page


def test_examples_are_cut_to_the_wanted_length(tmp_path: Path) -> None:
    report = run(tmp_path, [item(1, "SER")], metrics="fast", max_example_s=0.25)
    assert "0.25 s" in (report / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    items = [item(number, variant) for number in range(4) for variant in ("SER", "SE")]
    alone = rows_of(run(tmp_path / "one", items, metrics="fast"))
    script = f"""
        import json, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_callback import *

        items = [item(number, variant) for number in range(4) for variant in ("SER", "SE")]
        report = SeparationReport({str(tmp_path / "two")!r}, metrics="fast", n_bootstrap=50)
        trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[report])
        trainer.test(HalfNoise(), DataLoader(items, batch_size=3, collate_fn=collate), verbose=False)
    """
    path = tmp_path / "two_processes.py"
    path.write_text(textwrap.dedent(script))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report:") == 1
    together = rows_of(tmp_path / "two")
    assert json.dumps(together) == json.dumps(alone)
