"""Broken Libri2Mix corpora: the check lists the defect, and training stops with the same words."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.core.defects import Defect
from hydraudio.tasks.separation.corpora.libri2mix.datamodule import Libri2MixDataModule

RATE, PROBLEM = 8000, "mix_both"
TABLE = f"wav8k/min/metadata/mixture_train-100_{PROBLEM}.csv"


@contextmanager
def edit(root: Path) -> Iterator[list[dict[str, str]]]:
    """The rows of the training table, written back after the block."""
    with (root / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    yield rows
    with (root / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def audio(root: Path, part: str = "s1", row: int = 0) -> Path:
    with (root / TABLE).open(newline="") as file:
        name = list(csv.DictReader(file))[row]["mixture_ID"]
    return root / "wav8k" / "min" / "train-100" / part / f"{name}.wav"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], rate: int = RATE, **options: str) -> None:
    signal, _ = soundfile.read(path)
    soundfile.write(path, change(signal), rate, **options)


def without_column(root: Path) -> None:
    with edit(root) as rows:
        for row in rows:
            del row["mixture_ID"]


def other_cell(column: str, value: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with edit(root) as rows:
            rows[0][column] = value

    return change


def shifted_sources(root: Path) -> None:
    """Sources of a table with other rows, joined by position."""
    with edit(root) as rows:
        sources = [row["source_1_path"] for row in rows]
        for row, source in zip(rows, [*sources[1:], sources[0]], strict=True):
            row["source_1_path"] = source


def row_twice(root: Path) -> None:
    with edit(root) as rows:
        rows.append(dict(rows[0]))


def rename_rows(root: Path, rename: Callable[[str], str]) -> None:
    """The first row of the training set under another identifier."""
    with edit(root) as rows:
        old = rows[0]["mixture_ID"]
        rows[0] = {key: value.replace(old, rename(old)) for key, value in rows[0].items()}
    for part in ("s1", "s2", "noise", PROBLEM):
        path = root / "wav8k" / "min" / "train-100" / part / f"{old}.wav"
        path.rename(path.with_name(f"{rename(old)}.wav"))


def talker_of_test(root: Path, name: str) -> str:
    other = next((root / "wav8k/min/test/s1").iterdir()).name
    return f"{other.split('-')[0]}-9-0001_{name.split('_')[1]}"


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def nan(signal: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(signal)) == 7, np.nan, signal)


def same_mixture(root: Path) -> None:
    """Two rows with the same audio."""
    for part in ("s1", "s2", "noise", PROBLEM):
        shutil.copy(audio(root, part, 0), audio(root, part, 1))
    with edit(root) as rows:
        rows[1]["length"] = rows[0]["length"]


@dataclass(frozen=True)
class Case:
    """A way to break a corpus: see `tests/integration/test_corrupt_corpora.py`."""

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
        r"min/train-100: no such subset; there are dev, test, train-360",
        lambda root: shutil.rmtree(root / "wav8k/min/train-100"),
    ),
    Case(
        "no mixtures",
        "missing_subset",
        r"train-100/mix_both: no such folder; set data.problem to one of mix_clean, mix_single",
        lambda root: shutil.rmtree(root / "wav8k/min/train-100" / PROBLEM),
    ),
    Case("no rows", "empty_csv", r"has no rows", lambda root: (root / TABLE).write_text("mixture_ID,length\n")),
    Case("no column", "missing_column", r"column mixture_ID is missing", without_column),
    Case("no text", "bad_csv", r"not UTF-8 .*save the file again", lambda root: append(root / TABLE, b"\xff\xfe")),
    Case(
        "few cells", "bad_csv", r"line 12: has 2 cells, the header has 6", lambda root: append(root / TABLE, b"x,y\n")
    ),
    Case("no number", "bad_number", r"line 2: column length holds 'long'", other_cell("length", "long")),
    Case("path", "bad_name", r"line 2: column mixture_ID holds '../x'", other_cell("mixture_ID", "../x")),
    Case("shifted", "mismatched_row", r"line 2: column source_1_path names .* mixed up", shifted_sources),
    Case("row twice", "duplicate_row", r"occurs 2 times; keep one", row_twice),
    Case("no source", "missing_file", r"s1/[\d_-]+\.wav: no such file; .*line 2", lambda root: audio(root).unlink()),
    Case(
        "no mixture",
        "missing_file",
        r"mix_both/[\d_-]+\.wav: no such file; .*line 2",
        lambda root: audio(root, PROBLEM).unlink(),
    ),
    Case(
        "sample rate",
        "bad_audio",
        r"s1/[\d_-]+\.wav: sample rate is 16000 Hz, expected 8000 Hz; resample the files or set the sample rate",
        lambda root: rewrite(audio(root), lambda s: s, rate=16000),
    ),
    Case(
        "stereo",
        "bad_audio",
        r"has 2 channels, expected mono",
        lambda root: rewrite(audio(root), lambda s: np.stack([s, s], 1)),
    ),
    Case(
        "short",
        "bad_audio",
        r"s1/[\d_-]+\.wav: has \d+ samples, expected \d+ as .*line 2 says",
        lambda root: rewrite(audio(root), lambda s: s[:-1]),
    ),
    Case("empty", "bad_audio", r"holds no samples", lambda root: rewrite(audio(root), lambda s: s[:0])),
    Case("nan", "bad_audio", r"1 samples are NaN", lambda root: rewrite(audio(root), nan, subtype="FLOAT")),
    Case("no audio", "bad_audio", r"not readable as audio", lambda root: audio(root).write_bytes(b"<html>404</html>")),
    Case("silent", "silent", r"s1 is silent throughout", lambda root: rewrite(audio(root), np.zeros_like)),
    Case(
        "silent noise",
        "silent",
        r"noise is silent",
        lambda root: rewrite(audio(root, "noise"), np.zeros_like),
        False,
        "warning",
    ),
    Case(
        "relation",
        "broken_relation",
        r"is not the sum of s1, s2, noise: \d+ samples",
        lambda root: rewrite(audio(root, "noise"), lambda s: s[::-1] * 3),
        False,
    ),
    Case("same audio", "duplicate_row", r"mixtures hold the same samples", same_mixture, False),
    Case(
        "one talker",
        "same_talker",
        r"both talkers are the same person \(77\)",
        lambda root: rename_rows(root, lambda name: "77-1-0001_77-2-0002"),
        False,
        "warning",
    ),
    Case(
        "shared talker",
        "shared_talker",
        r"1 talkers are in both train and test",
        lambda root: rename_rows(root, lambda name: talker_of_test(root, name)),
        False,
        "warning",
    ),
    Case(
        "left over",
        "unreferenced_file",
        r"old.wav: no row of mixture_train-100_mix_both.csv names this file",
        lambda root: (root / "wav8k/min/train-100" / PROBLEM / "old.wav").touch(),
        False,
        "warning",
    ),
]


@pytest.fixture
def corpus(libri2mix_root, tmp_path) -> Path:
    """A sound corpus that the test may break."""
    return Path(shutil.copytree(libri2mix_root, tmp_path / "Libri2Mix"))


def check(root: Path, n_processes: int = 1) -> list[Defect]:
    return Libri2MixDataModule(root=str(root), problem=PROBLEM).check(n_processes)


def run_one_epoch(root: Path) -> None:
    data = Libri2MixDataModule(root=str(root), problem=PROBLEM, batch_size=1)
    data.prepare_data()
    data.setup("fit")
    for _ in data.train_dataloader():
        pass


def test_sound_corpus_has_no_defects(corpus):
    seen = []
    data = Libri2MixDataModule(root=str(corpus), problem=PROBLEM, train_subsets=["train-100", "train-360"])
    assert data.check(on_row=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (22, 22)
    shutil.rmtree(corpus / "wav8k/min/metadata")
    shutil.rmtree(corpus / "metadata")
    assert check(corpus) == []
    run_one_epoch(corpus)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_defect_is_listed_and_stops_training(case, corpus):
    case.breaks(corpus)
    fitting = [each for each in check(corpus) if each.kind == case.kind and re.search(case.words, each.message)]
    assert fitting, check(corpus)
    assert {defect.severity for defect in fitting} == {case.severity}
    if not case.stops:
        return run_one_epoch(corpus)
    with pytest.raises((ValueError, FileNotFoundError)) as stopped:
        run_one_epoch(corpus)
    assert str(stopped.value) in {defect.message for defect in fitting}
    return None


@pytest.mark.slow
def test_check_data_lists_defects_and_exits_with_1(corpus, command):
    arguments = ("scripts/data/check.py", "data=separation/libri2mix", f"data.root={corpus}", f"data.problem={PROBLEM}")
    assert "no defects" in command(*arguments, "--processes", "1").stdout
    audio(corpus, "s2").unlink()
    rewrite(audio(corpus, "noise", 1), np.zeros_like)
    broken = command(*arguments, "--processes", "2", check=False)
    assert broken.returncode == 1
    assert "no such file" in broken.stdout
    assert "3 defects (2 errors, 1 warning)" in broken.stdout  # without the noise the sum is broken, too
    assert "Traceback" not in broken.stderr
