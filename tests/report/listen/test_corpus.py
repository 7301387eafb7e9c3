"""The items of any corpus that follows the protocol."""

from types import SimpleNamespace

import numpy as np

from hydraudio.report.listen.corpus import Corpus


class FakeDataset:
    items = [("a_1.wav", "both"), ("a_1.wav", "clean"), ("b_2.wav", "both"), ("b_2.wav", "clean")]

    def __getitem__(self, key):
        epoch, index = key
        assert epoch == 0
        return np.arange(10) + index


class FakeData:
    root = "/somewhere"

    def prepare_data(self):
        self.prepared = True

    def setup(self, stage):
        assert stage == "test"
        assert self.prepared
        self.datasets = {"test": FakeDataset()}

    def test_dataloader(self):
        return SimpleNamespace(collate_fn=np.stack)


def test_find_by_group_and_text():
    corpus = Corpus(FakeData())
    assert corpus.groups == ["both", "clean"]
    assert corpus.find() == [0, 1, 2, 3]
    assert corpus.find("clean") == [1, 3]
    assert corpus.find(text=" B_2") == [2, 3]
    assert corpus.find("both", "b_2") == [2]
    assert corpus.find("both", "missing") == []
    assert corpus.find(limit=3) == [0, 1, 2]
    assert (corpus.name, corpus.problem) == ("/somewhere", None)


def test_an_item_is_a_batch_of_one():
    assert Corpus(FakeData()).batch(2).tolist() == [list(range(2, 12))]


def test_items_without_groups(monkeypatch):
    monkeypatch.setattr(FakeDataset, "items", ["a.wav", "b.wav"])
    corpus = Corpus(FakeData())
    assert corpus.items == [("a.wav", ""), ("b.wav", "")]
    assert corpus.groups == []
    assert corpus.find(text="b") == [1]
