"""Broken copies of MSP-PODCAST: the check lists the defect, and training stops with the same words."""

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

from hydraudio.tasks.emotion.corpora.msp_podcast.datamodule import MSPPodcastDataModule
from hydraudio.tasks.emotion.corpora.webdataset.writer import write_webdataset

TABLE = "Labels/labels_consensus.csv"
DETAILED = "Labels/labels_detailed.csv"
NAME = r"MSP-PODCAST_[\d_]+\.wav"


@contextmanager
def edit(root: Path) -> Iterator[list[dict[str, str]]]:
    """The rows of the consensus labels, written back after the block."""
    with (root / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    yield rows
    with (root / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def other_cell(column: str, value: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with edit(root) as rows:
            rows[0][column] = value

    return change


def without_column(column: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with edit(root) as rows:
            for row in rows:
                del row[column]

    return change


def row_twice(root: Path) -> None:
    with edit(root) as rows:
        rows.append(dict(rows[0]))


def without_split(root: Path) -> None:
    with edit(root) as rows:
        rows[:] = [row for row in rows if row["Split_Set"] != "Development"]


def same_speaker(root: Path) -> None:
    with edit(root) as rows:
        known = next(row["SpkrID"] for row in rows if row["Split_Set"] == "Train" and row["SpkrID"] != "Unknown")
        next(row for row in rows if row["Split_Set"] == "Test2")["SpkrID"] = known


def audio(root: Path, row: int = 0) -> Path:
    """The file of a labelled training turn."""
    with (root / TABLE).open(newline="") as file:
        rows = [
            each for each in csv.DictReader(file) if each["Split_Set"] == "Train" and each["EmoClass"] in "ASHUFDCN"
        ]
    return root / "Audios" / rows[row]["FileName"]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], rate: int = 16000, subtype: str = "PCM_16") -> None:
    soundfile.write(path, change(soundfile.read(path)[0]), rate, subtype=subtype)


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-999])


@dataclass(frozen=True)
class Case:
    """A way to break a corpus: see `tests/integration/test_corrupt_corpora.py`."""

    name: str
    kind: str
    words: str
    breaks: Callable[[Path], object]
    stops: bool = True
    severity: str = "error"


def warning(name: str, kind: str, words: str, breaks: Callable[[Path], object]) -> Case:
    return Case(name, kind, words, breaks, stops=False, severity="warning")


CASES = [
    Case("no labels", "missing_csv", r"labels_consensus\.csv: no such file", lambda root: (root / TABLE).unlink()),
    Case("no rows", "empty_csv", r"has no rows", lambda root: append_header_only(root)),
    Case("no column", "missing_column", r"column EmoClass is missing", without_column("EmoClass")),
    Case("no text", "bad_csv", r"not UTF-8 .*save the file again", lambda root: append(root / TABLE, b"\xff\xfe")),
    Case("few cells", "bad_csv", r"has 2 cells", lambda root: append(root / TABLE, b"x.wav,A\n")),
    Case("class", "bad_class", rf"line 2 \({NAME}\): column EmoClass holds 'Q'", other_cell("EmoClass", "Q")),
    Case(
        "rating", "bad_number", r"column EmoAct holds '7.5'; expected a rating from 1 to 7", other_cell("EmoAct", "7.5")
    ),
    Case("no number", "bad_number", r"column EmoVal holds 'high'", other_cell("EmoVal", "high")),
    Case("gender", "bad_gender", r"column Gender holds '3'", other_cell("Gender", "3")),
    Case("split", "bad_split", r"column Split_Set holds 'Training'", other_cell("Split_Set", "Training")),
    Case("name", "bad_name", r"column FileName holds '\.\./x\.wav'", other_cell("FileName", "../x.wav")),
    Case("row twice", "duplicate_row", r"occurs twice; keep one", row_twice),
    Case("no split", "missing_split", r"no split 'Development'; it has Test1, Test2, Test3, Train", without_split),
    Case("bad votes", "bad_csv", r"labels_detailed.*cells", lambda root: append(root / DETAILED, b"x.wav,\n")),
    Case("no audio", "missing_file", rf"{NAME}: no such audio file; check", lambda root: audio(root).unlink()),
    Case("empty", "bad_audio", r"holds no samples", lambda root: rewrite(audio(root), lambda s: s[:0])),
    Case("cut off", "bad_audio", rf"{NAME}: is cut off: \d+ of \d+ bytes", lambda root: cut(audio(root))),
    Case("html", "bad_audio", r"not readable as audio", lambda root: audio(root).write_bytes(b"<html>404</html>")),
    Case("nan", "bad_audio", r"1 samples are NaN", lambda root: rewrite(audio(root), with_nan, subtype="FLOAT")),
    Case("silent", "silent", r"is silent throughout", lambda root: rewrite(audio(root), np.zeros_like), False),
    warning("clipped", "clipping", r"[\d.]+ % of the samples", lambda root: rewrite(audio(root), lambda s: 40 * s)),
    warning(
        "rate", "other_rate", r"is 8000 Hz, that of the corpus 16000", lambda r: rewrite(audio(r), lambda s: s, 8000)
    ),
    warning("stereo", "channels", r"has 2 channels", lambda r: rewrite(audio(r), lambda s: np.stack([s, s], 1))),
    warning("copy", "duplicate_audio", r"hold the same samples", lambda r: shutil.copy(audio(r, 0), audio(r, 1))),
    warning(
        "stranger", "unreferenced_file", r"old\.wav: no row", lambda r: shutil.copy(audio(r), r / "Audios/old.wav")
    ),
    warning("speaker", "shared_speaker", r"train and test share 1 speaker", same_speaker),
]


