"""Variant algebra against the tables of the PolSESS description."""

from __future__ import annotations

import numpy as np
import pytest

from hydraudio.tasks.separation.corpora.polsess import mm_ipc

VALUES = {
    "sp1": 0.05,
    "sp2": 0.06,
    "scene": 0.07,
    "event": 0.08,
    "sp1_reverb": 0.01,
    "sp2_reverb": 0.02,
    "ev_reverb": 0.03,
}
MIX = {True: 0.32, False: 0.26}
ROOMS = [(True, name) for name in ("SER", "SR", "ER", "R", "C")]
ROOMS += [(False, name) for name in ("SE", "S", "E", "C")]
INPUTS = {
    "ES": (0.24, 0.13, 0.17, 0.06, 0.05, 0.20, 0.12, 0.13, 0.05),
    "EB": (0.32, 0.21, 0.25, 0.14, 0.11, 0.26, 0.18, 0.19, 0.11),
    "SB": (0.32, 0.21, 0.25, 0.14, 0.11, 0.26, 0.18, 0.19, 0.11),
}
TARGETS = {"ES": [0.05], "EB": [0.11], "SB": [0.05, 0.06]}
ES_FILES = {"subtract": (4, 6, 5, 7, 8, 3, 4, 4, 5), "add": (5, 3, 4, 2, 1, 3, 2, 2, 1)}
BOTH_FILES = {"subtract": (3, 5, 4, 6, 8, 3, 4, 4, 5), "add": (7, 5, 6, 4, 2, 4, 3, 3, 2)}
FILES = {"ES": ES_FILES, "EB": BOTH_FILES, "SB": BOTH_FILES}
CASES = [(problem, indoor, variant, position) for problem in INPUTS for position, (indoor, variant) in enumerate(ROOMS)]


@pytest.mark.parametrize(("problem", "indoor", "variant", "position"), CASES)
@pytest.mark.parametrize("construction", ["subtract", "add", "auto"])
def test_oracle_table(problem: str, indoor: bool, variant: str, position: int, construction: str) -> None:
    recipe = mm_ipc.recipe(problem, variant, indoor, construction)
    values = VALUES | {"mix": MIX[indoor]}
    mixture = sum(sign * values[name] for name, sign in recipe.mixture)
    targets = [sum(values[name] for name in names) for names in recipe.targets]
    assert mixture == pytest.approx(INPUTS[problem][position], abs=1e-9)
    assert targets == pytest.approx(TARGETS[problem], abs=1e-9)


@pytest.mark.parametrize(("problem", "indoor", "variant", "position"), CASES)
def test_number_of_files(problem: str, indoor: bool, variant: str, position: int) -> None:
    # the original always reads speaker 2 as well; for these variants it has to be subtracted in any case
    counts = {name: len(mm_ipc.recipe(problem, variant, indoor, name).files) for name in ("subtract", "add", "auto")}
    assert counts["subtract"] == FILES[problem]["subtract"][position]
    assert counts["add"] == FILES[problem]["add"][position]
    assert counts["auto"] == min(counts["subtract"], counts["add"])


def test_fields_of_some_recipes() -> None:
    assert set(mm_ipc.recipe("ES", "SER", True).files) == {"mix", "sp1", "sp2", "sp2_reverb"}
    assert set(mm_ipc.recipe("ES", "R", True).files) == {"sp1", "sp1_reverb"}
    assert set(mm_ipc.recipe("SB", "SER", True).files) == {"mix", "sp1", "sp2"}
    assert set(mm_ipc.recipe("EB", "R", True).files) == {"sp1", "sp2", "sp1_reverb", "sp2_reverb"}
    assert mm_ipc.recipe("ES", "C", False).files == ("sp1",)
    assert "ev_reverb" not in mm_ipc.kept_parts("SB", "R", True)
    assert "ev_reverb" in mm_ipc.kept_parts("ES", "ER", True)


@pytest.mark.parametrize("construction", ["subtract", "add"])
@pytest.mark.parametrize(("indoor", "variant"), ROOMS)
def test_exchange_is_a_relabelling(indoor: bool, variant: str, construction: str) -> None:
    relabelled = VALUES | {"mix": MIX[indoor]}
    for first, second in (("sp1", "sp2"), ("sp1_reverb", "sp2_reverb")):
        relabelled[first], relabelled[second] = VALUES[second], VALUES[first]
    plain = mm_ipc.recipe("ES", variant, indoor, construction)
    exchanged = mm_ipc.recipe("ES", variant, indoor, construction, exchanged=True)
    values = VALUES | {"mix": MIX[indoor]}
    expected = sum(sign * relabelled[name] for name, sign in plain.mixture)
    assert sum(sign * values[name] for name, sign in exchanged.mixture) == pytest.approx(expected)
    assert exchanged.targets == (("sp2",),)


def test_degenerate_cases() -> None:
    degenerate = {
        (problem, name)
        for problem in mm_ipc.PROBLEMS
        for name in mm_ipc.VARIANTS
        if mm_ipc.is_degenerate(problem, name)
    }
    assert degenerate == {("ES", "C"), ("EB", "C")}


def test_compatible_variants() -> None:
    assert mm_ipc.compatible_variants(True) == ("SER", "SR", "ER", "R", "C")
    assert mm_ipc.compatible_variants(False) == ("SE", "S", "E", "C")
    assert mm_ipc.compatible_variants(True, ["SE", "C", "R"]) == ("R", "C")
    assert mm_ipc.compatible_variants(False, ["SER"]) == ()


def test_weights_give_the_frequencies() -> None:
    variants = mm_ipc.compatible_variants(True)
    probabilities = mm_ipc.sampling_weights(variants, {"SER": 4.0, "C": 0.0})
    assert probabilities == pytest.approx([4 / 7, 1 / 7, 1 / 7, 1 / 7, 0])
    draws = [mm_ipc.pick_variant(variants, probabilities, u) for u in np.linspace(0, 1, 7000, endpoint=False)]
    assert draws.count("SER") == pytest.approx(4000, abs=2)
    assert draws.count("C") == 0
    assert mm_ipc.pick_variant(variants, probabilities, np.nextafter(1.0, 0.0)) != "C"


def test_stable_variant_moves_only_what_it_must() -> None:
    names = [f"clip{number}.wav" for number in range(2000)]
    all_variants, fewer = mm_ipc.INDOOR_VARIANTS, ("SER", "SR", "ER", "C")
    before = {name: mm_ipc.stable_variant(name, all_variants) for name in names}
    after = {name: mm_ipc.stable_variant(name, fewer) for name in names}
    assert all(after[name] == before[name] for name in names if before[name] != "R")
    counts = [list(before.values()).count(variant) for variant in all_variants]
    assert min(counts) > 330  # 400 expected, standard deviation 18


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mm_ipc.check_variants(["SRE"], "allowed_variants"), "did you mean 'SER'"),
        (lambda: mm_ipc.check_variants(["ser"], "val_variants"), "val_variants.*did you mean 'SER'"),
        (lambda: mm_ipc.check_variants([], "allowed_variants"), "empty"),
        (lambda: mm_ipc.check_problem("SE"), "did you mean 'ES'"),
        (lambda: mm_ipc.check_problem("XB"), "choose one of ES, EB, SB"),
        (lambda: mm_ipc.recipe("ES", "SE", True), "does not fit an indoor row"),
    ],
)
def test_errors_name_the_remedy(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
