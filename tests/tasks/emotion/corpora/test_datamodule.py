"""The datamodule of MSP-PODCAST: what takes part, what the model is told, and what a batch holds."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from hydra_preflight.resolvers import bind_data_attributes
from hydraudio.tasks.emotion.corpora import audio
from hydraudio.tasks.emotion.corpora.msp_podcast.datamodule import MSPPodcastDataModule
from hydraudio.tasks.emotion.corpora.msp_podcast.embedded import EmbeddedMSPPodcast
from hydraudio.tasks.emotion.corpora.utterances import manifest_fingerprint
from hydraudio.tasks.emotion.corpora.webdataset.writer import write_webdataset

LETTERS = "ASHUFDCN"
TABLE = "Labels/labels_consensus.csv"


@pytest.fixture
def make(msp_root, tmp_path) -> Callable[..., MSPPodcastDataModule]:
    """Datamodules on the tiny corpus."""

    def build(**options: Any) -> MSPPodcastDataModule:
        usual = {"root": str(msp_root), "batch_size": 32, "cache_dir": str(tmp_path / "cache")}
        return MSPPodcastDataModule(**{**usual, **options})

    return build


def table(root: Path) -> list[dict[str, str]]:
    """The consensus labels, read without any of our code."""
    with (root / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def edit(root: Path) -> Iterator[list[dict[str, str]]]:
    rows = table(root)
    yield rows
    with (root / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def light_copy(root: Path, folder: Path) -> Path:
    """A corpus whose labels may be changed; the audio is that of the original."""
    shutil.copytree(root / "Labels", folder / "Labels")
    (folder / "Audios").symlink_to(root / "Audios")
    return folder


def batches(data: MSPPodcastDataModule, use: str = "train") -> list[dict[str, Any]]:
    data.setup()
    return list(getattr(data, f"{use}_dataloader")())


def ids(data: MSPPodcastDataModule, use: str = "train") -> list[str]:
    return [each.file_name for each in data.chosen(use)]


# --- what the model is told ---


def test_counts_are_those_of_the_labelled_training_turns(make, msp_root):
    found = Counter(row["EmoClass"] for row in table(msp_root) if row["Split_Set"] == "Train")
    data = make()
    assert data.class_counts == [found[letter] for letter in LETTERS]
    assert (data.n_classes, data.class_names[0], data.class_letters) == (8, "Angry", list(LETTERS))
    assert (data.sample_rate, data.task, data.attribute_names) == (
        16000,
        "emotion",
        ["arousal", "valence", "dominance"],
    )


@pytest.mark.parametrize(("classes", "letters"), [(4, "ASHN"), (10, "ASHUFDCNOX"), (["Neutral", "Sad"], "NS")])
def test_other_sets_of_classes(make, msp_root, classes, letters):
    found = Counter(row["EmoClass"] for row in table(msp_root) if row["Split_Set"] == "Train")
    data = make(classes=classes)
    assert data.class_letters == list(letters)
    assert data.class_counts == [found[letter] for letter in letters]


def test_statistics_are_those_of_the_training_turns(make, msp_root):
    names = [r["FileName"] for r in table(msp_root) if r["Split_Set"] == "Train" and r["EmoClass"] in LETTERS]
    every = np.concatenate([soundfile.read(msp_root / "Audios" / name)[0] for name in names])
    data = make()
    assert data.waveform_mean == pytest.approx(every.mean(), abs=1e-12)
    assert data.waveform_std == pytest.approx(every.std(), rel=1e-9)
    cut = np.concatenate([soundfile.read(msp_root / "Audios" / name)[0][:8000] for name in names])
    assert make(max_s=0.5).waveform_std == pytest.approx(cut.std(), rel=1e-9)
    assert make(max_s=0.5, random_crop=True).waveform_std == data.waveform_std


def test_facts_are_known_before_prepare_data(tmp_path, monkeypatch):
    calls = []

    class Counted(EmbeddedMSPPodcast):
        def write(self, root: Path) -> None:
            calls.append(root)
            super().write(root)

    sizes = {"n_train": 12, "n_val": 8, "n_test1": 8, "n_test2": 8, "n_test3": 0, "n_speakers": 12}
    embedded = {**sizes, "min_s": 0.5, "max_s": 0.6, "n_processes": 1}
    monkeypatch.setattr(MSPPodcastDataModule, "embedded_corpus", lambda self: Counted)
    options = {"embedded": embedded, "data_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    data = MSPPodcastDataModule(**options)
    assert not calls
    assert sum(data.class_counts) > 0
    assert data.waveform_std > 0
    assert len(data.fingerprint) == 64
    data.prepare_data()
    assert MSPPodcastDataModule(**options).fingerprint == data.fingerprint
    assert len(calls) == 1


def test_nothing_is_written_where_a_corpus_should_be(make, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such corpus folder; set data\.root"):
        make(root=str(tmp_path / "corpus"), embedded={"n_processes": 1}).setup("fit")
    assert not (tmp_path / "corpus").exists()


def test_fingerprint_follows_the_labels_but_not_the_place(make, msp_root, tmp_path):
    moved = light_copy(msp_root, tmp_path / "moved")
    original = make().fingerprint
    assert make(root=str(moved)).fingerprint == original
    assert make(splits={"train": "Train", "val": "Development", "test": "Test1"}).fingerprint != original
    with edit(moved) as rows:
        rows[0]["EmoAct"] = "1.5"
    assert make(root=str(moved)).fingerprint != original


# --- what takes part ---


def test_splits_are_unions_in_the_order_of_the_table(make, msp_root):
    def named(*splits: str) -> list[str]:
        return [r["FileName"] for r in table(msp_root) if r["Split_Set"] in splits and r["EmoClass"] in LETTERS]

    data = make()
    assert ids(data, "train") == named("Train")
    assert ids(data, "val") == named("Development")
    assert ids(data, "test") == named("Test1", "Test2")
    assert ids(make(splits={"train": ["Train"], "val": "Development", "test": "Test2"}), "test") == named("Test2")
    data.setup()
    assert data.datasets["test"].items == named("Test1", "Test2")


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": "Train", "val": "Development"}, "it must say what train, val, test consist of"),
        ({"train": "Train", "val": [], "test": "Test1"}, "splits.val is empty"),
        ({"train": "Train", "val": "Development", "test": None}, "splits.test is empty"),
        ({"train": ["Train", "Test1"], "val": "Development", "test": "Test1"}, "Test1 is named twice"),
    ],
)
def test_impossible_splits_are_refused(make, splits, words):
    with pytest.raises(ValueError, match=words):
        make(splits=splits)


def test_an_unknown_split_is_answered_with_those_that_exist(make):
    data = make(splits={"train": "Train", "val": "Dev", "test": "Test1"})
    with pytest.raises(ValueError, match=r"no split 'Dev'; it has Development, Test1, Test2, Test3, Train"):
        data.setup("fit")


def test_unlabelled_turns_are_kept_on_request(make, msp_root):
    rows = table(msp_root)
    data = make(unlabelled="keep")
    assert ids(data, "train") == [row["FileName"] for row in rows if row["Split_Set"] == "Train"]
    pairs = [pair for batch in batches(data) for pair in zip(batch["id"], batch["label"].tolist(), strict=True)]
    labels = dict(pairs)
    assert all((labels[r["FileName"]] == -1) == (r["EmoClass"] in "OX") for r in rows if r["Split_Set"] == "Train")
    assert data.class_counts == make().class_counts
    assert "OX" not in {row.letter for row in data.chosen("test")}


def test_a_test_set_without_labels_can_be_kept(make):
    splits = {"train": "Train", "val": "Development", "test": "Test3"}
    with pytest.raises(ValueError, match=r"none of the 4 utterances of Test3 has a hard target .*unlabelled=keep"):
        make(splits=splits).setup("test")
    data = make(splits=splits, unlabelled="keep")
    batch = batches(data, "test")[0]
    assert batch["label"].tolist() == [-1] * 4
    assert torch.isnan(batch["attributes"]).all()
    assert not batch["target"].any()


def test_soft_targets_bring_turns_without_consensus_back_into_training(make, msp_root):
    data = make(targets="soft_p")
    train = [row for row in table(msp_root) if row["Split_Set"] == "Train"]
    without = {row["FileName"] for row in train if row["EmoClass"] in "OX"}
    assert len(without & set(ids(data))) > len(without) / 2
    assert {row.letter for row in data.chosen("test")} <= set(LETTERS)
    targets = torch.cat([batch["target"] for batch in batches(data)])
    assert targets.sum(1).numpy() == pytest.approx(np.ones(len(targets)), abs=1e-6)
    assert ((targets > 0).sum(1) > 1).float().mean() > 0.5
    assert data.class_counts == np.rint(targets.numpy().astype(np.float64).sum(0)).tolist()


def test_merged_targets_lie_between_the_two(make):
    def targets(**options: Any) -> dict[str, np.ndarray]:
        found = batches(make(**options), "val")
        pairs = (pair for batch in found for pair in zip(batch["id"], batch["target"].numpy(), strict=True))
        return dict(pairs)

    primary, mentions = targets(targets="soft_p"), targets(targets="soft_s")
    for name, row in targets(targets="merged", merge_weights=[0.0, 1.0]).items():
        np.testing.assert_allclose(row, mentions[name], atol=1e-6)
    assert any(not np.allclose(primary[name], mentions[name]) for name in primary)


def test_excluded_files_play_no_part(make, msp_root, tmp_path):
    names = ids(make())
    data = make(exclude=names[:2])
    assert ids(data) == names[2:]
    assert ids(make(exclude=names[0])) == names[1:]
    assert sum(data.class_counts) == len(names) - 2
    assert data.fingerprint != make().fingerprint
    assert data.waveform_std != make().waveform_std
    corpus = shutil.copytree(msp_root, tmp_path / "copy")
    soundfile.write(corpus / "Audios" / names[0], np.zeros(9000), 16000)
    assert [each.kind for each in make(root=str(corpus)).check()] == ["silent"]
    assert make(root=str(corpus), exclude=names[:1]).check() == []


def test_excluded_files_must_exist_unless_copies_differ(make, monkeypatch):
    data = make(exclude=["MSP-PODCAST_x.wav"])
    with pytest.raises(ValueError, match=r"the corpus does not have: MSP-PODCAST_x\.wav; .*exclude="):
        data.setup("fit")
    assert [each.kind for each in data.check()] == ["bad_exclude"]
    monkeypatch.setattr(MSPPodcastDataModule, "may_be_absent", ("MSP-PODCAST_x.wav",))
    same = make(exclude=["MSP-PODCAST_x.wav"])
    assert ids(same) == ids(make())
    assert same.check() == []


def test_attributes_that_nobody_rated_are_refused(make, msp_root, tmp_path):
    bare = light_copy(msp_root, tmp_path / "bare")
    with edit(bare) as rows:
        for row in rows:
            row["EmoDom"] = "" if row["Split_Set"] == "Train" else row["EmoDom"]
    data = make(root=str(bare))
    with pytest.raises(ValueError, match=r"rating of dominance; .*data\.attributes=\['arousal', 'valence'\]"):
        data.setup("fit")
    data.setup("test")  # a test set needs none
    make(root=str(bare), attributes=["valence", "arousal"]).setup("fit")


def test_limits_are_nested_and_depend_on_the_seed(make):
    small, large = (set(ids(make(max_train_samples=n))) for n in (8, 16))
    assert (len(small), len(large)) == (8, 16)
    assert ids(make(max_train_samples=16)) == [name for name in ids(make()) if name in large]
    assert small < large
    assert small != set(ids(make(max_train_samples=8, seed=1)))
    assert len(ids(make(max_test_samples=3), "test")) == 3


# --- votes and label files ---


def test_votes_are_read_where_they_are_there(make, msp_root, tmp_path):
    votes = torch.cat([batch["votes"] for batch in batches(make(), "val")])
    assert votes.sum(1).numpy() == pytest.approx(np.ones(len(votes)), abs=1e-6)
    assert torch.isnan(batches(make(votes=False), "val")[0]["votes"]).all()
    bare = light_copy(msp_root, tmp_path / "bare")
    for path in (bare / "Labels").iterdir():
        if "consensus" not in path.name:
            path.unlink()
    assert torch.isnan(batches(make(root=str(bare)), "val")[0]["votes"]).all()
    for options in ({"votes": True}, {"targets": "soft_p"}):
        with pytest.raises(FileNotFoundError, match=r"labels_detailed\.csv: no such file; .*targets=hard"):
            make(root=str(bare), **options).setup("fit")


def test_a_label_file_takes_the_place_of_the_consensus(make, msp_root, tmp_path):
    rows = [row for row in table(msp_root) if row["EmoClass"] in LETTERS]
    file = tmp_path / "processed_labels.csv"
    names = ["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"]
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["FileName", *names, "Split_Set"])
        for number, row in enumerate(rows):
            writer.writerow([row["FileName"], *np.eye(8)[number % 8].tolist(), row["Split_Set"]])
    expected = {row["FileName"]: number % 8 for number, row in enumerate(rows)}
    data = make(label_file=str(file))
    found = {row.file_name: LETTERS.index(row.letter) for use in ("train", "val", "test") for row in data.chosen(use)}
    assert found == expected
    assert not torch.isnan(batches(data, "val")[0]["attributes"]).all()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "Audios").symlink_to(msp_root / "Audios")
    alone = make(root=str(bare), label_file=str(file), attributes=[])
    assert ids(alone) == ids(data)
    assert batches(alone, "val")[0]["attributes"].shape[1] == 0


def test_labels_and_recordings_may_lie_apart(make, msp_root, tmp_path):
    together, bare = make(), tmp_path / "bare"
    bare.mkdir()
    for given in (
        {"root": str(bare), "labels_dir": str(msp_root / "Labels"), "audio_dir": str(msp_root / "Audios")},
        {"root": str(bare), "labels_dir": str(msp_root), "audio_dir": str(msp_root)},
        {"root": str(msp_root / "Labels"), "audio_dir": str(msp_root / "Audios")},
    ):
        apart = make(**given)
        assert [row.path for row in apart.chosen("train")] == [row.path for row in together.chosen("train")]
        assert apart.fingerprint == together.fingerprint
        assert apart.check() == together.check()


def test_a_folder_of_labels_or_recordings_that_cannot_serve_is_named(make, msp_root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/nowhere: no such folder; check data\.audio_dir"):
        make(audio_dir="/nowhere").setup("fit")
    with pytest.raises(ValueError, match=r"data\.labels_dir needs data\.root"):
        make(root=None, embedded={}, labels_dir=str(msp_root))
    write_webdataset(make().utterances, tmp_path / "shards", "msp_podcast", samples_per_shard=20)
    with pytest.raises(ValueError, match=r"set data\.audio_dir to null"):
        make(root=str(tmp_path / "shards"), audio_dir=str(msp_root)).setup("fit")


def test_a_label_file_of_another_release_is_named(make, tmp_path):
    file = tmp_path / "processed_labels.csv"
    file.write_text(
        "FileName,Angry,Sad,Happy,Surprise,Fear,Disgust,Contempt,Neutral,Split_Set\nq.wav,1,0,0,0,0,0,0,0,Train\n"
    )
    with pytest.raises(ValueError, match=r"processed_labels.csv: .*does not have, e.g. q.wav"):
        make(label_file=str(file)).setup("fit")


def test_shards_give_the_same_batches_as_files(make, tmp_path):
    files = make()
    write_webdataset(files.utterances, tmp_path / "shards", "msp_podcast", samples_per_shard=20)
    shards = make(root=str(tmp_path / "shards"))
    assert shards.class_counts == files.class_counts
    assert shards.waveform_std == files.waveform_std
    half = make(root=str(tmp_path / "shards"), sample_rate=8000)
    assert all(len(batch["waveform"]) for batch in batches(half, "test"))
    assert half.datasets["test"].lengths.sum() * 2 == pytest.approx(
        sum(soundfile.info(row.path).frames for row in files.chosen("test")), abs=40
    )
    for one, other in zip(batches(files, "test"), batches(shards, "test"), strict=True):
        for name in ("waveform", "lengths", "label", "target", "votes", "gender"):
            torch.testing.assert_close(one[name], other[name], equal_nan=True)
        torch.testing.assert_close(one["attributes"], other["attributes"], equal_nan=True)
        assert one["id"] == other["id"]
        assert "tar#" in other["metadata"][0]["path"]


# --- batches ---


def test_batches_hold_the_budget_and_every_turn(make):
    data = make(batch_size=10, batch_s=9.0)
    found = batches(data)
    assert sorted(name for batch in found for name in batch["id"]) == sorted(ids(data))
    assert max(batch["waveform"].numel() for batch in found) <= 9 * 16000 * 1.07
    assert max(len(batch["id"]) for batch in found) <= 10
    evaluated = batches(data, "test")
    assert max(batch["waveform"].numel() for batch in evaluated) <= 9 * 16000
    assert evaluated[0]["waveform"].shape[1] == max(data.datasets["test"].lengths)


@pytest.mark.parametrize("bucketing", [False, True])
def test_no_training_batch_holds_one_item(make, bucketing):
    data = make(batch_s=None, batch_size=4, bucketing=bucketing, max_train_samples=9, max_val_samples=9)
    data.setup("fit")
    left_out = []
    sampler = data.train_dataloader().batch_sampler
    for epoch in range(40):
        sampler.set_epoch(epoch)
        assert sampler.batch_sizes() == [4] * len(sampler) == [4, 4]
        left_out += [set(range(9)).difference(index for batch in sampler for _, index in batch)]
    assert all(len(items) == 1 for items in left_out)
    assert len(set().union(*left_out)) >= 3  # not in every epoch the same
    assert sum(data.val_dataloader().batch_sampler.batch_sizes()) == 9


def test_evaluation_has_a_budget_of_its_own(make):
    assert {len(batch["id"]) for batch in batches(make(batch_s=9.0, eval_batch_s=0.1), "val")} == {1}
    plain = batches(make(batch_size=4, eval_batch_size=7, bucketing=False), "test")
    assert [len(batch["id"]) for batch in plain[:-1]] == [7] * (len(plain) - 1)


def test_loaders_are_made_as_asked(make):
    data = make(num_workers=2, pin_memory=True)
    data.setup("fit")
    loaders = (data.train_dataloader(), data.val_dataloader())
    assert {(loader.num_workers, loader.pin_memory, loader.persistent_workers) for loader in loaders} == {
        (2, True, True)
    }


def test_a_budget_without_bucketing_is_refused(make):
    with pytest.raises(ValueError, match="batch_s and eval_batch_s need bucketing=true"):
        make(batch_s=10.0, bucketing=False)


def test_balanced_epochs_draw_all_classes_equally(make):
    data = make(sampling="balanced", batch_size=4)
    labels = torch.cat([batch["label"] for batch in batches(data)])
    counts = np.bincount(labels, minlength=8)
    assert counts.sum() == len(data.chosen("train"))
    assert counts.max() - counts.min() <= 2 < max(data.class_counts) - min(data.class_counts)
    roots = np.sqrt(data.class_counts)
    mild = np.bincount(torch.cat([b["label"] for b in batches(make(sampling="sqrt", batch_size=4))]), minlength=8)
    np.testing.assert_allclose(mild, counts.sum() * roots / roots.sum(), atol=2.1)


def test_the_order_of_batches_follows_the_seed(make):
    orders = [[batch["id"] for batch in batches(make(seed=seed, batch_size=4))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.slow
def test_workers_change_nothing(make):
    for one, other in zip(batches(make(batch_s=9.0)), batches(make(batch_s=9.0, num_workers=2)), strict=True):
        assert one["id"] == other["id"]
        assert torch.equal(one["waveform"], other["waveform"])


class Listener(pl.LightningModule):
    """Notes the items of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[str]] = []

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        self.seen.append(batch["id"])
        return self.weight.sum() * batch["waveform"].mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(pl.Callback):
    """Writes a checkpoint when so many steps are done, as `LastCheckpoint` does."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_a_run_continues_inside_an_epoch_of_budgeted_batches(make, tmp_path, sampling):
    def fit(**options: Any) -> list[list[str]]:
        model, path = Listener(), options.pop("ckpt_path", None)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        settings = {"accelerator": "cpu", "max_epochs": 3, "limit_val_batches": 0, "enable_checkpointing": False}
        trainer = pl.Trainer(default_root_dir=tmp_path, **quiet, **settings, **options)
        trainer.fit(model, make(batch_s=9.0, batch_size=8, sampling=sampling), ckpt_path=path)
        return model.seen

    whole = fit(callbacks=[SaveAt(9, tmp_path / "middle.ckpt")])
    assert len(whole) % 3 == 0
    assert 9 % (len(whole) // 3) > 0  # inside an epoch
    assert fit(ckpt_path=tmp_path / "middle.ckpt") == whole[9:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unlabelled": "skip"}, "drop, keep"),
        ({"sampling": "even"}, "natural, sqrt, balanced"),
        ({"max_s": 0}, "max_s=0 must be positive"),
        ({"batch_s": -1.0}, "batch_s=-1.0 must be positive"),
        ({"max_val_samples": 0}, "max_val_samples=0"),
        ({"root": None}, "either root"),
    ],
)
def test_wrong_options_are_refused(make, options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_crops_and_smoothing_are_for_training_only(make):
    data = make(max_s=0.5, random_crop=True, smoothing=0.07)
    data.setup()
    for use, dataset in data.datasets.items():
        items = [(dataset[(epoch, 0)]["waveform"], dataset[(epoch, 0)]["target"].max()) for epoch in range(3)]
        same = all(np.array_equal(items[0][0], other) for other, _ in items)
        assert (same, items[0][1]) == (use != "train", pytest.approx(0.93 if use == "train" else 1.0))


# --- speakers ---


def test_speakers_of_two_uses_are_warned_about(make, msp_root, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        make().setup("fit")
    assert not caplog.records
    corpus = light_copy(msp_root, tmp_path / "leaky")
    with edit(corpus) as rows:
        known = next(r["SpkrID"] for r in rows if r["Split_Set"] == "Train" and r["SpkrID"] != "Unknown")
        for row in [row for row in rows if row["Split_Set"] == "Test1"][:3]:
            row["SpkrID"] = known
        for row in [row for row in rows if row["Split_Set"] == "Development"][:2]:
            row["SpkrID"] = "Unknown"
    make(root=str(corpus)).setup("fit")
    text = rf"train and test share 1 speaker \({known}; 3 of 20 utterances of test\)"
    assert [record.message for record in caplog.records if "share" in record.message]
    assert re.search(text, caplog.text)
    assert "train and val share" not in caplog.text


# --- cached features ---


class Features:
    """Stands for a network: two layers of levels per 100 samples; counts what it is asked."""

    def __init__(self, what: str = "frames") -> None:
        self.what, self.seen = what, []

    def __call__(self, batch: dict[str, Any]) -> list[np.ndarray]:
        self.seen += batch["id"]
        return [self.of(waveform[:n].numpy()) for waveform, n in zip(batch["waveform"], batch["lengths"], strict=True)]

    def of(self, waveform: np.ndarray) -> np.ndarray:
        frames = np.abs(waveform[: len(waveform) // 100 * 100].reshape(-1, 100)).mean(1)[:, None] * np.arange(1, 4)
        layers = np.stack([frames, -frames])
        return layers if self.what == "frames" else np.concatenate([layers.mean(1), layers.std(1)], axis=-1)


@pytest.mark.parametrize("what", ["frames", "statistics"])
def test_cached_features_take_the_place_of_waveforms(make, what, tmp_path):
    network, data = Features(what), make(batch_s=9.0)
    data.setup("fit")
    waveforms = {
        row.file_name: data.datasets["train"][(0, n)]["waveform"] for n, row in enumerate(data.chosen("train"))
    }
    with pytest.raises(ValueError, match="choose one of frames, statistics"):
        data.cache_features("key", "mean", network)
    data.cache_features("key", what, network)
    assert sorted(network.seen) == sorted(ids(data, "train") + ids(data, "val"))
    if what == "statistics":  # of one size: no budget of seconds
        assert max(len(batch["id"]) for batch in data.train_dataloader()) == data.batch_size
    for batch in data.train_dataloader():
        assert "waveform" not in batch
        for name, features, length in zip(batch["id"], batch["features"], batch["frame_lengths"], strict=True):
            expected = network.of(waveforms[name])
            assert length == (expected.shape[1] if what == "frames" else 1)
            if what == "frames":
                assert not features[:, length:].any()
                features = features[:, :length]
            np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-6)
    data.setup("test")
    data.cache_features("key", what, network)
    assert sorted(network.seen) == sorted(ids(data, "train") + ids(data, "val") + ids(data, "test"))


def test_features_are_computed_once_per_key_and_content(make, msp_root, tmp_path):
    def n_computed(key: str = "key", **options: Any) -> int:
        network, data = Features(), make(**options)
        data.setup("fit")
        data.cache_features(key, "frames", network)
        return len(network.seen)

    assert n_computed(max_train_samples=20) > 20
    assert n_computed(max_train_samples=20) == 0
    assert n_computed() == len(ids(make())) - 20  # what the limit left out
    moved = shutil.copytree(msp_root, tmp_path / "moved")
    assert n_computed(root=str(moved)) == 0
    name = ids(make(), "val")[0]
    soundfile.write(moved / "Audios" / name, np.full(9000, 0.25), 16000)
    assert n_computed(root=str(moved)) == 1
    assert n_computed("another network") > 20
    assert 20 < n_computed(max_s=0.9) <= len(ids(make())) + len(ids(make(), "val"))


def test_features_of_random_crops_are_refused(make):
    data = make(random_crop=True)
    data.setup("fit")
    with pytest.raises(ValueError, match="random_crop=false"):
        data.cache_features("key", "frames", Features())


def test_statistics_lie_beside_the_checkpoints(make, tmp_path):
    path = tmp_path / "run" / "checkpoints" / "waveform_statistics.json"

    def setup(is_global_zero: bool = True, used: bool = True, stage: str = "fit") -> MSPPodcastDataModule:
        data = make()
        data.trainer = SimpleNamespace(is_global_zero=is_global_zero, default_root_dir=str(tmp_path / "run"))
        assert not used or data.waveform_mean
        data.setup(stage)
        return data

    for unwritten in ({"used": False}, {"is_global_zero": False}, {"stage": "test"}):
        setup(**unwritten)
        assert not path.exists()
    data = setup()
    content = json.loads(path.read_text())
    n_samples = sum(soundfile.info(row.path).frames for row in data.chosen("train"))
    assert content.pop("fingerprint") == manifest_fingerprint(data.chosen("train"))
    expected = {"mean": data.waveform_mean, "std": data.waveform_std, "n_samples": n_samples}
    assert content == {**expected, "n_files": len(data.chosen("train"))}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_statistics_are_computed_once(make, monkeypatch):
    first = make().waveform_std
    monkeypatch.setattr(audio, "compute_statistics", lambda *_: pytest.fail("computed again"))
    assert make().waveform_std == first


def test_configurations_may_read_what_the_corpus_knows(make):
    data = make(max_train_samples=16)
    bind_data_attributes(data)
    names = ("class_counts", "waveform_mean", "waveform_std", "n_classes", "class_names", "sample_rate")
    values = OmegaConf.create({name: f"${{data_attribute:{name}}}" for name in (*names, "attribute_names")})
    for name, value in OmegaConf.to_container(values, resolve=True).items():
        assert value == getattr(data, name)
