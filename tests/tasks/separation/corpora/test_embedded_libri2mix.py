"""The embedded Libri2Mix has the generator's layout and relations, and depends on its arguments only."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hydraudio.tasks.separation.corpora.libri2mix.embedded import EmbeddedLibri2Mix

SMALL = {"n_train": 3, "n_val": 2, "n_test": 2, "n_talkers": 12, "min_s": 0.6, "max_s": 1.2, "n_processes": 1}
PARTS = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"], "mix_single": ["s1", "noise"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return EmbeddedLibri2Mix(**SMALL, modes=("min", "max"))(tmp_path_factory.mktemp("a") / "mix")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> np.ndarray:
    signal, rate = soundfile.read(path)
    assert rate == 8000
    assert soundfile.info(path).subtype == "PCM_16"
    assert signal.ndim == 1
    return signal


def checksums(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_tables_name_the_files_and_their_lengths(root, mode):
    base = root / "wav8k" / mode
    for subset, count in (("train-100", 3), ("dev", 2), ("test", 2)):
        folders = {folder.name for folder in (base / subset).iterdir()}
        assert folders == {"s1", "s2", "noise", "mix_clean", "mix_both", "mix_single"}
        for kind, parts in PARTS.items():
            lines = table(base / "metadata" / f"mixture_{subset}_{kind}.csv")
            assert len(lines) == count
            columns = ["mixture_ID", "mixture_path", *[f"source_{p[1]}_path" for p in parts if p != "noise"]]
            assert list(lines[0]) == [*columns, *(["noise_path"] if "noise" in parts else []), "length"]
            for line in lines:
                name = f"{line['mixture_ID']}.wav"
                assert line["mixture_path"].endswith(f"/wav8k/{mode}/{subset}/{kind}/{name}")
                assert not Path(line["mixture_path"]).exists()  # stale, like those of every corpus that was moved
                lengths = {len(read(base / subset / folder / name)) for folder in (kind, *parts)}
                assert lengths == {int(line["length"])}


def test_mixtures_are_sums_at_the_documented_levels(root):
    for kind, parts in PARTS.items():
        for line in table(root / "wav8k" / "max" / "metadata" / f"metrics_train-100_{kind}.csv"):
            folder, name = root / "wav8k" / "max" / "train-100", f"{line['mixture_ID']}.wav"
            mixture, signals = read(folder / kind / name), [read(folder / part / name) for part in parts]
            assert np.abs(mixture - np.sum(signals, axis=0)).max() <= 0.51 * (len(parts) + 1) / 32768
            assert np.abs(mixture).max() <= 0.9 + 1 / 32768
            for part, signal in zip(parts, signals, strict=True):
                column = "noise_SNR" if part == "noise" else f"source_{part[1]}_SNR"
                expected = 10 * np.log10(np.mean(signal**2) / np.mean((mixture - signal) ** 2))
                assert float(line[column]) == pytest.approx(expected, abs=0.1)


def test_min_cuts_where_max_pads(root):
    for line in table(root / "wav8k" / "min" / "metadata" / "mixture_test_mix_both.csv"):
        name, n_samples = f"{line['mixture_ID']}.wav", int(line["length"])
        long = {part: read(root / "wav8k" / "max" / "test" / part / name) for part in PARTS["mix_both"]}
        for part, signal in long.items():
            np.testing.assert_array_equal(read(root / "wav8k" / "min" / "test" / part / name), signal[:n_samples])
        ends = [int(np.flatnonzero(long[part])[-1]) for part in ("s1", "s2")]
        assert min(ends) < n_samples < max(ends)


def test_generator_tables_and_talkers(root):
    talkers = {}
    for subset in ("train-clean-100", "dev-clean", "test-clean"):
        lines = table(root / "metadata" / f"libri2mix_{subset}.csv")
        infos = table(root / "metadata" / f"libri2mix_{subset}_info.csv")
        talkers[subset] = set()
        for line, info in zip(lines, infos, strict=True):
            ids = [utterance.split("-")[0] for utterance in line["mixture_ID"].split("_")]
            assert [info["speaker_1_ID"], info["speaker_2_ID"]] == ids
            assert ids[0] != ids[1]
            assert {info["speaker_1_sex"], info["speaker_2_sex"]} <= {"F", "M"}
            assert line["source_1_path"].startswith(f"{subset}/{ids[0]}/")
            assert 0 < float(line["source_2_gain"]) < 0.06
            talkers[subset] |= set(ids)
    pairs = [("train-clean-100", "dev-clean"), ("train-clean-100", "test-clean"), ("dev-clean", "test-clean")]
    assert all(not talkers[one] & talkers[other] for one, other in pairs)


@pytest.mark.slow
def test_same_arguments_same_bytes(root, tmp_path):
    again = EmbeddedLibri2Mix(**{**SMALL, "n_processes": 2}, modes=("min", "max"))(tmp_path / "elsewhere")
    assert checksums(again) == checksums(root)
    other = EmbeddedLibri2Mix(**SMALL, seed=1)(tmp_path / "other")
    assert set(checksums(other).values()).isdisjoint(set(checksums(root).values()))


def test_existing_root_is_kept_or_refused(root, tmp_path):
    before = checksums(root)
    assert EmbeddedLibri2Mix(**SMALL, modes=("min", "max"))(root) == root
    assert checksums(root) == before
    with pytest.raises(ValueError, match=r"was generated with .*'seed': 0"):
        EmbeddedLibri2Mix(**SMALL, modes=("min", "max"), seed=4)(root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="not written by the generator"):
        EmbeddedLibri2Mix(**SMALL)(tmp_path / "mine")


def test_another_rate_and_second_training_set(tmp_path):
    root = EmbeddedLibri2Mix(**SMALL, n_train_360=2, sample_rate=16000)(tmp_path / "mix")
    files = sorted((root / "wav16k" / "min" / "train-360" / "mix_both").glob("*.wav"))
    assert len(files) == 2
    assert soundfile.info(files[0]).samplerate == 16000
    assert not (root / "wav8k").exists()
    talkers = [
        {part.split("-")[0] for path in folder.glob("s1/*.wav") for part in path.stem.split("_")}
        for folder in (root / "wav16k" / "min" / "train-100", root / "wav16k" / "min" / "train-360")
    ]
    assert not talkers[0] & talkers[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_train": 0}, "n_train 0"),
        ({"n_talkers": 4}, "n_talkers is 4"),
        ({"sample_rate": 11025}, "whole kHz"),
        ({"modes": ("mean",)}, "choose min, max or both"),
        ({"min_s": 2.0, "max_s": 1.0}, "min_s 2.0 and max_s 1.0"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        EmbeddedLibri2Mix(**{**SMALL, **arguments})(tmp_path / "mix")
