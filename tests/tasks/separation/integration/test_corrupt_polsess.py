"""Broken corpora: the check lists the defect, and training stops with the same words."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.core.defects import Defect
from hydraudio.tasks.separation.corpora.polsess import layout as polsess_format
from hydraudio.tasks.separation.corpora.polsess.datamodule import PolSESSDataModule
from hydraudio.tasks.separation.corpora.polsess.pack import pack_corpus

FOLDERS = {column: polsess_format.FOLDER_OF[name] for name, column in polsess_format.COLUMN_OF.items()}

SAMPLE_RATE = 8000
REPOSITORY = Path(__file__).parents[4]


def write_corpus(root: Path) -> Path:
    """Four rows (two indoors) of noise per subset, without any defect."""
    rng = np.random.default_rng(0)
    for subset in ("train", "val", "test"):
        polsess_format.make_folders(root, subset)
        rows = []
        for number in range(4):
            indoor = number % 2 == 0
            names = polsess_format.draw_file_names(rng, indoor=indoor)
            signals = rng.uniform(-0.05, 0.05, (7 if indoor else 4, 400))
            parts = polsess_format.name_parts(*signals)
            polsess_format.write_row(root, subset, names, parts, SAMPLE_RATE)
            row = dict.fromkeys(polsess_format.COLUMNS, 1) | names
            for talker in (1, 2):
                row[f"speech{talker}OryginalPath"] = f"/speech/{subset}{number}{talker}/utterance.wav"
            rows.append(row)
        polsess_format.write_csv(polsess_format.csv_path(root, subset), rows)
    return root


def table(root: Path, subset: str = "train") -> Path:
    return polsess_format.csv_path(root, subset)


@contextmanager
def edit(root: Path, subset: str = "train") -> Iterator[list[dict[str, str]]]:
    """The rows of a table, written back after the block."""
    path = table(root, subset)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    yield rows
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def first_file(root: Path, column: str, row: int = 0) -> Path:
    with table(root).open(newline="") as file:
        name = list(csv.DictReader(file))[row][column]
    return root / "train" / FOLDERS[column] / name


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], rate: int = SAMPLE_RATE, **options) -> None:
    signal, _ = soundfile.read(path)
    soundfile.write(path, change(signal), rate, **options)


def drop_column(root: Path) -> None:
    with edit(root) as rows:
        for row in rows:
            del row["eventFile"]


def empty_cell(root: Path) -> None:
    with edit(root) as rows:
        rows[1]["sceneFile"] = "NaN"


def half_indoor(root: Path) -> None:
    with edit(root) as rows:
        rows[0]["reverbForEvent"] = ""


def leave_the_folder(root: Path) -> None:
    with edit(root) as rows:
        rows[0]["mixFile"] = "../../val/mix/" + rows[0]["mixFile"]


def bad_number(root: Path) -> None:
    with edit(root) as rows:
        rows[2]["SSR"] = "loud"


def same_row_twice(root: Path) -> None:
    with edit(root) as rows:
        rows.append(dict(rows[0]))


def same_mix_under_two_names(root: Path) -> None:
    for column in ("mixFile", "speaker1File", "speaker2File", "sceneFile", "eventFile"):
        first_file(root, column, 3).write_bytes(first_file(root, column, 1).read_bytes())


def same_talker(root: Path) -> None:
    with edit(root) as rows:
        rows[0]["speech2OryginalPath"] = rows[0]["speech1OryginalPath"].replace("utterance", "other")


def talker_in_two_subsets(root: Path) -> None:
    with edit(root, "test") as rows:
        rows[0]["speech1OryginalPath"] = "/speech/train01/another.wav"


def nan(signal: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(signal)) == 7, np.nan, signal)


def clip_a_talker(root: Path) -> None:
    """What the original's limiter does: a part is limited after the sum was formed."""
    path = first_file(root, "sceneFile", 1)
    rewrite(path, lambda signal: np.where(np.arange(len(signal)) == 9, 0.9995, signal))


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


@dataclass(frozen=True)
class Case:
    """A way to break a corpus.

    Attributes:
        name: of the test.
        kind, words: what the check must report, as a regular expression.
        breaks: changes the corpus at the root.
        stops: training stops at it, too.
        severity: of the defect.
    """

    name: str
    kind: str
    words: str
    breaks: Callable[[Path], object]
    stops: bool = True
    severity: str = "error"


