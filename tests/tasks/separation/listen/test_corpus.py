"""The items of any corpus that follows the protocol."""

import numpy as np

from hydraudio.report.listen.corpus import Corpus


class FakeDataset:
    items = [("a_1.wav", "both"), ("a_1.wav", "clean"), ("b_2.wav", "both"), ("b_2.wav", "clean")]

    def __getitem__(self, key):
        epoch, index = key
        assert epoch == 0
        item_id, variant = self.items[index]
        mixture = np.arange(10, dtype=np.float64) + index
        target = np.stack([mixture, -mixture])
        return {
            "mixture": mixture,
            "target": target,
            "id": item_id,
            "variant": variant,
            "degenerate": False,
        }


class FakeData:
    root = "/somewhere"

    def prepare_data(self):
        self.prepared = True

    def setup(self, stage):
        assert stage == "test"
        assert self.prepared
        self.datasets = {"test": FakeDataset()}


def test_find_by_variant_and_text():
    corpus = Corpus(FakeData())
    assert corpus.variants == ["both", "clean"]
    assert corpus.find() == [0, 1, 2, 3]
    assert corpus.find("clean") == [1, 3]
    assert corpus.find(text=" B_2") == [2, 3]
    assert corpus.find("both", "b_2") == [2]
    assert corpus.find("both", "missing") == []
    assert corpus.find(limit=3) == [0, 1, 2]
    assert (corpus.name, corpus.problem) == ("/somewhere", None)


def test_item():
    item = Corpus(FakeData()).item(2)
    assert (item.item_id, item.variant, item.degenerate) == ("b_2.wav", "both", False)
    assert item.mixture.tolist() == list(range(2, 12))
    assert item.targets.shape == (2, 10)
    assert item.mixture.dtype == item.targets.dtype == np.float32


def test_only_corpora_with_mixtures_are_offered(repository):
    from hydraudio.report.listen.session import holds_mixtures

    offered = {path.stem for path in (repository / "configs" / "data").glob("[!_]*.yaml") if holds_mixtures(path)}
    assert {"polsess", "libri2mix"} <= offered
    assert not offered & {"msp_podcast", "iemocap", "crema_d", "ravdess"}


def test_corpus_of_another_package_is_offered(tmp_path):
    from hydraudio.report.listen.session import holds_mixtures

    (tmp_path / "mine.yaml").write_text("_target_: mine.Data")
    assert holds_mixtures(tmp_path / "mine.yaml")
