"""Libri2Mix: rows from either table or none, joined by identifier; crops, padding, subsets, evaluation metadata."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.tasks.separation.corpora.libri2mix.datamodule import Libri2MixDataModule

RATE = 8000


def make(root: Path, stage: str | None = None, **options: Any) -> Libri2MixDataModule:
    data = Libri2MixDataModule(root=str(root), **options)
    data.prepare_data()
    data.setup(stage)
    return data


def read(root: Path, subset: str, part: str, name: str, mode: str = "min") -> np.ndarray:
    signal, _ = soundfile.read(root / "wav8k" / mode / subset / part / f"{name}.wav", dtype="float32")
    return signal


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, lines: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def identifiers(data: Libri2MixDataModule, subset: str) -> list[str]:
    dataset = data.datasets[subset]
    return [str(dataset.indices[s].ids[row]) for s, row in zip(dataset.subsets, dataset.rows, strict=True)]


@pytest.fixture
def copy(libri2mix_root, tmp_path) -> Path:
    """A corpus that the test may change."""
    return Path(shutil.copytree(libri2mix_root, tmp_path / "Libri2Mix"))


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("problem", "sources"), [("mix_clean", ["s1", "s2"]), ("mix_both", ["s1", "s2"]), ("mix_single", ["s1"])]
)
def test_whole_items_are_the_files_of_one_identifier(libri2mix_root, problem, sources, mode):
    data = make(libri2mix_root, "test", problem=problem, mode=mode, eval_batch_size=3)
    assert data.n_sources == len(sources) == data.problems[problem]
    batches = list(data.test_dataloader())
    assert sorted(name for batch in batches for name in batch["id"]) == sorted(identifiers(data, "test"))
    for batch in batches:
        assert batch["variant"] == [problem] * len(batch["id"])
        assert not batch["degenerate"].any()
        assert batch["padded"] is (len(set(batch["lengths"].tolist())) > 1)
        for k, (name, length) in enumerate(zip(batch["id"], batch["lengths"].tolist(), strict=True)):
            mixture = read(libri2mix_root, "test", problem, name, mode)
            assert length == len(mixture)
            np.testing.assert_array_equal(batch["mixture"][k, :length].numpy(), mixture)
            for source, part in enumerate(sources):
                expected = read(libri2mix_root, "test", part, name, mode)
                np.testing.assert_array_equal(batch["target"][k, source, :length].numpy(), expected)
            assert not batch["mixture"][k, length:].any()
            assert not batch["target"][k, :, length:].any()


def test_all_ways_to_know_the_rows_agree(copy):
    """The generator's table per mixture, the table it started from, and the bare folders."""
    by_mixture_table = make(copy, "fit", batch_size=2)
    assert by_mixture_table.datasets["train"].indices[0].table.name == "mixture_train-100_mix_clean.csv"
    shutil.rmtree(copy / "wav8k" / "min" / "metadata")
    by_generator_table = make(copy, "fit", batch_size=2)
    assert by_generator_table.datasets["train"].indices[0].table.name == "libri2mix_train-clean-100.csv"
    (copy / "metadata").rename(copy.parent / "metadata")  # beside the corpus, as in the generator's own tree
    beside = make(copy, "fit", batch_size=2)
    shutil.rmtree(copy.parent / "metadata")
    by_files = make(copy, "fit", batch_size=2)
    assert by_files.datasets["train"].indices[0].table is None
    names = identifiers(by_mixture_table, "train")
    assert identifiers(by_generator_table, "train") == identifiers(beside, "train") == names
    assert identifiers(by_files, "train") == sorted(names)
    lengths = [dict(zip(identifiers(d, "train"), d.datasets["train"].lengths.tolist(), strict=True)) for d in
               (by_mixture_table, by_generator_table, by_files)]  # fmt: skip
    assert lengths[0] == lengths[1] == lengths[2]


def test_targets_belong_to_the_mixture_whatever_is_left_out(copy):
    """Rows that one table lacks, another order and a length filter: nothing is ever joined by position."""
    path = copy / "wav8k" / "min" / "metadata" / "mixture_train-100_mix_both.csv"
    lines = table(path)
    write(path, lines[::-1][1:])
    other = copy / "wav8k" / "min" / "metadata" / "mixture_train-100_mix_clean.csv"
    write(other, table(other)[2:5])
    median_s = float(np.median([int(line["length"]) for line in lines])) / RATE
    data = make(copy, "fit", problem="mix_both", min_length_s=median_s, batch_size=2)
    kept = [line["mixture_ID"] for line in lines[::-1][1:] if int(line["length"]) >= median_s * RATE]
    assert identifiers(data, "train") == kept
    assert 0 < len(kept) < len(lines) - 1
    for batch in data.train_dataloader():
        for k, (name, length) in enumerate(zip(batch["id"], batch["lengths"].tolist(), strict=True)):
            for source, part in enumerate(("s1", "s2")):
                expected = read(copy, "train-100", part, name)
                np.testing.assert_array_equal(batch["target"][k, source, :length].numpy(), expected)


