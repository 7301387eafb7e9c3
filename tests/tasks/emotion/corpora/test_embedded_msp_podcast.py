"""The embedded MSP-PODCAST has the corpus's files, which all say the same."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.tasks.emotion.corpora.msp_podcast.embedded import EmbeddedMSPPodcast

TINY = {"n_train": 16, "n_val": 8, "n_test1": 8, "n_test2": 8, "n_test3": 8, "n_speakers": 12}
TINY |= {"min_s": 0.5, "max_s": 0.6, "n_processes": 1}
LETTERS = {"Angry": "A", "Sad": "S", "Happy": "H", "Surprise": "U", "Fear": "F", "Disgust": "D"}
LETTERS |= {"Contempt": "C", "Neutral": "N", "Other": "O"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def consensus(msp_root) -> dict[str, dict[str, str]]:
    rows = table(msp_root / "Labels" / "labels_consensus.csv")
    assert len({row["FileName"] for row in rows}) == len(rows)
    return {row["FileName"]: row for row in rows}


def expected_of(primaries: list[str], ratings: list[list[float]]) -> tuple[str, np.ndarray]:
    """Consensus letter and mean ratings, counted anew."""
    votes = Counter(LETTERS[word.split("-")[0]] for word in primaries).most_common()
    tied = len(votes) > 1 and votes[0][1] == votes[1][1]
    return "X" if tied else votes[0][0], np.mean(ratings, axis=0)


def test_files_lie_where_the_corpus_has_them(msp_root, consensus):
    top = {path.name for path in msp_root.iterdir()}
    assert top >= {"readme.txt", "Speaker_ids.txt", "Partition.txt", "Audios", "Labels", "Transcripts"}
    labels = {path.name for path in (msp_root / "Labels").iterdir()}
    assert labels == {"labels.txt", "labels_consensus.csv", "labels_detailed.csv"}
    names = {path.name for path in (msp_root / "Audios").iterdir()}
    assert {f"{path.stem}.wav" for path in (msp_root / "Transcripts").iterdir()} == names
    assert len(names) == 48 + 16 + 12 + 8 + 4
    assert names - set(consensus) == {name for name in names if "test3" in name}
    assert set(consensus) < names
    assert all(re.fullmatch(r"MSP-PODCAST_\d{4}_\d{4}(_\d{4})?\.wav", name) for name in consensus)
    assert any(name.count("_") == 3 for name in consensus)
    for name in names:
        info = soundfile.info(msp_root / "Audios" / name)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 0.8 <= info.duration <= 1.6
    columns = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]
    assert list(next(iter(consensus.values()))) == columns


def test_the_consensus_is_what_the_raters_say(msp_root, consensus):
    rows = table(msp_root / "Labels" / "labels_detailed.csv")
    columns = ["FileName", "Workers", "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoDom", "EmoVal"]
    assert list(rows[0]) == columns
    raters = defaultdict(list)
    for row in rows:
        raters[row["FileName"]].append(row)
    assert set(raters) == set(consensus)
    for name, answers in raters.items():
        assert len({row["Workers"] for row in answers}) == len(answers) >= 5
        ratings = [[float(row[key]) for key in ("EmoAct", "EmoVal", "EmoDom")] for row in answers]
        assert set(np.ravel(ratings)) <= {1, 2, 3, 4, 5, 6, 7}
        letter, means = expected_of([row["EmoClass_Major"] for row in answers], ratings)
        assert consensus[name]["EmoClass"] == letter
        found = [float(consensus[name][key]) for key in ("EmoAct", "EmoVal", "EmoDom")]
        np.testing.assert_allclose(found, means, atol=1e-6)
    assert any(row["EmoClass_Major"].startswith("Other-") for row in rows)
    assert any(not row["EmoClass_Second"] for row in rows)
    assert any("," in row["EmoClass_Second"] for row in rows)


def test_labels_txt_says_the_same(msp_root, consensus):
    blocks = (msp_root / "Labels" / "labels.txt").read_text().strip().split("\n\n")
    assert len(blocks) == len(consensus)
    for block in blocks:
        head, *raters = block.split("\n")
        name, letter, *scores = [part.strip() for part in head.rstrip(";").split(";")]
        assert consensus[name]["EmoClass"] == letter
        assert [part[:2] for part in scores] == ["A:", "V:", "D:"]
        answers = [[part.strip() for part in line.rstrip(";").split(";")] for line in raters]
        means = np.mean([[float(part[2:]) for part in answer[-3:]] for answer in answers], axis=0)
        np.testing.assert_allclose([float(part[2:]) for part in scores], means, atol=1e-6)
        assert expected_of([answer[1] for answer in answers], [[0.0]])[0] == letter


def test_speakers_and_splits(msp_root, consensus):
    speakers, podcasts = defaultdict(set), defaultdict(set)
    for name, row in consensus.items():
        split = row["Split_Set"].rstrip("12")
        podcasts[split].add(name.split("_")[1])
        if row["SpkrID"] != "Unknown":
            speakers[split].add(int(row["SpkrID"]))
            assert row["Gender"] in ("Female", "Male")
    assert set(speakers) == {"Train", "Development", "Test"}
    for groups in (speakers, podcasts):
        assert sum(map(len, groups.values())) == len(set.union(*groups.values()))
    unknown = [row["Gender"] for row in consensus.values() if row["SpkrID"] == "Unknown"]
    assert set(unknown) == {"Female", "Male", "Unknown"}
    partition = dict(reversed(line.split("; ")) for line in (msp_root / "Partition.txt").read_text().splitlines())
    assert Counter(partition.values()) == {"Train": 48, "Development": 16, "Test1": 12, "Test2": 8, "Test3": 4}
    assert all(partition[name] == row["Split_Set"] for name, row in consensus.items())
    lines = (msp_root / "Speaker_ids.txt").read_text().split("\n\n")
    genders = dict(line.split("; ") for line in lines[0].splitlines())
    voices = dict(line.split(";") for line in lines[1].splitlines())
    for name, row in consensus.items():
        assert voices[name] == row["SpkrID"]
        assert row["SpkrID"] == "Unknown" or genders[f"Speaker_{row['SpkrID']}"] == row["Gender"]


def test_all_forms_say_the_same(tmp_path):
    roots = {form: EmbeddedMSPPodcast(**TINY, detailed_form=form)(tmp_path / form) for form in ("csv_2.0", "csv_1.11")}
    options = {"detailed_form": "json", "consensus_form": "json", "old_spelling": True}
    roots["json"] = EmbeddedMSPPodcast(**TINY, **options)(tmp_path / "old")
    votes = {}
    rows = table(roots["csv_2.0"] / "Labels" / "labels_detailed.csv")
    votes["csv_2.0"] = [
        (row["FileName"], row["Workers"], row["EmoClass_Major"], row["EmoClass_Second"], row["EmoVal"]) for row in rows
    ]
    rows = table(roots["csv_1.11"] / "Labels" / "labels_detailed.csv")
    assert list(rows[0]) == ["FileName", "EmoDetail"]
    votes["csv_1.11"] = []
    for row in rows:
        parts = [part.strip() for part in row["EmoDetail"].rstrip(";").split(";")]
        second = parts[2] if ":" not in parts[2] else ""
        votes["csv_1.11"].append((row["FileName"], parts[0], parts[1], second, parts[-2].removeprefix("V:")))
    assert any(len(row["EmoDetail"].split(";")) == 6 for row in rows)  # the field is missing, not empty
    detailed = json.loads((roots["json"] / "Labels" / "labels_detailed.json").read_text())
    votes["json"] = [
        (name, worker, entry["EmoClass_Major"], entry["EmoClass_Second"], str(entry["EmoVal"]))
        for name, entries in detailed.items()
        for worker, entry in entries.items()
    ]
    assert votes["csv_2.0"] == votes["csv_1.11"] == votes["json"]
    old = json.loads((roots["json"] / "Labels" / "labels_concensus.json").read_text())
    assert (roots["json"] / "Audio").is_dir()
    assert {row["Split_Set"] for row in old.values()} == {"Train", "Validation", "Test1", "Test2"}
    for row in table(roots["csv_2.0"] / "Labels" / "labels_consensus.csv"):
        assert old[row["FileName"]] == {
            **{key: row[key] for key in ("EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender")},
            "Split_Set": row["Split_Set"].replace("Development", "Validation"),
        }


def checksums(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_same_arguments_same_bytes(tmp_path):
    first = EmbeddedMSPPodcast(**TINY)(tmp_path / "a")
    assert checksums(first) == checksums(EmbeddedMSPPodcast(**TINY)(tmp_path / "b"))
    assert EmbeddedMSPPodcast(**TINY)(first) == first
    with pytest.raises(ValueError, match=r"was generated with .*'seed': 0"):
        EmbeddedMSPPodcast(**TINY, seed=1)(first)


@pytest.mark.slow
def test_the_processes_do_not_matter(tmp_path):
    one = EmbeddedMSPPodcast(**TINY)(tmp_path / "a")
    two = EmbeddedMSPPodcast(**{**TINY, "n_processes": 2})(tmp_path / "b")
    assert checksums(one) == checksums(two)


@pytest.mark.slow
def test_the_default_corpus_has_the_documented_shape(tmp_path):
    root = EmbeddedMSPPodcast(min_s=0.5, max_s=0.6)(tmp_path / "msp")
    rows = table(root / "Labels" / "labels_consensus.csv")
    for split, n_turns, least in (("Train", 560, 12), ("Development", 180, 4), ("Test1", 120, 4), ("Test2", 80, 3)):
        counts = Counter(row["EmoClass"] for row in rows if row["Split_Set"] == split)
        assert counts.total() == n_turns
        assert counts["X"] / n_turns == pytest.approx(0.19, abs=0.01)
        assert counts["O"] / n_turns == pytest.approx(0.02, abs=0.01)
        assert min(counts[letter] for letter in "ASHUFDCN") == least
        assert counts.most_common(1)[0][0] == "N"
    train = {row["SpkrID"] for row in rows if row["Split_Set"] == "Train"} - {"Unknown"}
    assert len(train) == 24


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_train": 0}, "n_train 0"),
        ({"n_speakers": 6}, "n_speakers is 6"),
        ({"min_s": 2.0, "max_s": 1.0}, "min_s 2.0 and max_s 1.0"),
        ({"detailed_form": "xml"}, "csv_2.0, csv_1.11, json"),
        ({"consensus_form": "txt"}, "csv, json"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        EmbeddedMSPPodcast(**{**TINY, **arguments})(tmp_path / "msp")