CASES = [
    Case(
        "no subset",
        "missing_subset",
        r"train: no such folder; a PolSESS root holds train, val, test",
        lambda root: (root / "train").rename(root / "training"),
    ),
    Case(
        "no table",
        "missing_csv",
        r"corpus_broken_train_final.csv: no such table; move the generator's CSV",
        lambda root: table(root).unlink(),
    ),
    Case(
        "two tables",
        "ambiguous_csv",
        r"several tables \(corpus_a_final.csv, corpus_b_final.csv\); keep one",
        lambda root: (
            table(root).rename(root / "train/corpus_a_final.csv"),
            (root / "train/corpus_b_final.csv").touch(),
        ),
    ),
    Case(
        "no rows",
        "empty_csv",
        r"final.csv: has no rows",
        lambda root: table(root).write_text(",".join(polsess_format.COLUMNS) + "\n"),
    ),
    Case("no column", "missing_column", r"final.csv: column eventFile is missing", drop_column),
    Case("empty cell", "empty_cell", r"line 3: column sceneFile is empty; complete the row", empty_cell),
    Case("half indoors", "empty_cell", r"line 2: column reverbForEvent is empty", half_indoor),
    Case(
        "too few cells",
        "bad_csv",
        r"line 6: has 2 cells, the header has 34",
        lambda root: append(table(root), b"train,x\n"),
    ),
    Case(
        "no text",
        "bad_csv",
        r"not UTF-8 .*save the file again as UTF-8",
        lambda root: append(table(root), b"\xff\xfe"),
    ),
    Case("path in a name", "bad_name", r"line 2: column mixFile holds '../../val", leave_the_folder),
    Case("no number", "bad_number", r"line 4: column SSR holds 'loud'; expected a number", bad_number),
    Case(
        "no file",
        "missing_file",
        r"\.wav: no such file; .*line 2, column speaker1File",
        lambda root: first_file(root, "speaker1File").unlink(),
    ),
    Case(
        "sample rate",
        "bad_audio",
        r"clean/\w+\.wav: sample rate is 16000 Hz, expected 8000 Hz",
        lambda root: rewrite(first_file(root, "speaker1File"), lambda s: s, rate=16000),
    ),
    Case(
        "stereo",
        "bad_audio",
        r"clean/\w+\.wav: has 2 channels, expected mono",
        lambda root: rewrite(first_file(root, "speaker1File"), lambda s: np.stack([s, s], 1)),
    ),
    Case(
        "too short",
        "bad_audio",
        r"clean/\w+\.wav: has 390 samples, expected 400",
        lambda root: rewrite(first_file(root, "speaker1File"), lambda s: s[:390]),
    ),
    Case(
        "too long",
        "bad_audio",
        r"clean/\w+\.wav: has 410 samples, expected 400",
        lambda root: rewrite(first_file(root, "speaker1File"), lambda s: np.pad(s, (0, 10))),
    ),
    Case(
        "no samples",
        "bad_audio",
        r"clean/\w+\.wav: holds no samples",
        lambda root: rewrite(first_file(root, "speaker1File"), lambda s: s[:0]),
    ),
    Case(
        "not a number",
        "bad_audio",
        r"clean/\w+\.wav: 1 samples are NaN or infinite",
        lambda root: rewrite(first_file(root, "speaker1File"), nan, subtype="FLOAT"),
    ),
    Case(
        "no audio",
        "bad_audio",
        r"clean/\w+\.wav: not readable as audio",
        lambda root: first_file(root, "speaker1File").write_bytes(b"<html>404</html>"),
    ),
    Case(
        "silent talker",
        "silent",
        r"clean/\w+\.wav: sp1 is silent throughout; remove the row",
        lambda root: rewrite(first_file(root, "speaker1File"), np.zeros_like),
    ),
    Case(
        "silent scene",
        "silent",
        r"scene/\w+\.wav: scene is silent throughout",
        lambda root: rewrite(first_file(root, "sceneFile"), np.zeros_like),
        False,
        "warning",
    ),
    Case(
        "relation",
        "broken_relation",
        r"mix/[\w-]+\.wav: is not the sum of its parts: 400 samples.*line 2",
        lambda root: rewrite(first_file(root, "eventFile"), lambda s: s[::-1] + 0.2),
        False,
    ),
    Case(
        "clipping",
        "clipping",
        r"differs from the sum of its parts where a signal is clipped: 1 samples",
        clip_a_talker,
        False,
        "warning",
    ),
    Case(
        "row twice",
        "duplicate_row",
        r"mix/[\w-]+.wav is used 2 times: line 2 \(mixFile\), line 6",
        same_row_twice,
        False,
    ),
    Case("mix twice", "duplicate_row", r"mixtures hold the same samples; keep one", same_mix_under_two_names, False),
    Case(
        "one talker", "same_talker", r"line 2: both talkers are probably the same person", same_talker, False, "warning"
    ),
    Case(
        "shared talker",
        "shared_talker",
        r"1 talkers are in both train and test .*speech/train01",
        talker_in_two_subsets,
        False,
        "warning",
    ),
    Case(
        "left over",
        "unreferenced_file",
        r"event/old.wav: no row of corpus_\w+.csv names this file",
        lambda root: (root / "train/event/old.wav").write_bytes(b""),
        False,
        "warning",
    ),
]