def test_rows_that_mix_up_two_recordings_are_refused(copy):
    path = copy / "wav8k" / "min" / "metadata" / "mixture_train-100_mix_clean.csv"
    lines = table(path)
    lines[0]["source_1_path"], lines[1]["source_1_path"] = lines[1]["source_1_path"], lines[0]["source_1_path"]
    write(path, lines)
    with pytest.raises(ValueError, match=r"line 2: column source_1_path names .* but mixture_ID is .* mixed up"):
        make(copy, "fit")


def test_crops_are_aligned_and_drawn_per_epoch(libri2mix_root):
    data = make(libri2mix_root, "fit", segment_s=0.3, batch_size=5)
    starts = set()
    for epoch in range(3):
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            assert batch["padded"] is False
            assert batch["mixture"].shape == (5, 2400)
            for k, name in enumerate(batch["id"]):
                whole = read(libri2mix_root, "train-100", "mix_clean", name)
                crop = batch["mixture"][k].numpy()
                places = [s for s in range(len(whole) - 2399) if np.array_equal(whole[s : s + 2400], crop)]
                assert places
                first = read(libri2mix_root, "train-100", "s1", name)[places[0] : places[0] + 2400]
                np.testing.assert_array_equal(batch["target"][k, 0].numpy(), first)
                starts.add((name, places[0]))
    assert len(starts) > 25
    again = make(libri2mix_root, "fit", segment_s=0.3, batch_size=5).datasets["train"][(2, 4)]
    assert torch.equal(torch.from_numpy(again["mixture"]), torch.from_numpy(data.datasets["train"][(2, 4)]["mixture"]))


def test_short_utterances_stay_whole_or_are_left_out(libri2mix_root):
    lengths = make(libri2mix_root, "fit").datasets["train"].file_lengths
    limit_s = float(np.sort(lengths)[4]) / RATE
    padded = make(libri2mix_root, "fit", segment_s=limit_s, batch_size=10)
    batch = next(iter(padded.train_dataloader()))
    assert batch["padded"] is True
    assert sorted(batch["lengths"].tolist()) == sorted(np.minimum(lengths, round(limit_s * RATE)).tolist())
    dropped = make(libri2mix_root, "fit", segment_s=limit_s, min_length_s=limit_s, batch_size=3)
    assert len(dropped.datasets["train"]) == 6
    assert all(batch["padded"] is False for batch in dropped.train_dataloader())
    assert len(dropped.datasets["val"]) == 4  # nothing is left out of validation
    with pytest.raises(ValueError, match=r"min_length_s=9.* leaves no training mixture .* longest has"):
        make(libri2mix_root, "fit", min_length_s=9.0)


def test_crops_avoid_the_silent_end_of_a_talker(libri2mix_root):
    """In max mode the shorter utterance ends early; a crop begins where both are audible, if there is such a place."""
    data = make(libri2mix_root, "fit", mode="max", segment_s=0.25, batch_size=10)
    silent = 0
    for epoch in range(8):
        items = [data.datasets["train"][(epoch, index)] for index in range(10)]
        silent += sum(bool((np.abs(item["target"]).max(axis=1) == 0).any()) for item in items)
    assert silent <= 1


def test_bucketing_keeps_similar_lengths_together(libri2mix_root):
    shares = {}
    for bucketing in (True, False):
        data = make(libri2mix_root, "fit", bucketing=bucketing, batch_size=2, train_subsets=["train-100", "train-360"])
        batches = list(data.train_dataloader())
        n_slots = sum(batch["mixture"].numel() for batch in batches)
        shares[bucketing] = 1 - sum(int(batch["lengths"].sum()) for batch in batches) / n_slots
    assert shares[True] < 0.6 * shares[False]


def test_both_training_sets_and_limits(libri2mix_root):
    both = make(libri2mix_root, "fit", train_subsets=["train-100", "train-360"])
    assert len(both.datasets["train"]) == 14
    item = both.datasets["train"][(0, 12)]
    np.testing.assert_array_equal(item["mixture"], read(libri2mix_root, "train-360", "mix_clean", item["id"]))
    limited = {
        n: identifiers(
            make(libri2mix_root, "fit", train_subsets=["train-360", "train-100"], max_train_samples=n), "train"
        )
        for n in (4, 9)
    }
    assert (len(limited[4]), len(limited[9])) == (4, 9)
    assert set(limited[4]) < set(limited[9])


