"""The base of the datamodules: where the corpus lies, what a stage needs, how many items take part."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from hydraudio.core.corpus import CorpusDataModule
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.options import check_choice, check_positive
from hydraudio.core.sampling import check_limits, nested_sample


@dataclass(frozen=True, kw_only=True)
class EmbeddedNumbers(EmbeddedCorpus):
    def write(self, root):
        (root / "numbers.txt").touch()


class Numbers(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, key):
        return key[1]


class NumbersDataModule(CorpusDataModule):
    corpus = "numbers"
    layout = "a folder of numbers"

    @classmethod
    def embedded_corpus(cls):
        return EmbeddedNumbers

    def _make_dataset(self, split):
        return Numbers()

    def _loader(self, split):
        return self._build_loader(
            self.datasets[split], training=split == "train", trainer=self.trainer, collate_fn=torch.tensor
        )


def make(root=None, embedded=None, data_dir="data", eval_batch_size=None):
    return NumbersDataModule(root, embedded, data_dir, 3, eval_batch_size, 0, False, 0)


@pytest.mark.parametrize(
    ("stage", "splits"),
    [
        ("fit", ["train", "val"]),
        ("validate", ["val"]),
        ("test", ["test"]),
        ("predict", []),
        (None, ["train", "val", "test"]),
    ],
)
def test_a_stage_makes_its_datasets_once(stage, splits, tmp_path):
    data = make(str(tmp_path))
    data.setup(stage)
    assert list(data.datasets) == splits
    first = dict(data.datasets)
    data.setup(None)
    assert all(data.datasets[split] is first[split] for split in splits)


def test_loaders_shuffle_only_training(tmp_path):
    data = make(str(tmp_path), eval_batch_size=5)
    data.setup()
    train, val, test = (
        list(loader) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert [len(batch) for batch in train] == [3, 3, 3, 1]
    assert [len(batch) for batch in val] == [len(batch) for batch in test] == [5, 5]
    assert sorted(torch.cat(train).tolist()) == torch.cat(val).tolist() == torch.cat(test).tolist() == list(range(10))
    assert torch.cat(train).tolist() != list(range(10))


def test_the_embedded_corpus_is_made_in_prepare_data_only(tmp_path):
    data = make(embedded={}, data_dir=str(tmp_path))
    assert data.root.name.startswith("numbers_embedded_")
    with pytest.raises(FileNotFoundError, match="no such corpus folder"):
        data.setup()
    data.prepare_data()
    assert data.root.is_dir()
    given = make(str(tmp_path / "mine"), {}, str(tmp_path))  # a root that was given is never written
    with pytest.raises(FileNotFoundError, match=r"mine: .* set data\.root to a folder of numbers, or to null"):
        given.prepare_data()


@pytest.mark.parametrize("name", ["_target_", "folder", "sede"])
def test_embedded_holds_the_attributes_of_what_is_written_and_nothing_else(name, tmp_path):
    assert make(embedded={"seed": 3}, data_dir=str(tmp_path)).root != make(embedded={}, data_dir=str(tmp_path)).root
    with pytest.raises(ValueError, match=f"EmbeddedNumbers has no '{name}'; it has seed, n_processes"):
        make(embedded={name: "os.system"}, data_dir=str(tmp_path))


def test_nested_samples():
    draws = {limit: nested_sample(50, limit, 7, "train").tolist() for limit in (1, 5, 20, 49)}
    for limit, rows in draws.items():
        assert len(set(rows)) == limit
        assert rows == sorted(rows)
    assert set(draws[1]) < set(draws[5]) < set(draws[20]) < set(draws[49])
    for limit in (None, 50, 99):
        np.testing.assert_array_equal(nested_sample(50, limit, 7, "train"), np.arange(50))
    others = [nested_sample(50, 20, 7, "val"), nested_sample(50, 20, 8, "train")]
    assert all(other.tolist() != draws[20] for other in others)


def test_options_are_checked():
    assert check_limits(None, 1, 2) == {"train": None, "val": 1, "test": 2}
    with pytest.raises(ValueError, match="max_val_samples=0 must be at least 1, or null for all"):
        check_limits(1, 0, 1)
    assert (check_choice("mode", "a", {"a": 0, "b": 1}), check_positive("s", None), check_positive("s", 0.5)) == (
        "a",
        None,
        0.5,
    )
    with pytest.raises(ValueError, match="mode='c' is unknown; choose one of a, b"):
        check_choice("mode", "c", ("a", "b"))
    for value in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"s={value} must be positive, or null"):
            check_positive("s", value)


def test_check_names_what_setup_stops_with(tmp_path, monkeypatch):
    data = make(str(tmp_path))
    assert data.check() == []
    assert make(str(tmp_path / "none")).check()[0].kind == "missing_root"

    def refuse(split):
        raise ValueError(f"{split}: row 3 is wrong")

    broken = make(str(tmp_path))
    monkeypatch.setattr(broken, "_make_dataset", refuse)
    assert [(defect.kind, defect.message) for defect in broken.check()] == [("unusable", "train: row 3 is wrong")]


def test_limits_choose_nested_parts(tmp_path):
    few, more = (NumbersDataModule(str(tmp_path), max_train_samples=limit)._chosen(10, "train") for limit in (3, 6))
    assert set(few.tolist()) < set(more.tolist())
    assert NumbersDataModule(str(tmp_path))._chosen(10, "val").tolist() == list(range(10))
