"""Any folder of sounds: trees, tables of four formats, splits by column, fold and group."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hydraudio.audio.io import write_audio
from hydraudio.core.files import write_csv, write_text
from hydraudio.tasks.pretraining.corpora.folder import AudioFolderDataModule, EmbeddedFolder, divide


def sound(root: Path, *names: str, seconds: float = 0.2) -> None:
    for number, name in enumerate(names):
        rng = np.random.default_rng([number, *name.encode()])
        write_audio(root / name, rng.uniform(-0.5, 0.5, round(seconds * 8000)), 8000, None)


def make(root: Path, **options) -> AudioFolderDataModule:
    return AudioFolderDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **options)


def table(root: Path, *rows: dict[str, object], name: str = "t.csv") -> None:
    write_csv(root / name, list(rows[0]), rows)
    sound(root, *(str(row["path"]) for row in rows if "path" in row))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    return tmp_path / "sounds"


def splits(data: AudioFolderDataModule) -> dict[str, list[str]]:
    return {split: [data.parsed.clips[row].id for row in data.chosen(split)] for split in ("train", "val", "test")}


def test_tree(root):
    sound(root, "dog/a.wav", "cat/x/1.flac", "cat/x/2.wav", "cat/y/1.ogg", ".hidden/b.wav", "dog/._a.wav")
    write_text(root / "dog" / "notes.txt", "no sound")
    parsed = make(root).parsed
    assert parsed.class_names == ["cat", "dog"]
    assert [(clip.id, clip.labels, clip.group) for clip in parsed.clips] == [
        ("cat/x/1.flac", (0,), "cat/x"),
        ("cat/x/2.wav", (0,), "cat/x"),
        ("cat/y/1.ogg", (0,), "cat/y"),
        ("dog/a.wav", (1,), "dog/a.wav"),
    ]
    free = make(root, labelled=False).parsed
    assert free.class_names == []
    assert [clip.group for clip in free.clips] == ["cat/x", "cat/x", "cat/y", "dog"]


def test_tree_without_classes(root):
    sound(root, "a.wav")
    with pytest.raises(ValueError, match=r"a\.wav: lies in no folder that names its class.*data\.labelled=false"):
        _ = make(root).class_names
    assert make(root, labelled=False, test_share=0, val_share=0).n_classes == 0
    (root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no audio file"):
        _ = make(root / "empty").class_names


def test_columns_are_found_by_their_names(root):
    row = {"path": "a.wav", "Class": "bell", "Lat": "-33.9", "long": "151.2", "start": "0.05", "duration": "0.1"}
    table(root, row | {"site": "here"}, row | {"path": "b.wav", "Lat": "", "long": "", "Class": ""})
    clips = make(root, table="t.csv").parsed.clips
    assert (clips[0].latitude, clips[0].longitude, clips[0].start_s, clips[0].duration_s) == (-33.9, 151.2, 0.05, 0.1)
    assert math.isnan(clips[1].latitude)
    assert [clip.labels for clip in clips] == [(0,), ()]
    assert clips[0].id == "a.wav@0.05"
    mapped = make(root, table="t.csv", column_mapping={"label": "site"})
    assert mapped.class_names == ["here"]


def test_end_of_a_span(root):
    table(root, {"path": "a.wav", "label": "x", "start": "0.05", "end": "0.15"})
    data = make(root, table="t.csv", test_share=0, val_share=0, crop_s=None, sample_rate=8000)
    data.datasets = {"train": data._make_dataset("train")}
    assert len(data.datasets["train"][0, 0]["waveform"]) == 800


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"lat": "91", "lon": "0"}, "latitude is '91', expected a number from -90 to 90"),
        ({"lat": "0", "lon": "-180.5"}, "longitude is '-180.5', expected a number from -180 to 180"),
        ({"lat": "north", "lon": "0"}, "latitude is 'north'"),
        ({"lat": "1", "lon": ""}, "one coordinate without the other"),
        ({"start": "-1"}, "start -1 s"),
        ({"duration": "0"}, "duration 0.0 s must be at least 0 and positive"),
        ({"path": ""}, "the path is empty"),
    ],
)
def test_wrong_cells_name_the_line(root, row, message):
    write_csv(root / "t.csv", ["path", *[name for name in row if name != "path"]], [{"path": "a.wav"} | row])
    with pytest.raises(ValueError, match=f"t.csv: line 2: .*{message}"):
        _ = make(root, table="t.csv").class_names


def test_wrong_tables(root):
    write_csv(root / "t.csv", ["where", "what"], [{"where": "a.wav", "what": "x"}])
    with pytest.raises(
        ValueError, match=r"it has where, what: say which one holds the paths with data\.column_mapping"
    ):
        _ = make(root, table="t.csv").class_names
    with pytest.raises(ValueError, match=r"has no column Where \(data\.column_mapping\.path\)"):
        _ = make(root, table="t.csv", column_mapping={"path": "Where"}).class_names
    with pytest.raises(ValueError, match=r"column_mapping\.lable: no such setting \(did you mean 'label'\?\)"):
        _ = make(root, table="t.csv", column_mapping={"lable": "what"}).class_names
    with pytest.raises(FileNotFoundError, match=r"u\.csv: no such table"):
        _ = make(root, table="u.csv").class_names
    with pytest.raises(ValueError, match="is no table; use one that ends with"):
        _ = make(root, table="t.xlsx").class_names
    write_text(root / "t.json", "[]")
    with pytest.raises(ValueError, match="not of the form"):
        _ = make(root, table="t.json").class_names


def test_repeated_rows(root):
    table(root, {"path": "a.wav", "label": "x"}, {"path": "a.wav", "label": "y"})
    with pytest.raises(ValueError, match=r"line 3: a\.wav stands in .*line 2, too"):
        _ = make(root, table="t.csv").class_names


def test_ast_tables(root):
    classes = [{"index": 0, "mid": "/m/1", "display_name": "Bell"}, {"index": 1, "mid": "/m/0", "display_name": "Dog"}]
    write_csv(root / "class_labels_indices.csv", ["index", "mid", "display_name"], classes)
    for split, labels in (("train", "/m/1,/m/0"), ("test", "/m/0")):
        write_text(root / f"{split}.json", json.dumps({"data": [{"wav": f"{split}.wav", "labels": labels}]}))
        sound(root, f"{split}.wav")
    options = {"class_table": "class_labels_indices.csv", "multilabel": True}
    data = make(root, table={"train": "train.json", "test": "test.json"}, **options)
    assert (data.class_names, data.multilabel, data.protocol) == (["Bell", "Dog"], True, "splits")
    data.setup()
    assert data.datasets["train"][0, 0]["target"].tolist() == [1, 1]
    assert data.datasets["test"][0, 0]["label"] == 1
    assert data.val_dataloader() == []
    write_text(root / "train.json", json.dumps({"data": [{"wav": "train.wav", "labels": "/m/2"}]}))
    with pytest.raises(ValueError, match=r"item 1: label '/m/2' is not in the list of classes"):
        _ = make(root, table="train.json", **options).class_names


def test_fairseq_manifest(root, tmp_path):
    sound(tmp_path / "elsewhere", "a.wav", "b.wav")
    write_text(root / "train.tsv", f"{tmp_path / 'elsewhere'}\na.wav\t1600\nb.wav\t1600\n")
    assert make(root, table="train.tsv").parsed.clips[1].path == tmp_path / "elsewhere" / "b.wav"
    write_text(root / "train.lbl", "0\ta\t3,10\n1\tb\t3\n")
    data = make(root, table="train.tsv", multilabel=True)
    assert data.class_names == ["3", "10"]
    assert [clip.labels for clip in data.parsed.clips] == [(0, 1), (0,)]
    write_text(root / "train.lbl", "3\n")
    with pytest.raises(ValueError, match=r"train\.lbl: has 1 lines, train\.tsv names 2 files"):
        _ = make(root, table="train.tsv").class_names
    write_text(root / "train.tsv", f"{root}\na.wav 1600\n")
    with pytest.raises(ValueError, match=r"train\.tsv: line 2: .*expected relative path, tab"):
        _ = make(root, table="train.tsv").class_names


def test_parquet(root):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["a.wav", "b.wav"], "label": [["x", "y"], ["y"]], "lat": [1.5, None], "lon": [2.5, None]}
    parquet.write_table(pyarrow.table(columns), root / "t.parquet")
    data = make(root, table="t.parquet", multilabel=True)
    assert [clip.labels for clip in data.parsed.clips] == [(0, 1), (1,)]
    assert data.parsed.clips[0].latitude == 1.5


def test_parquet_without_its_reader(root, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write_text(root / "t.parquet", "")
    with pytest.raises(ValueError, match="pip install pyarrow, or write a CSV"):
        _ = make(root, table="t.parquet").class_names


def test_splits_and_folds(root):
    names = ("Training", "dev", "eval", "train")
    table(root, *({"path": f"{k}.wav", "label": "x", "subset": name} for k, name in enumerate(names)))
    assert splits(make(root, table="t.csv")) == {"train": ["0.wav", "3.wav"], "val": ["1.wav"], "test": ["2.wav"]}
    table(root, *({"path": f"{k}.wav", "label": "x", "fold": fold} for k, fold in enumerate((10, 2, 9, 2))))
    data = make(root, table="t.csv", fold=3)
    assert data.protocol == "fold 3"
    assert splits(data) == {"train": ["2.wav"], "val": ["1.wav", "3.wav"], "test": ["0.wav"]}
    with pytest.raises(ValueError, match=r"data\.fold=4: the table has the folds or splits 2, 9, 10"):
        make(root, table="t.csv", fold=4).chosen("train")
    table(root, {"path": "0.wav", "label": "x", "fold": ""}, {"path": "1.wav", "label": "x", "fold": "1"})
    with pytest.raises(ValueError, match="some rows of the table name a split or fold, others none"):
        make(root, table="t.csv").chosen("train")


def test_groups_stay_together(root):
    sound(root, *(f"{name}/{source}/{take}.wav" for name in "ab" for source in range(10) for take in range(2)))
    data = make(root)
    assert data.protocol == "random groups"
    found = splits(data)
    assert {split: len(ids) for split, ids in found.items()} == {"train": 28, "val": 4, "test": 8}
    groups = {split: {clip.rsplit("/", 1)[0] for clip in ids} for split, ids in found.items()}
    assert not groups["train"] & groups["test"] | groups["val"] & groups["test"] | groups["train"] & groups["val"]
    assert sum(group.startswith("a") for group in groups["test"]) == 2
    assert splits(make(root, seed=5)) == found  # another run, the same test set
    assert splits(make(root, split_seed=5)) != found
    clips = data.parsed.clips
    assert divide(clips[1:], 0.1, 0.2, 0) == divide(clips, 0.1, 0.2, 0)


def test_what_cannot_be(root):
    with pytest.raises(ValueError, match=r"val_share=0\.5 and test_share=0\.5"):
        make(root, val_share=0.5, test_share=0.5)
    with pytest.raises(ValueError, match="table has the keys dev"):
        make(root, table={"dev": "t.csv"})
    sound(root, "x/a.wav")
    with pytest.raises(ValueError, match="no clip is in test; the splits hold train: 1, val: 0, test: 0"):
        make(root, test_share=0).setup("test")


def test_miniature(tmp_path):
    root = EmbeddedFolder(n_classes=2, n_sources=4, n_processes=1)(tmp_path / "sounds")
    data = make(root, test_share=0.25, val_share=0.25, batch_size=3)
    assert data.class_names == ["dog", "rain"]
    assert not data.check()
    data.setup()
    counts = [len(data.datasets[split]) for split in ("train", "val", "test")]
    assert sum(counts) == 12
    assert min(counts) >= 2
    whole = next(iter(data.test_dataloader()))
    assert len(set(whole["lengths"].tolist())) > 1
    assert next(iter(data.train_dataloader()))["waveform"].shape == (3, 32000)