def test_metadata_says_levels_and_talkers(libri2mix_root):
    for problem in ("mix_clean", "mix_both", "mix_single"):
        metrics = table(libri2mix_root / "wav8k" / "min" / "metadata" / f"metrics_test_{problem}.csv")
        expected = {line["mixture_ID"]: line for line in metrics}
        infos = table(libri2mix_root / "metadata" / "libri2mix_test-clean_info.csv")
        sexes = {line["mixture_ID"]: [line["speaker_1_sex"], line["speaker_2_sex"]] for line in infos}
        data = make(libri2mix_root, "test", problem=problem)
        for k in range(4):
            item = data.datasets["test"][(0, k)]
            metadata, line = item["metadata"], expected[item["id"]]
            for source in range(1, data.n_sources + 1):
                figure = metadata[f"source_{source}_snr_db"]
                assert figure == pytest.approx(float(line[f"source_{source}_SNR"]), abs=0.1)
            if problem == "mix_both":
                assert metadata["noise_db"] == pytest.approx(float(line["noise_SNR"]), abs=0.1)
            assert ("ssr_db" in metadata) == (data.n_sources == 2)
            assert metadata["sexes"] == "+".join(sorted(sexes[item["id"]][: data.n_sources]))
            assert metadata["talkers"].split() == [u.split("-")[0] for u in item["id"].split("_")][: data.n_sources]


def test_fingerprint_tells_corpora_apart(libri2mix_root, copy):
    def fingerprint(root: Path, **options: Any) -> str:
        return Libri2MixDataModule(root=str(root), **options).fingerprint

    known = fingerprint(libri2mix_root)
    assert fingerprint(copy) == known
    others = [fingerprint(libri2mix_root, mode="max"), fingerprint(libri2mix_root, problem="mix_both")]
    path = copy / "wav8k" / "min" / "metadata" / "mixture_dev_mix_clean.csv"
    write(path, table(path)[1:])
    assert len({known, *others, fingerprint(copy)}) == 4


def test_embedded_corpus_is_written_once(tmp_path, libri2mix_root, monkeypatch):
    calls = []

    class Copied(EmbeddedCorpus):
        version = 1

        def write(self, root: Path) -> None:
            calls.append(root)
            shutil.copytree(libri2mix_root, root, dirs_exist_ok=True)

    monkeypatch.setattr(Libri2MixDataModule, "embedded_corpus", lambda self: Copied)
    for _ in range(2):
        data = Libri2MixDataModule(embedded={}, data_dir=str(tmp_path))
        data.prepare_data()
        data.setup("test")
    assert len(calls) == 1
    assert data.root.name.startswith("libri2mix_embedded_")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"problem": "mix_all"}, "problem='mix_all' is unknown.*choose one of mix_clean, mix_both, mix_single"),
        ({"mode": "mean"}, "mode='mean' is unknown.*choose one of min, max"),
        ({"sample_rate": 44100}, "sample_rate=44100 is unknown; choose one of 8000, 16000"),
        ({"segment_s": 0}, "segment_s=0 must be positive"),
        ({"min_length_s": -1.0}, "min_length_s=-1.0 must be positive"),
        ({"max_val_samples": 0}, "max_val_samples=0 must be at least 1"),
        ({"train_subsets": []}, r"train_subsets=\[\] must name at least one folder"),
        ({"test_subsets": ["test", "test"]}, "and none twice"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Libri2MixDataModule(root="x", **options)


def test_a_corpus_or_a_generator_is_needed():
    with pytest.raises(ValueError, match="either root"):
        Libri2MixDataModule()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_rate": 16000}, r"wav16k/min: no such folder; the corpus holds wav8k/max, wav8k/min: set data.sample"),
        ({"train_subsets": "train-500"}, r"train-500: no such subset; there are dev, test, train-100, train-360"),
    ],
)
def test_what_was_not_generated_is_named(libri2mix_root, options, words):
    with pytest.raises(FileNotFoundError, match=words):
        make(libri2mix_root, "fit", **options)


def test_folders_around_the_corpus_are_recognised(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"set data.root to .*Libri2Mix$"):
        make(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such corpus folder; set data.root"):
        make(tmp_path / "nowhere", "test")
    shutil.rmtree(copy / "wav8k" / "min" / "test" / "mix_both")
    with pytest.raises(
        FileNotFoundError, match=r"mix_both: no such folder; set data.problem to one of mix_clean, mix_s"
    ):
        make(copy, "test", problem="mix_both")
