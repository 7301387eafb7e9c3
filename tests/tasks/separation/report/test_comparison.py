"""Comparison of models on shared items."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from hydraudio.report.tables import Row, read_csv, write_csv
from hydraudio.stats.intervals import holm
from hydraudio.tasks.separation.report.comparison import write_comparison
from hydraudio.tasks.separation.report.summaries import item_columns


def _rows(offset: float, seed: int, n: int = 40) -> list[Row]:
    difficulty = np.random.default_rng(0).normal(5, 4, n)
    noise = np.random.default_rng(seed).normal(0, 0.5, (2, n))
    return [
        {"id": f"{k:04d}", "variant": v, "degenerate": False, "si_sdr": float(difficulty[k] + offset + noise[i, k])}
        for i, v in enumerate(("SER", "SE"))
        for k in range(n)
    ]


def _compare(models: dict, folder: Path) -> tuple[list[Row], str, str]:
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    page = write_comparison(models, folder, n_bootstrap=300, seed=1, console=console)
    return read_csv(folder / "comparison.csv"), page.read_text(encoding="utf-8"), console.export_text()


def test_a_better_model_is_found_and_an_equal_one_is_not(tmp_path: Path) -> None:
    models = {"a": _rows(0.0, 1), "better": _rows(0.6, 2), "same": _rows(0.0, 3)}
    rows, page, text = _compare(models, tmp_path / "new")
    results = {(r["model_a"], r["model_b"]): r for r in rows if r["scope"] == "all variants"}
    better, same = results["a", "better"], results["a", "same"]
    assert better["n_items"] == 80
    assert better["difference_low"] > 0.3
    assert better["p_holm"] < 0.001
    assert same["difference_low"] < 0 < same["difference_high"]
    assert same["p_holm"] > 0.05
    assert "better" in page
    assert "index.html" in text


def test_p_values_are_wilcoxons_per_recording_and_corrected_over_pairs(tmp_path: Path) -> None:
    models = {"a": _rows(0.0, 1), "b": _rows(0.2, 2), "c": _rows(0.1, 3)}
    rows, _, _ = _compare(models, tmp_path)
    results = [r for r in rows if r["scope"] == "all variants"]
    scores = {name: np.array([r["si_sdr"] for r in model]).reshape(2, -1).mean(0) for name, model in models.items()}
    expected = [stats.wilcoxon(scores[r["model_b"]] - scores[r["model_a"]]).pvalue for r in results]
    assert [r["p_value"] for r in results] == pytest.approx(expected, rel=1e-4)
    assert [r["p_holm"] for r in results] == pytest.approx(list(holm(expected)), rel=1e-4)


def test_files_are_paired_by_item_and_degenerate_items_left_out(tmp_path: Path) -> None:
    first, second = _rows(0.0, 1), _rows(1.0, 1)[::-1]
    second.append({"id": "extra", "variant": "SER", "degenerate": False, "si_sdr": -99.0})
    first.append({"id": "0000", "variant": "C", "degenerate": True, "si_sdr": 20.0})
    paths = {}
    for name, items in {"a": first, "<b>": second}.items():
        paths[name] = write_csv(tmp_path / f"{len(paths)}.csv", items, item_columns(1, ()))
    rows, page, _ = _compare(paths, tmp_path / "out")
    assert {row["scope"] for row in rows} == {"SER", "SE", "all variants"}
    assert [row["difference"] for row in rows] == pytest.approx([1.0] * 3, abs=1e-4)
    assert "1 others were left out" in page
    assert "<b>" not in page


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two models"):
        write_comparison({"a": _rows(0, 1)}, tmp_path)
    with pytest.raises(ValueError, match="no item in common"):
        write_comparison({"a": _rows(0, 1), "b": [{**r, "id": "other"} for r in _rows(0, 1)]}, tmp_path)
