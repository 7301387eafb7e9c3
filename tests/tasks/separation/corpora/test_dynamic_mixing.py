"""Dynamic mixing and speed perturbation, against the files read and mixed independently."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hydraudio.core.defects import or_raise
from hydraudio.tasks.separation.corpora.polsess import mm_ipc
from hydraudio.tasks.separation.corpora.polsess.datamodule import PolSESSDataModule
from hydraudio.tasks.separation.corpora.polsess.dataset import PolSESSDataset
from hydraudio.tasks.separation.corpora.polsess.dynamic_mixing import (
    MAX_PEAK,
    Mixer,
    MixingSettings,
    Remix,
    check_mixing,
    peak_gain,
    remixed_parts,
)
from hydraudio.tasks.separation.corpora.polsess.index import CorpusIndex, parse_index
from hydraudio.tasks.separation.corpora.polsess.layout import Levels
from hydraudio.tasks.separation.corpora.polsess.pack import pack_corpus
from hydraudio.tasks.separation.corpora.polsess.speed import Speed, change_speed, check_speed, excerpt_length

WET = {"sp1": "sp1_reverb", "sp2": "sp2_reverb", "event": "ev_reverb"}
KEYS = list(itertools.product(range(6), range(12)))


def training_set(root: Path, **options: Any) -> PolSESSDataset:
    made = PolSESSDataModule(root=str(root), **{"dynamic_mixing": {}, **options})
    made.setup("fit")
    return made.datasets["train"]


def rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


def db(first: np.ndarray, second: np.ndarray) -> float:
    return 20 * np.log10(rms(first) / rms(second))


def expected_parts(index: CorpusIndex, remix: Remix) -> dict[str, np.ndarray]:
    """All parts of a remix whose reverbs are files, in float64."""
    parts = {name: soundfile.read(index.path(*clip))[0] for name, clip in remix.clips.items()}
    gain = {"sp1": 1.0, "event": 1.0}
    gain["sp2"] = rms(parts["sp1"]) / rms(parts["sp2"]) * 10 ** (-remix.levels.ssr_db / 20)
    speech = parts["sp1"] + gain["sp2"] * parts["sp2"]
    gain["scene"] = rms(speech) / rms(parts["scene"]) * 10 ** (remix.levels.scene_db / 20)
    if remix.levels.event_db is not None:
        gain["event"] = rms(speech) / rms(parts["event"]) * 10 ** (remix.levels.event_db / 20)
    gain |= {wet: gain[dry] for dry, wet in WET.items()}
    return {name: gain[name] * part for name, part in parts.items()}


@pytest.mark.parametrize("problem", mm_ipc.PROBLEMS)
@pytest.mark.parametrize("event_db", [None, [-12, 2]])
def test_items_equal_files_mixed_by_hand(noisy_root: Path, problem: str, event_db: list[float] | None) -> None:
    dataset = training_set(noisy_root, problem=problem, dynamic_mixing={"event_db": event_db}, swap_talkers=0.5)
    seen = set()
    for key in KEYS:
        plan, item = dataset.plans(*key), dataset[key]
        indoor = bool(dataset.index.indoor[plan.row])
        parts = expected_parts(dataset.index, plan.remix)
        if plan.exchanged:
            parts |= {"sp1": parts["sp2"], "sp1_reverb": parts.get("sp2_reverb")}
        mixture = np.sum([parts[name] for name in mm_ipc.kept_parts(problem, plan.variant, indoor)], axis=0)
        targets = {"ES": [parts["sp1"]], "EB": [parts["sp1"] + parts["sp2"]], "SB": [parts["sp1"], parts["sp2"]]}[
            problem
        ]
        np.testing.assert_allclose(item["mixture"], mixture, atol=1e-6)
        np.testing.assert_allclose(item["target"], np.stack(targets), atol=1e-6)
        assert item["mixture"].shape == (800,)
        seen.add((indoor, item["variant"]))
    assert len(seen) == 9


def test_components_come_from_rows_that_fit(noisy_root: Path) -> None:
    dataset = training_set(noisy_root)
    index = dataset.index
    table = {(room, scene, event) for room, scene, event in zip(
        index.indoor.tolist(), index.scene_class.tolist(), index.event_class.tolist(), strict=True
    )}  # fmt: skip
    givers = {name: set() for name in ("sp1", "sp2", "scene", "event")}
    for key in KEYS:
        plan = dataset.plans(*key)
        clips, indoor = plan.remix.clips, bool(index.indoor[plan.row])
        scene, event = clips["scene"][0], clips["event"][0]
        assert bool(index.indoor[scene]) == bool(index.indoor[event]) == indoor
        assert (indoor, str(index.scene_class[scene]), str(index.event_class[event])) in table
        assert (
            index.sources[clips["sp1"][0], int(clips["sp1"][1] == "sp2")]
            != (index.sources[clips["sp2"][0], int(clips["sp2"][1] == "sp2")])
        )
        if indoor:  # each dry file comes with its own reverberation
            assert {clips[WET[name]] for name in WET} == {(clips[name][0], WET[clips[name][1]]) for name in WET}
        else:
            assert set(clips) == set(givers)
        for name, rows in givers.items():
            rows.add(clips[name][0])
    assert all(len(rows) == 12 for rows in givers.values())


def test_event_class_fits_the_scene_as_in_the_table(noisy_root: Path) -> None:
    index = or_raise(parse_index(noisy_root, "train"))
    scenes = np.array([f"scene {row % 4}" for row in range(12)])
    events = np.array([f"event {row % 6}" for row in range(12)])
    index = dataclasses.replace(index, scene_class=scenes, event_class=events)
    mixer = Mixer(index, np.arange(12), MixingSettings(), 0)
    table = set(zip(scenes.tolist(), events.tolist(), strict=True))
    drawn = set()
    for epoch, indoor in itertools.product(range(300), (True, False)):
        clips = mixer.draw(epoch, 0, indoor).clips
        drawn.add((str(scenes[clips["scene"][0]]), str(events[clips["event"][0]])))
    assert drawn == table


@pytest.mark.parametrize("distinct", ["talker", "file"])
def test_never_the_same_talker_or_recording(noisy_root: Path, distinct: str) -> None:
    index = or_raise(parse_index(noisy_root, "train"))
    # talkers 0 to 3 with three recordings each, every recording twice
    paths = [f"/corpus/{n % 4}/book/{n % 4}_book_{n % 12}.flac" for n in range(24)]
    index = dataclasses.replace(index, sources=np.array(paths).reshape(12, 2))
    mixer = Mixer(index, np.arange(12), MixingSettings(distinct=distinct), 0)
    pairs = set()
    for epoch in range(1500):
        clips = mixer.draw(epoch, 0, False).clips
        pairs.add(tuple(str(index.sources[clips[n][0], int(clips[n][1] == "sp2")]) for n in ("sp1", "sp2")))
    if distinct == "talker":
        assert all(first.split("/")[2] != second.split("/")[2] for first, second in pairs)
        assert len(pairs) == 12 * 9
    else:
        assert all(first != second for first, second in pairs)
        assert len(pairs) == 12 * 11


def test_one_talker_is_not_enough(noisy_root: Path) -> None:
    index = or_raise(parse_index(noisy_root, "train"))
    paths = np.array([f"/corpus/0/book/0_book_{n}.flac" for n in range(24)]).reshape(12, 2)
    index = dataclasses.replace(index, sources=paths)
    with pytest.raises(ValueError, match=r"at least two talkers.*distinct=file"):
        Mixer(index, np.arange(12), MixingSettings(), 0)
    Mixer(index, np.arange(12), MixingSettings(distinct="file"), 0)


def test_talkers_are_drawn_alike_often(noisy_root: Path) -> None:
    index = or_raise(parse_index(noisy_root, "train"))
    mixer = Mixer(index, np.arange(12), MixingSettings(reverb="new"), 0)
    drawn = [mixer.draw(epoch, 0, True).clips for epoch in range(4800)]
    for name in ("sp1", "sp2"):
        counts = np.unique(
            [2 * row + (part == "sp2") for row, part in (clips[name] for clips in drawn)], return_counts=True
        )[1]
        assert len(counts) == 24
        assert counts == pytest.approx(200, abs=60)  # more than four standard deviations


def test_levels_have_the_generators_distribution(noisy_root: Path) -> None:
    dataset = training_set(noisy_root, problem="SB", allowed_variants=["SR", "S"])
    ssr, scene = [], []
    for key in itertools.product(range(40), range(12)):
        plan = dataset.plans(*key)
        ssr.append(plan.remix.levels.ssr_db)
        scene.append(plan.remix.levels.scene_db)
        assert plan.remix.levels.event_db is None
    assert set(ssr) == set(range(-5, 6))
    assert min(scene) >= -14
    assert max(scene) <= 0
    assert np.quantile(scene, [0.25, 0.5, 0.75]) == pytest.approx([-10.5, -7, -3.5], abs=1)
    for key in KEYS[:24]:
        item, plan = dataset[key], dataset.plans(*key)
        assert db(item["target"][0], item["target"][1]) == pytest.approx(plan.remix.levels.ssr_db, abs=1e-3)
        if plan.variant == "S":
            rest = item["mixture"] - item["target"].sum(axis=0)
            assert db(rest, item["target"].sum(axis=0)) == pytest.approx(plan.remix.levels.scene_db, abs=1e-3)


def test_levels_can_be_set(noisy_root: Path) -> None:
    settings = {
        "ssr_db": [1.25, 1.5],
        "ssr_integer": False,
        "scene_db": [-3, -3],
        "event_db": [2, 4],
        "probability": 0.5,
    }
    dataset = training_set(noisy_root, dynamic_mixing=settings)
    plans = [dataset.plans(*key) for key in itertools.product(range(40), range(12))]
    levels = [plan.remix.levels for plan in plans if plan.remix]
    assert len(levels) / len(plans) == pytest.approx(0.5, abs=0.1)
    assert all(1.25 <= level.ssr_db <= 1.5 and level.scene_db == -3 and 2 <= level.event_db <= 4 for level in levels)
    assert len({level.ssr_db for level in levels}) == len(levels)
    for epoch, index in KEYS[:12]:
        if dataset.plans(epoch, index).remix is None:
            plain = training_set(noisy_root, dynamic_mixing=None, construction="auto")
            np.testing.assert_array_equal(dataset[epoch, index]["mixture"], plain[epoch, index]["mixture"])


EVERYTHING: dict[str, Any] = {
    "dynamic_mixing": {"reverb": "new", "event_db": [-12, 2]},
    "speed": [0.9, 1.1],
    "speed_noises": True,
    "segment_s": 0.05,
    "swap_talkers": 0.5,
    "gain_db": [-6, 3],
}


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["mixing", "everything"])
def test_items_depend_on_seed_epoch_and_index_only(noisy_root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    pack_corpus(noisy_root, tmp_path / "packed", 8000)
    first, packed = (training_set(root, **options) for root in (noisy_root, tmp_path / "packed"))
    wanted = {key: first[key] for key in KEYS}
    for key in np.random.default_rng(0).permutation(KEYS).tolist():
        item = packed[tuple(key)]
        for name, value in wanted[tuple(key)].items():
            assert np.array_equal(value, item[name]), name
    other = training_set(noisy_root, seed=1, **options)
    levels = [data.plans(*key).remix.levels.scene_db for key in KEYS for data in (first, other)]
    assert len(set(levels)) == len(levels)


def test_workers_mix_alike(noisy_root: Path) -> None:
    batches = []
    for num_workers in (0, 2):
        data = PolSESSDataModule(root=str(noisy_root), num_workers=num_workers, batch_size=5, **EVERYTHING)
        data.setup("fit")
        batches.append([batch["mixture"].numpy() for batch in data.train_dataloader()])
    assert len(batches[0]) == 3
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mixing_and_speed_leave_the_other_draws(noisy_root: Path) -> None:
    plain = training_set(noisy_root, dynamic_mixing=None, swap_talkers=0.5, gain_db=[-6, 3]).plans
    mixed = training_set(noisy_root, **{**EVERYTHING, "segment_s": 0.08}).plans
    for key in KEYS:
        for name in ("row", "variant", "exchanged", "gain"):
            assert getattr(plain(*key), name) == getattr(mixed(*key), name)


def test_items_do_not_clip(make_corpus) -> None:
    root = make_corpus(n_rows={"train": 6, "val": 1}, n_samples=400)
    for folder in ("clean", "scene"):
        for path in (root / "train" / folder).iterdir():
            signal, rate = soundfile.read(path)
            soundfile.write(path, signal / np.abs(signal).max() * 0.99, rate)
    dataset = training_set(root, problem="SB", allowed_variants=["S", "SR"])
    for key in itertools.product(range(5), range(6)):
        item, plan = dataset[key], dataset.plans(*key)
        assert np.abs(item["mixture"]).max() <= MAX_PEAK + 1e-6
        assert np.abs(item["target"]).max() <= MAX_PEAK + 1e-6
        assert db(item["target"][0], item["target"][1]) == pytest.approx(plan.remix.levels.ssr_db, abs=1e-3)
    peaks = [np.abs(dataset[key]["mixture"]).max() for key in itertools.product(range(5), range(6))]
    assert max(peaks) == pytest.approx(MAX_PEAK, abs=1e-5)
    assert peak_gain([np.array([0.1, -0.9]), np.array([0.2])]) == 1.0
    assert peak_gain([np.array([0.1, -2.0]), np.array([0.2])]) == MAX_PEAK / 2


def test_silent_talker_is_named(make_corpus) -> None:
    root = make_corpus(n_rows={"train": 2, "val": 1})
    index = or_raise(parse_index(root, "train"))
    for row, name in itertools.product(range(2), ("sp1", "sp2")):
        dither = np.random.default_rng(row).integers(-1, 2, 800) / 32768  # must not be blown up
        soundfile.write(index.path(row, name), dither, 8000)
    dataset = training_set(root)
    row, component = dataset.plans(0, 0).remix.clips["sp1"]
    with pytest.raises(ValueError, match=f"{index.path(row, component).name}: {component} is silent"):
        dataset[0, 0]


def impulse_clips(row: int, component: str) -> np.ndarray:
    """Talkers and event are one click each, at another time."""
    clip = np.zeros(8000, np.float32)
    clip[{"sp1": 100, "sp2": 200, "scene": 300, "event": 400}[component]] = 0.5
    return clip


def test_made_rooms() -> None:
    early_db, starts = [], []
    for seed in range(20):
        clips = {name: (0, name) for name in ("sp1", "sp2", "scene", "event")}
        remix = Remix(clips, Levels(0, -5, None), (seed,))
        parts = remixed_parts(remix, [*clips, *WET.values()], impulse_clips, 8000)
        again = remixed_parts(remix, ["ev_reverb"], impulse_clips, 8000)
        np.testing.assert_array_equal(parts["ev_reverb"], again["ev_reverb"])
        tails = []
        for name, wet in WET.items():
            click = int(np.argmax(parts[name]))
            tail = parts[wet][click:]
            assert np.abs(parts[wet][:click]).max() < 1e-5  # causal
            assert -14 < 10 * np.log10(np.sum(tail**2) / np.sum(parts[name] ** 2)) < -3
            starts.append(int(np.argmax(np.abs(tail) > 1e-5)))
            energy = np.cumsum(np.square(tail[::-1], dtype=np.float64))[::-1]
            tails.append(np.argmax(energy < 0.01 * energy[0]))  # 20 dB
        assert max(tails) < 1.6 * min(tails)  # one decay for all, drawn noise apart
        early_db.append(np.mean(tails) / 8000)
    assert 0.25 / 3 * 0.7 < min(early_db) < max(early_db) < 0.8 / 3 * 1.5
    assert max(early_db) > 1.5 * min(early_db)
    assert len(set(starts)) > 20  # pre-delays differ
    assert min(starts) >= 0.003 * 8000 - 1


def test_made_rooms_take_talkers_from_everywhere_and_need_no_reverb_files(make_corpus) -> None:
    root = make_corpus(n_rows={"train": 8, "val": 1})
    for folder in ("sp1_reverb", "sp2_reverb", "ev_reverb", "mix"):
        for path in (root / "train" / folder).iterdir():
            path.unlink()
    dataset = training_set(root, allowed_variants=["SER", "SE", "R"], dynamic_mixing={"reverb": "new"})
    rooms = set()
    for key in itertools.product(range(10), range(8)):
        plan = dataset.plans(*key)
        rooms.add((bool(dataset.index.indoor[plan.row]), bool(dataset.index.indoor[plan.remix.clips["sp1"][0]])))
        assert dataset[key]["mixture"].std() > 0
    assert len(rooms) == 4
    with pytest.raises(FileNotFoundError, match="sp1_reverb"):
        training_set(root, dynamic_mixing={"reverb": "redraw"})
    with pytest.raises(FileNotFoundError, match="mix"):
        training_set(root, dynamic_mixing={"reverb": "new", "probability": 0.5}, construction="subtract")


def test_ids_are_made_of_the_components(noisy_root: Path) -> None:
    dataset = training_set(noisy_root)
    for key in KEYS[:12]:
        clips = dataset.plans(*key).remix.clips
        names = [dataset.index.path(*clips[name]).stem for name in ("sp1", "sp2", "scene", "event")]
        assert dataset[key]["id"] == "-".join(names) + ".wav"
    assert dataset.items[0] == (dataset[0, 0]["id"], dataset[0, 0]["variant"])


@pytest.mark.parametrize("factor", [0.9, 0.937, 1.0, 1.08, 1.1])
def test_speed_moves_pitch_and_keeps_length(factor: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(20000) / 8000).astype(np.float32)
    changed = change_speed(tone[: excerpt_length(8000, factor)], factor, 8000)
    assert changed.shape == (8000,)
    assert changed.dtype == np.float32
    expected = np.sin(2 * np.pi * 440 * factor * np.arange(8000) / 8000)
    np.testing.assert_allclose(changed[400:-400], expected[400:-400], atol=2e-3)


@pytest.mark.parametrize("noises", [False, True])
def test_speed_of_items(noisy_root: Path, noises: bool) -> None:
    options = {"dynamic_mixing": None, "speed": [0.9, 1.1], "speed_noises": noises, "segment_s": 0.08, "problem": "SB"}
    dataset = training_set(noisy_root, **options)
    factors = set()
    for key in KEYS:
        plan, item = dataset.plans(*key), dataset[key]
        indoor, speeds = bool(dataset.index.indoor[plan.row]), plan.speeds
        parts = {}
        for name in mm_ipc.kept_parts("SB", plan.variant, indoor):
            clip, _ = soundfile.read(dataset.index.path(plan.row, name), dtype="float32")
            factor = speeds.get(name, 1.0)
            n_samples = excerpt_length(640, factor)
            start = plan.starts[0]
            assert start + n_samples <= 800
            parts[name] = change_speed(clip[start : start + n_samples], factor, 640)
        np.testing.assert_allclose(item["mixture"], sum(parts.values()), atol=1e-6)
        np.testing.assert_allclose(item["target"], [parts["sp1"], parts["sp2"]], atol=1e-6)
        assert speeds["sp1"] == speeds["sp1_reverb"]
        assert speeds["sp2"] == speeds["sp2_reverb"]
        assert ("scene" in speeds, "event" in speeds, "ev_reverb" in speeds) == (noises,) * 3
        factors |= {speeds["sp1"], speeds["sp2"]}
    assert len(factors) > 80
    assert 0.9 <= min(factors) < 0.91
    assert 1.09 < max(factors) <= 1.1


def test_speed_needs_room_for_longer_excerpts(noisy_root: Path) -> None:
    for segment_s in (None, 0.095):
        with pytest.raises(ValueError, match=r"speed up to 1\.1.*data\.segment_s to at most 0\.09"):
            training_set(noisy_root, speed=[0.9, 1.1], segment_s=segment_s)
    assert len(training_set(noisy_root, speed=[0.9, 1.1], segment_s=0.09)[0, 0]["mixture"]) == 720
    assert len(training_set(noisy_root, speed=[0.9, 1.0])[0, 0]["mixture"]) == 800


def test_starts_reach_the_end_of_the_clip(noisy_root: Path) -> None:
    plans = training_set(noisy_root, speed=[0.9, 1.1], segment_s=0.05).plans
    assert plans.last_start == 800 - excerpt_length(400, 1.1)
    assert Speed(0.8, 0.9).longest_excerpt(400) == 400  # scene and event keep their speed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reverbs": "new"}, "dynamic_mixing.reverbs: no such setting .did you mean 'reverb'"),
        ({"reverb": "fresh"}, "'fresh' is unknown; choose one of redraw, new"),
        ({"distinct": "voice"}, "'voice' is unknown; choose one of talker, file"),
        ({"probability": 0.0}, "dynamic_mixing=null turns it off"),
        ({"ssr_db": [5, -5]}, "ssr_db=.* must be"),
        ({"ssr_db": None}, "ssr_db=null must be"),
        ({"ssr_db": [-2.5, 2.5]}, "whole decibels.*ssr_integer=false"),
        ({"scene_db": [-14]}, "scene_db=.* must be"),
        ({"event_db": [float("nan"), 0]}, "event_db=.* must be"),
    ],
)
def test_bad_mixing_settings(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_mixing(options)


def test_bad_speeds() -> None:
    for limits in ([1.1, 0.9], [0.1, 1.0], [0.9, 3.0], [1.0]):
        with pytest.raises(ValueError, match="lowest, highest"):
            check_speed(limits, False)
    with pytest.raises(ValueError, match="changes nothing"):
        check_speed(None, True)
    assert check_mixing(None) is check_speed(None, False) is None
