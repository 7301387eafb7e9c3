"""The corpus builder, through its core and through its command line."""

from __future__ import annotations

import csv
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.audio.io import write_audio
from hydraudio.sounds.events import make_event
from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.scenes import make_scene
from hydraudio.sounds.talkers import make_talker
from hydraudio.tasks.separation.corpora.polsess.builder.build import JOURNAL, build_corpus
from hydraudio.tasks.separation.corpora.polsess.builder.plan import BuildConfig
from hydraudio.tasks.separation.corpora.polsess.layout import COLUMN_OF, COLUMNS, FOLDER_OF, REVERB_COLUMNS, csv_path

FOLDERS = {column: FOLDER_OF[component] for component, column in COLUMN_OF.items()}

SCRIPT = Path(__file__).parents[4] / "scripts" / "separation" / "build_polsess.py"
REAL_AUDIO = Path(__file__).parents[5] / "shared" / "audio"
N_TALKERS = 8


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _write(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, waveform, sample_rate)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Eight talkers (two may be one person), two scene classes and three event classes, at odd sample rates."""
    folder = tmp_path_factory.mktemp("sources")
    names = ["role1", "role2", *(f"reader{number}" for number in range(N_TALKERS - 2))]
    for index, name in enumerate(names):
        for number in range(3):
            utterance = 0.05 * speak(make_talker(index, 0), 11_025, 11_025, _rng(10 * index + number))
            _write(folder / "speech" / name / f"{number}.flac", utterance, 11_025)
    for place, scene_class in (("indoor", "kitchen"), ("outdoor", "traffic")):
        for number in range(3):
            scene = make_scene(scene_class, 20_000, 16_000, _rng(number))
            _write(folder / "scene" / place / scene_class / f"{number}.wav", scene, 16_000)
    for event_class in ("door", "bell", "dog"):
        for number in range(3):
            event = make_event(event_class, 16_000, _rng(number))
            _write(folder / "event" / event_class / f"{number}.wav", event, 16_000)
    return folder


@pytest.fixture
def config(sources) -> BuildConfig:
    return BuildConfig(
        speech=sources / "speech",
        scenes=sources / "scene",
        events=sources / "event",
        rows={"train": 6, "val": 2, "test": 2},
        duration_s=1.0,
        room="synthetic",
        fractions={"train": 0.5, "val": 0.25, "test": 0.25},
    )


def _rows(root: Path, subset: str) -> list[dict[str, str]]:
    with csv_path(root, subset).open(newline="") as file:
        return list(csv.DictReader(file))


def _all_rows(root: Path) -> list[dict[str, str]]:
    return [
        row for subset in ("train", "val", "test") if csv_path(root, subset).exists() for row in _rows(root, subset)
    ]


def _talkers(row: dict[str, str]) -> list[str]:
    return [Path(row[f"speech{number}OryginalPath"].split("+")[0]).parent.name for number in (1, 2)]


def _codes(root: Path, row: dict[str, str], sample_rate: int = 8000) -> dict[str, np.ndarray]:
    read = {}
    for column, folder in FOLDERS.items():
        if row[column]:
            codes, file_rate = soundfile.read(root / row["subset"] / folder / row[column], dtype="int16")
            assert file_rate == sample_rate
            read[column] = codes.astype(np.float64)
    return read


def _level_db(first: np.ndarray, second: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second)))


def _check_rows(root: Path, sample_rate: int = 8000) -> None:
    for row in _all_rows(root):
        codes = _codes(root, row, sample_rate)
        mix = codes.pop("mixFile")
        np.testing.assert_array_equal(mix, sum(codes.values()))
        speech = codes["speaker1File"] + codes["speaker2File"]
        assert _level_db(codes["speaker1File"], codes["speaker2File"]) == pytest.approx(int(row["SSR"]), abs=0.05)
        assert _level_db(codes["sceneFile"], speech) == pytest.approx(float(row["sceneOffsetDB"]), abs=0.05)
        assert len(set(_talkers(row))) == 2
        numbers = {row[column] == "NaN" for column in REVERB_COLUMNS}
        assert numbers == {not row["reverbForSpeaker1"]}


def _digest(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_rows_are_as_the_table_says(config, tmp_path):
    root = build_corpus(config, tmp_path / "corpus")
    _check_rows(root)
    assert tuple(_rows(root, "train")[0]) == COLUMNS
    assert [len(_rows(root, subset)) for subset in ("train", "val", "test")] == [6, 2, 2]
    assert sum(bool(row["reverbForSpeaker1"]) for row in _rows(root, "train")) == 3
    assert {soundfile.info(path).frames for path in root.rglob("*.wav")} == {8000}


def test_nothing_is_shared_between_subsets(config, tmp_path):
    root = build_corpus(replace(config, rows={"train": 12, "val": 8, "test": 8}), tmp_path / "corpus")
    for field in ("talker", "scene", "event"):
        used = {}
        for subset in ("train", "val", "test"):
            rows = _rows(root, subset)
            if field == "talker":
                used[subset] = {talker for row in rows for talker in _talkers(row)}
            else:
                used[subset] = {row[f"{field}OryginalPath"] for row in rows}
        assert not used["train"] & used["val"]
        assert not used["train"] & used["test"]
        assert not used["val"] & used["test"]


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(config, tmp_path):
    one = build_corpus(config, tmp_path / "one" / "corpus", n_processes=1)
    two = build_corpus(config, tmp_path / "two" / "corpus", n_processes=2)
    assert _digest(one) == _digest(two)
    other = build_corpus(replace(config, seed=1), tmp_path / "other" / "corpus")
    assert not set(_digest(one)) >= {name for name in _digest(other) if "/mix/" in name}


def test_deleted_and_damaged_files_are_made_again(config, tmp_path):
    root = build_corpus(config, tmp_path / "corpus")
    before = _digest(root)
    rows = _rows(root, "train")
    (root / "train" / "mix" / rows[0]["mixFile"]).unlink()
    damaged = root / "train" / "clean" / rows[1]["speaker2File"]
    damaged.write_bytes(damaged.read_bytes()[:5000])
    silent = root / "train" / "scene" / rows[2]["sceneFile"]
    soundfile.write(silent, np.zeros(8000), 8000)
    csv_path(root, "val").unlink()
    untouched = root / "train" / "mix" / rows[3]["mixFile"]
    stamp = untouched.stat().st_mtime_ns
    done = []
    build_corpus(config, root, progress=lambda n_done, n_all: done.append((n_done, n_all)))
    assert _digest(root) == before
    assert untouched.stat().st_mtime_ns == stamp
    assert done == [(8, 10), (9, 10), (10, 10)]


class _Killed(Exception):
    pass


def test_a_killed_build_continues_to_the_same_bits(config, tmp_path):
    whole = _digest(build_corpus(config, tmp_path / "whole" / "corpus"))
    root = tmp_path / "killed" / "corpus"

    def kill(n_done: int, n_all: int) -> None:
        if n_done == 4:
            raise _Killed

    with pytest.raises(_Killed):
        build_corpus(config, root, n_processes=1, progress=kill)
    with (root / JOURNAL).open("a") as journal:
        journal.write('{"subset": "train", "row": 4, "colu')  # the kill came in the middle of a line
    done = []
    build_corpus(config, root, progress=lambda n_done, n_all: done.append(n_done))
    assert done == [5, 6, 7, 8, 9, 10]
    assert _digest(root) == whole


def test_an_existing_root_with_other_arguments_is_refused(config, tmp_path):
    root = build_corpus(config, tmp_path / "corpus")
    with pytest.raises(ValueError, match="corpus was built differently: seed 0 -> 7"):
        build_corpus(replace(config, seed=7), root)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="foreign is not empty and was not built by this builder"):
        build_corpus(config, foreign)


def test_talkers_who_may_be_one_person_are_never_paired(config, tmp_path):
    two_roles = {"train": ("role1", "role2", "reader0"), "val": ("reader1", "reader2"), "test": ("reader3", "reader4")}
    config = replace(config, talkers=two_roles, never_pair_prefixes=("role",), rows={"train": 16})
    root = build_corpus(config, tmp_path / "corpus")
    assert all("reader0" in _talkers(row) for row in _rows(root, "train"))
    only_roles = {"train": ("role1", "role2"), "val": (), "test": ()}
    with pytest.raises(ValueError, match=r"subset train has 2 talkers \(role1, role2\) with 1 distinct voices"):
        build_corpus(replace(config, talkers=only_roles), tmp_path / "other")


def test_split_file_without_test_talkers_takes_some_of_val(config, sources, tmp_path):
    split_file = tmp_path / "manifest.csv"
    lines = [f"speech,reader{number},{'train' if number < 2 else 'val'}" for number in range(6)]
    split_file.write_text("\n".join(["kind,name,split", *lines, "scene,kitchen,"]) + "\n")
    config = replace(config, split_file=split_file, rows={"train": 4, "val": 6, "test": 6})
    root = build_corpus(config, tmp_path / "corpus")
    val, test = ({talker for row in _rows(root, subset) for talker in _talkers(row)} for subset in ("val", "test"))
    assert len(val) == len(test) == 2
    assert val | test == {"reader2", "reader3", "reader4", "reader5"}
    assert {talker for row in _rows(root, "train") for talker in _talkers(row)} == {"reader0", "reader1"}


def test_file_level_split_shares_talkers_but_no_files(config, tmp_path):
    root = build_corpus(replace(config, split="file", rows={"train": 16, "val": 8, "test": 8}), tmp_path / "corpus")
    used, talkers = {}, {}
    for subset in ("train", "val", "test"):
        rows = _rows(root, subset)
        talkers[subset] = {talker for row in rows for talker in _talkers(row)}
        used[subset] = {
            f"{Path(row[column]).parent}/{name}"
            for row in rows
            for column in ("speech1OryginalPath", "speech2OryginalPath")
            for name in Path(row[column]).name.split("+")
        }
    assert talkers["train"] & talkers["val"]
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]


def test_match_file_decides_which_events_occur(config, tmp_path):
    match = tmp_path / "match.csv"
    match.write_text("scene,door,bell,dog\nkitchen,1,1,0\ntraffic,0,0,1\n")
    root = build_corpus(replace(config, match=match, rows={"train": 16}), tmp_path / "corpus")
    pairs = {(row["sceneClass"], row["eventClass"]) for row in _rows(root, "train")}
    assert pairs == {("kitchen", "door"), ("kitchen", "bell"), ("traffic", "dog")}
    match.write_text("scene,door,bell,dog\nkitchen,1,1,0\ntraffic,0,0,0\n")
    with pytest.raises(ValueError, match=r"match\.csv: no event class of train fits the scene class 'traffic'"):
        build_corpus(replace(config, match=match), tmp_path / "other")
    match.write_text("scene,door,bell,dog\nkitchen,1,1,0\n")
    with pytest.raises(ValueError, match="no line for the scene class 'traffic'"):
        build_corpus(replace(config, match=match), tmp_path / "other")


def test_event_level_range_and_natural_level(config, tmp_path):
    ranged = build_corpus(replace(config, event_db=(-6.0, -4.0)), tmp_path / "ranged")
    for row in _all_rows(ranged):
        codes = _codes(ranged, row)
        assert -6.05 < _level_db(codes["eventFile"], codes["speaker1File"] + codes["speaker2File"]) < -3.95
    natural = build_corpus(replace(config, event_db=None), tmp_path / "natural")
    peaks = [np.abs(_codes(natural, row)["eventFile"]).max() / 32768 for row in _all_rows(natural)]
    assert max(peaks) == pytest.approx(0.5, abs=0.05)  # the fixture's events peak at 0.5


def test_only_outdoors(config, sources, tmp_path):
    root = build_corpus(replace(config, indoor=0.0, rows={"train": 3}), tmp_path / "corpus")
    assert not any(row["reverbForSpeaker1"] for row in _rows(root, "train"))
    with pytest.raises(FileNotFoundError, match=r"indoor: no such folder.*set the indoor share to 0"):
        build_corpus(replace(config, scenes=sources / "event"), tmp_path / "other")


def test_silent_recordings_are_named_before_any_row_is_made(config, sources, tmp_path):
    copies = tmp_path / "sources"
    shutil.copytree(sources, copies)
    mute = [copies / "scene" / "outdoor" / "traffic" / "1.wav", copies / "event" / "bell" / "2.wav"]
    for path in mute:
        _write(path, np.zeros(20_000, np.float32), 16_000)
    root = tmp_path / "corpus"
    with pytest.raises(ValueError, match="silent throughout") as raised:
        build_corpus(replace(config, scenes=copies / "scene", events=copies / "event"), root)
    assert all(str(path) in str(raised.value) for path in mute)
    assert not root.exists()


def test_too_few_talkers_for_the_split(config, tmp_path):
    config = replace(config, fractions={"train": 0.9, "val": 0.05, "test": 0.05})
    with pytest.raises(ValueError, match=r"subset val has [01] talkers.*give it more talkers"):
        build_corpus(config, tmp_path / "corpus")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"room": "hall"}, "room is 'hall'; choose from pyroomacoustics, synthetic"),
        ({"split": "person"}, "split is 'person'"),
        ({"ssr_db": (5, -5)}, r"ssr_db is \(5, -5\)"),
        ({"rows": {"train": 0}}, "rows is"),
        ({"rows": {"dev": 3}}, "rows is"),
        ({"indoor": 2.0}, "indoor is 2.0"),
        ({"rt60_s": (0.0, 1.0)}, "rt60_s"),
        ({"distance_m": (2.0, 3.0)}, "distance_m"),
        ({"duration_s": 0.1}, "0.1 s"),
        ({"talkers": {}, "split_file": Path("x.csv")}, "give one of them"),
        ({"talkers": {}, "split": "file"}, "file-level split"),
    ],
)
def test_impossible_arguments_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **changes)


def _run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _source_arguments(sources: Path) -> list[object]:
    return ["--speech", sources / "speech", "--scenes", sources / "scene", "--events", sources / "event"]


@pytest.mark.slow
def test_command_line_with_room_simulation(sources, tmp_path):
    pytest.importorskip("pyroomacoustics")
    root = tmp_path / "corpus"
    finished = _run(
        *_source_arguments(sources), "--output", root, "--rows", "train=4", "--sample-rate", 16000, "--duration", 1,
        "--rt60", 0.2, 0.22, "--ssr", -2, 2, "--scene-db", -9, -8, "--seed", 3, "--processes", 2,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert f"{root}: train 4 rows at 16000 Hz" in finished.stdout
    _check_rows(root, 16000)
    for row in _rows(root, "train"):
        assert -2 <= int(row["SSR"]) <= 2
        assert -9 <= float(row["sceneOffsetDB"]) <= -8
        assert 0 <= float(row["sceneRandomDB"]) <= 1


@pytest.mark.slow
def test_command_line_errors_are_one_line(sources, tmp_path):
    missing = _run(*_source_arguments(tmp_path), "--output", tmp_path / "corpus", "--rows", "train=4")
    assert missing.returncode == 1
    assert missing.stderr.strip() == f"error: {tmp_path / 'speech'}: no such folder; check the path"
    wrong = _run(*_source_arguments(sources), "--output", tmp_path / "corpus", "--rows", "train=many")
    assert wrong.returncode == 1
    assert "error: --rows train=many: invalid literal" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def _wait_until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    stop_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < stop_s
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the worker processes in /proc")
def test_kill_9_leaves_no_processes_and_the_same_command_continues(sources, tmp_path):
    def arguments(root: Path) -> list[object]:
        common = ["--rows", "train=60", "--room", "synthetic", "--processes", 2]
        return [*_source_arguments(sources), "--output", root, *common]

    whole = tmp_path / "whole" / "corpus"
    assert _run(*arguments(whole)).returncode == 0
    root = tmp_path / "killed" / "corpus"
    command = [sys.executable, str(SCRIPT), *map(str, arguments(root))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        journal = root / JOURNAL
        _wait_until(lambda: journal.exists() and journal.read_text().count("\n") > 8)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    n_finished = journal.read_text().count("\n") - 1
    assert 0 < n_finished < 60
    assert len(children) >= 2
    _wait_until(lambda: not any(_is_running(child) for child in children))
    assert _run(*arguments(root)).returncode == 0
    assert _digest(root) == _digest(whole)


def _is_running(process_id: str) -> bool:
    stat = Path(f"/proc/{process_id}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not REAL_AUDIO.is_dir(), reason="the development recordings are not here")
def test_real_recordings(tmp_path):
    config = BuildConfig(
        speech=REAL_AUDIO / "speech",
        scenes=REAL_AUDIO / "scene",
        events=REAL_AUDIO / "event",
        rows={"train": 10, "val": 4, "test": 4},
        split_file=REAL_AUDIO / "manifest.csv",
        never_pair_prefixes=("bass", "fotaq"),
        room="synthetic",
    )
    root = build_corpus(config, tmp_path / "corpus")
    _check_rows(root)
    for row in _all_rows(root):
        first, second = _talkers(row)
        assert not any(first.startswith(prefix) and second.startswith(prefix) for prefix in ("bass", "fotaq"))
