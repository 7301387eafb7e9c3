"""The embedded IEMOCAP, CREMA-D and RAVDESS have the names, tables and formats of the corpora."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.tasks.emotion.corpora.crema_d import EmbeddedCREMAD
from hydraudio.tasks.emotion.corpora.iemocap import EmbeddedIEMOCAP
from hydraudio.tasks.emotion.corpora.ravdess import EmbeddedRAVDESS

SHORT = {"min_s": 0.5, "max_s": 0.6, "n_processes": 1}
WORDS = {"neu": "Neutral", "hap": "Happiness", "exc": "Excited", "ang": "Anger", "sad": "Sadness"}
WORDS |= {"fru": "Frustration", "fea": "Fear", "sur": "Surprise"}


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory) -> Path:
    return EmbeddedIEMOCAP(n_turns=8, **SHORT)(tmp_path_factory.mktemp("iemocap") / "root")


@pytest.fixture(scope="module")
def crema_d(tmp_path_factory) -> Path:
    return EmbeddedCREMAD(n_actors=5, n_sentences=2, **SHORT)(tmp_path_factory.mktemp("crema") / "root")


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory) -> Path:
    return EmbeddedRAVDESS(n_actors=6, **SHORT)(tmp_path_factory.mktemp("ravdess") / "root")


def formats(folder: Path) -> set[tuple[int, int, str]]:
    infos = [soundfile.info(path) for path in folder.rglob("*.wav")]
    return {(info.samplerate, info.channels, info.subtype) for info in infos}


def test_iemocap_evaluations_and_waves(iemocap):
    assert formats(iemocap) == {(16000, 1, "PCM_16")}
    codes, waves = Counter(), set()
    for session in range(1, 6):
        dialogs = sorted((iemocap / f"Session{session}" / "dialog" / "EmoEvaluation").glob("*.txt"))
        assert [path.stem for path in dialogs] == [f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1"]
        for path in dialogs:
            head, *blocks = path.read_text().strip().split("\n\n")
            assert head == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
            assert len(blocks) == 8
            for block in blocks:
                first, *lines = block.split("\n")
                match = re.fullmatch(r"\[([\d.]+) - ([\d.]+)\]\t(\S+)\t(\w{3})\t\[([\d., ]+)\]", first)
                start, end, turn, code, means = match.groups()
                wave = iemocap / f"Session{session}" / "sentences" / "wav" / path.stem / f"{turn}.wav"
                assert soundfile.info(wave).duration == pytest.approx(float(end) - float(start), abs=1e-3)
                waves.add(wave)
                codes[code] += 1
                heard = [re.fullmatch(r"C-E\d:\t(\w+);\t\(\)", line).group(1) for line in lines[:3]]
                word, count = Counter(heard).most_common(1)[0]
                assert (WORDS[code] == word and count >= 2) if code != "xxx" else count == 1
                rated = re.findall(r"A-E\d:\tval (\d); act (\d); dom  (\d);", block)
                np.testing.assert_allclose(
                    [float(mean) for mean in means.split(",")], np.mean(np.array(rated, float), axis=0)
                )
    assert waves == set(iemocap.rglob("*.wav"))
    assert set(codes) >= {"neu", "ang", "sad", "hap", "xxx"}
    transcript = (iemocap / "Session1" / "dialog" / "transcriptions" / "Ses01F_impro01.txt").read_text()
    assert re.match(r"Ses01F_impro01_F000 \[\d{3}\.\d{4}-\d{3}\.\d{4}\]: ", transcript)


def test_crema_d_names_and_tables(crema_d):
    assert formats(crema_d) == {(16000, 1, "PCM_16")}
    names = {path.stem for path in (crema_d / "AudioWAV").iterdir()}
    assert len(names) == 5 * (16 + 6)
    assert all(re.fullmatch(r"100[1-5]_(IEO|DFA)_(ANG|DIS|FEA|HAP|NEU|SAD)_(XX|LO|MD|HI)", name) for name in names)
    with (crema_d / "VideoDemographics.csv").open(newline="") as file:
        people = list(csv.DictReader(file))
    assert list(people[0]) == ["ActorID", "Age", "Sex", "Race", "Ethnicity"]
    assert [row["Sex"] for row in people] == ["Female", "Male", "Female", "Male", "Female"]
    with (crema_d / "processedResults" / "tabulatedVotes.csv").open(newline="") as file:
        votes = list(csv.DictReader(file))
    assert {row["fileName"] for row in votes} == names
    for row in votes:
        counts = {letter: int(row[letter]) for letter in "ADFHNS"}
        best = max(counts.values())
        assert sum(counts.values()) == int(row["numResponses"])
        assert float(row["agreement"]) == pytest.approx(best / sum(counts.values()))
        assert row["emoVote"] == ":".join(letter for letter, count in counts.items() if count == best)
        assert row[""].startswith("100")  # heard, not seen


def test_ravdess_names_and_rate(ravdess):
    assert formats(ravdess) == {(48000, 1, "PCM_16")}
    paths = list(ravdess.rglob("*.wav"))
    assert len(paths) == 6 * 15
    for path in paths:
        assert re.fullmatch(r"03-01-0[1-8]-0[12]-01-01-\d\d", path.stem)
        assert path.parent.name == f"Actor_{path.stem[-2:]}"
    assert not [path for path in paths if path.stem.startswith("03-01-01-02")]  # there is no strong neutral


def test_same_arguments_same_bytes(crema_d, tmp_path):
    again = EmbeddedCREMAD(n_actors=5, n_sentences=2, **SHORT)(tmp_path / "again")
    for path in crema_d.rglob("*.*"):
        digests = {hashlib.md5(root.read_bytes()).digest() for root in (path, again / path.relative_to(crema_d))}
        assert len(digests) == 1
    with pytest.raises(ValueError, match="'seed': 0"):
        EmbeddedCREMAD(n_actors=5, n_sentences=2, **SHORT, seed=1)(again)


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (EmbeddedIEMOCAP, {"n_turns": 3}, "n_turns is 3"),
        (EmbeddedCREMAD, {"n_actors": 2}, "n_actors 2 must be at least 5"),
        (EmbeddedCREMAD, {"n_sentences": 13}, "n_sentences 13"),
        (EmbeddedRAVDESS, {"n_actors": 25}, "n_actors is 25"),
        (EmbeddedRAVDESS, {"n_statements": 3}, "n_statements 3"),
        (EmbeddedRAVDESS, {"min_s": 3.0}, "min_s 3.0"),
    ],
)
def test_impossible_arguments_are_refused(make, arguments, words):
    with pytest.raises(ValueError, match=words):
        make(**arguments)