def with_nan(signal: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(signal)) == 7, np.nan, signal)


def append_header_only(root: Path) -> None:
    header = (root / TABLE).read_text().splitlines()[0]
    (root / TABLE).write_text(header + "\n")
    for path in (root / "Audios").glob("*test3*"):
        path.unlink()


@pytest.fixture
def corpus(msp_root, tmp_path) -> Path:
    """A sound corpus that the test may break."""
    return Path(shutil.copytree(msp_root, tmp_path / "msp"))


def make(root: Path, **options) -> MSPPodcastDataModule:
    return MSPPodcastDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **options)


def run_one_epoch(root: Path) -> None:
    data = make(root)
    data.prepare_data()
    data.setup("fit")
    for _ in data.train_dataloader():
        pass


def test_sound_corpus_has_no_defects(corpus):
    seen = []
    assert make(corpus).check(on_row=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (88, 88)
    assert not {path.name for path in corpus.iterdir()} & {"cache", "features"}
    run_one_epoch(corpus)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_defect_is_listed_and_stops_training(case, corpus):
    case.breaks(corpus)
    found = make(corpus).check()
    fitting = [each for each in found if each.kind == case.kind and re.search(case.words, each.message)]
    assert fitting, found
    assert {defect.severity for defect in fitting} == {case.severity}
    if not case.stops:
        return run_one_epoch(corpus)
    with pytest.raises((ValueError, FileNotFoundError)) as stopped:
        run_one_epoch(corpus)
    assert str(stopped.value) in {defect.message for defect in fitting}
    return None


@pytest.mark.slow
def test_the_check_lists_everything_at_once(corpus):
    audio(corpus, 0).unlink()
    rewrite(audio(corpus, 1), np.zeros_like)
    cut(audio(corpus, 2))
    with edit(corpus) as rows:
        rows[-1]["EmoDom"] = "9"
    kinds = [defect.kind for defect in make(corpus).check()]
    assert {"missing_file", "silent", "bad_audio", "bad_number"} <= set(kinds)


SHARD_CASES = {
    "no shard": (lambda shard: shard.unlink(), r"samples-000\.tar: shard of the index is missing"),
    "cut off": (lambda shard: shard.write_bytes(shard.read_bytes()[:-700]), r"the copy is cut off or changed"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("breaks", "words"), SHARD_CASES.values(), ids=SHARD_CASES)
def test_broken_shards_are_listed_and_stop_training(corpus, tmp_path, breaks, words):
    root = tmp_path / "shards"
    write_webdataset(make(corpus).utterances, root, "msp_podcast", samples_per_shard=30)
    assert make(root).check() == []
    run_one_epoch(root)
    breaks(root / "train" / "train-samples-000.tar")
    listed = [defect.message for defect in make(root).check() if re.search(words, defect.message)]
    assert listed
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        run_one_epoch(root)


@pytest.mark.slow
def test_changed_bytes_in_a_shard_are_found(corpus, tmp_path):
    root = tmp_path / "shards"
    write_webdataset(make(corpus).utterances, root, "msp_podcast", samples_per_shard=30)
    shard = root / "train" / "train-samples-000.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(bytes(content))
    assert any("sha256" in defect.message for defect in make(root).check())


@pytest.mark.slow
def test_check_data_lists_defects_and_exits_with_1(corpus, command):
    arguments = ("scripts/data/check.py", "data=emotion/msp_podcast", f"data.root={corpus}")
    assert "no defects" in command(*arguments, "--processes", "1").stdout
    audio(corpus, 0).unlink()
    rewrite(audio(corpus, 1), lambda signal: 40 * signal)
    broken = command(*arguments, "--processes", "2", check=False)
    assert broken.returncode == 1
    assert "no such audio file" in broken.stdout
    assert "2 defects (1 error, 1 warning)" in broken.stdout
    assert "Traceback" not in broken.stderr