def check(root: Path) -> list[Defect]:
    return PolSESSDataModule(root=str(root), sample_rate=SAMPLE_RATE).check()


def run_one_epoch(root: Path, problem: str) -> None:
    """Reads the training set as training does, all variants included."""
    data = PolSESSDataModule(root=str(root), sample_rate=SAMPLE_RATE, problem=problem, batch_size=1)
    data.prepare_data()
    data.setup("fit")
    for _ in data.train_dataloader():
        pass


def test_sound_corpus_has_no_defects(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "sound")
    assert check(root) == []
    run_one_epoch(root, "SB")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_defect_is_listed_and_stops_training(case: Case, tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "broken")
    case.breaks(root)
    fitting = [each for each in check(root) if each.kind == case.kind and re.search(case.words, each.message)]
    assert fitting, check(root)
    assert {defect.severity for defect in fitting} == {case.severity}
    if not case.stops:
        return run_one_epoch(root, "SB")
    with pytest.raises((ValueError, FileNotFoundError)) as stopped:
        run_one_epoch(root, "SB")
    assert str(stopped.value) in {defect.message for defect in fitting}
    return None


def test_several_defects_are_all_listed(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "broken")
    chosen = [case for case in CASES if case.name in ("no file", "silent scene", "one talker", "left over")]
    for case in chosen:
        case.breaks(root)
    assert {defect.kind for defect in check(root)} == {case.kind for case in chosen}


def test_check_of_a_pack_finds_changed_samples(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "sound")
    pack_corpus(root, tmp_path / "packed", SAMPLE_RATE)
    assert check(tmp_path / "packed") == []
    shard = next((tmp_path / "packed").rglob("*.npy"))
    samples = np.load(shard)
    samples[0, 0] += 500
    np.save(shard, samples)
    assert {defect.kind for defect in check(tmp_path / "packed")} == {"changed_shard", "broken_relation"}


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / name), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


@pytest.mark.slow
def test_check_data_lists_defects_and_exits_with_1(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus")
    arguments = ("data=separation/polsess", f"data.root={root}", "data.problem=SB")
    sound = run_script("data/check.py", *arguments)
    assert (sound.returncode, "no defects" in sound.stdout) == (0, True), sound.stdout + sound.stderr
    first_file(root, "eventFile").unlink()
    same_talker(root)
    broken = run_script("data/check.py", *arguments, "--processes", "2")
    assert broken.returncode == 1
    assert "no such file" in broken.stdout
    assert "2 defects (1 error, 1 warning)" in broken.stdout
    assert "Traceback" not in broken.stderr


@pytest.mark.slow
def test_pack_data_writes_what_the_datamodule_reads(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus")
    packed = run_script("separation/pack_polsess.py", str(root), str(tmp_path / "packed"), "--sample-rate", "8000")
    assert packed.returncode == 0, packed.stderr
    run_one_epoch(tmp_path / "packed", "SB")
    assert run_script("separation/pack_polsess.py", "--verify", str(tmp_path / "packed")).returncode == 0
    again = run_script("separation/pack_polsess.py", str(root), str(tmp_path / "packed"), "--sample-rate", "8000")
    assert again.returncode == 1
    assert "finished pack" in again.stderr
    assert "Traceback" not in again.stderr
    shard = next((tmp_path / "packed").rglob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    damaged = run_script("separation/pack_polsess.py", "--verify", str(tmp_path / "packed"))
    assert damaged.returncode == 1
    assert shard.name in damaged.stdout
