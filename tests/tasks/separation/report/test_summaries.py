"""Rows and summaries, checked on numbers that can be worked out by hand."""

import math

import pytest

from hydraudio.report.tables import Row
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.tasks.separation.report.summaries import (
    degenerate_line,
    item_columns,
    problems,
    set_scores,
    slices,
    summarise,
    summary_rows,
    summary_table,
    unique_items,
)

FEW = Bootstrap(n_bootstrap=50, seed=0)


def _row(item: str, variant: str, mixture: float, estimate: float, **others: object) -> Row:
    scores = {"si_sdr_mixture": mixture, "si_sdr": estimate, "si_sdri": estimate - mixture}
    return {"id": item, "variant": variant, "degenerate": False, **scores, **others}


def test_set_scores_keeps_each_source_of_several() -> None:
    row: Row = {}
    set_scores(row, "si_sdr", [1.0, 4.0])
    assert row == {"si_sdr": 2.5, "si_sdr_1": 1.0, "si_sdr_2": 4.0}
    single: Row = {}
    set_scores(single, "stoi", [0.5])
    assert single == {"stoi": 0.5}


def test_columns() -> None:
    assert "si_sdr_1" not in item_columns(1, ())
    columns = item_columns(2)
    assert {"id", "permutation", "si_sdri_2", "pesq_mixture", "stoi_2", "error"} <= set(columns)
    assert len(columns) == len(set(columns))


def test_macro_and_micro_and_degenerate() -> None:
    rows = [_row(f"{k}.wav", "SER", 0.0, 6.0) for k in range(3)] + [_row("0.wav", "S", 4.0, 6.0)]
    rows += [{**_row("0.wav", "C", 80.0, 20.0), "degenerate": True}]
    summaries = {(s.kind, s.name): s for s in summarise(rows, FEW)}
    assert list(summaries) == [
        ("variant", "SER"),
        ("variant", "S"),
        ("macro", "mean of variants"),
        ("micro", "mean of items"),
        ("degenerate", "C"),
    ]
    assert summaries["macro", "mean of variants"].scores["si_sdri"].mean == pytest.approx(4.0)
    assert summaries["micro", "mean of items"].scores["si_sdri"].mean == pytest.approx(5.0)
    degenerate = summaries["degenerate", "C"]
    assert set(degenerate.scores) == {"si_sdr"}
    assert "20.00 dB" in degenerate_line(degenerate)
    assert "not averaged" in degenerate_line(degenerate)


def test_only_degenerate_items_give_no_means() -> None:
    rows = [{**_row("0.wav", "C", 80.0, 20.0), "degenerate": True}]
    assert [s.kind for s in summarise(rows, FEW)] == ["degenerate"]


def test_items_without_a_score_stay_counted_and_are_listed() -> None:
    rows = [_row("a", "S", 0.0, 5.0, pesq=2.0, pesq_mixture=1.0, stoi=0.9, stoi_mixture=0.8)]
    rows += [_row("b", "S", 0.0, 7.0, pesq=math.nan, pesq_mixture=1.0, stoi=0.9, stoi_mixture=0.8, error="no speech")]
    summary = summarise(rows, FEW)[0]
    assert summary.n_items == 2
    assert summary.scores["pesq"].mean == 2.0
    assert summary.scores["pesq"].n == 1
    assert problems(rows) == ["S b: no speech"]
    assert summary_rows([summary])[0]["pesq_n"] == 1


def test_repetitions_are_left_out_and_variants_ordered() -> None:
    rows = [_row("b", "S", 0, 1), _row("a", "S", 0, 1), _row("b", "SER", 0, 1), _row("a", "S", 0, 9)]
    unique, n_repeated = unique_items(rows)
    assert [(row["variant"], row["id"]) for row in unique] == [("SER", "b"), ("S", "a"), ("S", "b")]
    assert unique[1]["si_sdr"] == 1
    assert n_repeated == 1


def test_slices_use_only_variants_that_hold_the_property() -> None:
    scene = {"scene_db": -8.0, "scene_class": "park", "event_db": 3.0, "indoor": True, "ssr_db": -1.0}
    rows = [_row("a", "SER", 0.0, 4.0, **scene), _row("a", "R", 0.0, 10.0, **scene)]
    rows += [{**_row("a", "C", 80.0, 20.0, **scene), "degenerate": True}]
    found = {(s.name, s.value): s for s in slices(rows, FEW)}
    minus = "\N{MINUS SIGN}"
    assert found["Place", "indoor"].n_items == 2
    assert found["Speech-to-speech ratio", f"{minus}1 to 1 dB"].scores["si_sdr"].mean == 7.0
    assert found["Scene level", f"{minus}10.5 to {minus}7 dB"].scores["si_sdr"].mean == 4.0
    assert found["Event level", "0 to 10 dB"].n_items == 1
    assert found["Scene class", "park"].n_items == 1
    assert not any(name == "Event class" for name, _ in found)


def test_a_silent_event_has_a_slice_of_its_own() -> None:
    found = slices([_row("a", "E", 0.0, 1.0, event_db=-math.inf)], FEW)
    assert [s.value for s in found] == ["not a finite level"]


def test_table_shows_perceptual_columns_only_where_there_are_any() -> None:
    rows = [_row("a", "S", 0.0, 5.0)]
    assert summary_table(summarise(rows, FEW)).columns[-1] == "Improvement"
    rows[0] |= {"pesq": 2.0, "pesq_mixture": 1.5, "stoi": 0.9, "stoi_mixture": 0.8}
    table = summary_table(summarise(rows, FEW))
    assert table.columns[-2:] == ("PESQ", "STOI")
    assert table.rows[0].cells[-2].text == "1.50 → 2.00"
