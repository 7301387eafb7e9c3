"""Layout and arithmetic of the corpus against independent figures."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from hydraudio.sounds.rooms import draw_room
from hydraudio.tasks.separation.corpora.polsess.layout import (
    COLUMNS,
    Levels,
    csv_path,
    decay_factor,
    draw_file_names,
    format_csv,
    name_parts,
    quantise,
    reverb_columns,
    set_levels,
)

HEADER = (
    "subset speech1OryginalPath speech1Start speech1End speech2OryginalPath speech2Start speech2End SSR "
    "sceneOryginalPath sceneStart sceneEnd sceneRandomDB sceneOffsetDB sceneVolumeGain eventOryginalPath "
    "eventStart eventEnd speaker1File speaker2File eventFile sceneFile reverbForSpeaker1 reverbForSpeaker2 "
    "reverbForEvent mixFile sceneClass eventClass preDelayForEvent preDelay1 preDelay2 highCut diffusion decay "
    "freqDamp"
)


def _parts(indoor: bool, scale: float = 0.05) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return name_parts(*(scale * rng.standard_normal((7 if indoor else 4, 4000))))


def _db(first: np.ndarray, second: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second)))


def test_columns_are_the_34_of_the_corpus():
    assert list(COLUMNS) == HEADER.split()
    assert len(COLUMNS) == 34


def test_csv_name_carries_the_name_of_the_root(tmp_path):
    assert csv_path(tmp_path / "PolSESS_C_in", "val").relative_to(tmp_path).as_posix() == (
        "PolSESS_C_in/val/corpus_PolSESS_C_in_val_final.csv"
    )


def test_csv_writes_nan_and_empty_fields_as_matlab_does():
    row = dict.fromkeys(COLUMNS, "") | {"SSR": -3, "decay": float("nan"), "sceneOffsetDB": -7.25}
    (parsed,) = csv.DictReader(io.StringIO(format_csv([row])))
    assert (parsed["SSR"], parsed["decay"], parsed["sceneOffsetDB"], parsed["mixFile"]) == ("-3", "NaN", "-7.25", "")


def test_csv_refuses_rows_with_wrong_columns():
    with pytest.raises(ValueError, match=r"missing.*mixFile.*unknown.*mix_file"):
        format_csv([{column: "" for column in COLUMNS if column != "mixFile"} | {"mix_file": ""}])


@pytest.mark.parametrize("indoor", [True, False])
def test_file_names(indoor):
    names = draw_file_names(np.random.default_rng(0), indoor=indoor)
    word = "[a-z0-9]{16}"
    assert re.fullmatch(f"{word}\\.wav", names["speaker1File"])
    parts = names["mixFile"].removesuffix(".wav").split("-")
    columns = ("speaker1File", "speaker2File", "sceneFile", "eventFile")
    assert parts[:4] == [names[column].removesuffix(".wav") for column in columns]
    reverbs = [names[f"reverbFor{which}"] for which in ("Speaker1", "Speaker2", "Event")]
    if indoor:
        assert reverbs == [f"sp1_{parts[4]}.wav", f"sp2_{parts[4]}.wav", f"ev_{parts[4]}.wav"]
        assert re.fullmatch(word, parts[4])
    else:
        assert reverbs == ["", "", ""]
        assert len(parts) == 4


@pytest.mark.parametrize("indoor", [True, False])
def test_levels_are_set_as_asked(indoor):
    parts = _parts(indoor)
    scaled, scene_gain = set_levels(parts, Levels(ssr_db=-4, scene_db=-9.5, event_db=-3.0))
    speech = scaled["sp1"] + scaled["sp2"]
    assert _db(scaled["sp1"], scaled["sp2"]) == pytest.approx(-4)
    assert _db(scaled["scene"], speech) == pytest.approx(-9.5)
    assert _db(scaled["event"], speech) == pytest.approx(-3.0)
    np.testing.assert_allclose(scaled["scene"], scene_gain * parts["scene"])
    if indoor:
        # a reverb keeps its relation to its dry signal
        assert _db(scaled["sp2_reverb"], scaled["sp2"]) == pytest.approx(_db(parts["sp2_reverb"], parts["sp2"]))
        assert _db(scaled["ev_reverb"], scaled["event"]) == pytest.approx(_db(parts["ev_reverb"], parts["event"]))


def test_natural_event_level_is_kept():
    parts = _parts(indoor=False, scale=0.02)
    scaled, _ = set_levels(parts, Levels(ssr_db=0, scene_db=-9.0, event_db=None))
    np.testing.assert_array_equal(scaled["event"], parts["event"])


def test_loud_rows_are_turned_down_with_all_ratios_kept():
    parts = _parts(indoor=True, scale=0.8)
    scaled, scene_gain = set_levels(parts, Levels(ssr_db=5, scene_db=0.0, event_db=0.0))
    assert max(np.abs(code.astype(int)).max() for code in quantise(scaled).values()) <= 0.9999 * 32768
    assert _db(scaled["sp1"], scaled["sp2"]) == pytest.approx(5)
    np.testing.assert_allclose(scaled["scene"], scene_gain * parts["scene"])


@pytest.mark.parametrize("indoor", [True, False])
def test_the_mix_is_the_exact_integer_sum(indoor):
    codes = quantise(_parts(indoor))
    mix = codes.pop("mix")
    assert len(codes) == (7 if indoor else 4)
    assert {code.dtype for code in codes.values()} == {np.dtype(np.int16)}
    np.testing.assert_array_equal(mix.astype(int), sum(code.astype(int) for code in codes.values()))


def test_quantise_refuses_to_overflow():
    with pytest.raises(ValueError, match="full scale"):
        quantise(_parts(indoor=False, scale=2.0))


def test_a_silent_part_is_named():
    rng = np.random.default_rng(0)
    speech1, speech2, event = rng.standard_normal((3, 100))
    with pytest.raises(ValueError, match="scene is silent"):
        set_levels(name_parts(speech1, speech2, np.zeros(100), event), Levels(0, -7.0, None))


def test_decay_column_grows_with_the_reverberation_time():
    factors = [decay_factor(rt60_s) for rt60_s in (0.2, 0.5, 1.0, 3.0)]
    assert factors == sorted(factors)
    assert 0.0 < factors[0] < factors[-1] < 1.0


def test_drawn_rooms_fill_every_column():
    room = draw_room(8000, np.random.default_rng(3))
    columns = reverb_columns(room)
    assert all(np.isfinite(value) for value in columns.values())
    assert columns["preDelay2"] <= columns["preDelay1"]
    assert 0.0 < columns["highCut"] <= 4000.0
