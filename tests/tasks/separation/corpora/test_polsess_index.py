"""Reading tables: old and new columns, empty cells, names, talkers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from hydraudio.core.defects import or_raise
from hydraudio.tasks.separation.corpora.polsess.index import (
    COLUMN_OF,
    corpus_fingerprint,
    find_table,
    missing_files,
    parse_index,
    talker_keys,
)

REQUIRED = list(COLUMN_OF.values())
INDOOR = ["m1.wav", "a.wav", "b.wav", "s.wav", "e.wav", "sp1_x.wav", "sp2_x.wav", "ev_x.wav"]
OUTDOOR = ["m2.wav", "c.wav", "d.wav", "s2.wav", "e2.wav"]


def table(tmp_path: Path, lines: list[list[str]], name: str = "corpus_corpus_train_final.csv") -> Path:
    folder = tmp_path / "corpus" / "train"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(",".join(cells) for cells in lines) + "\n", encoding="utf-8")
    return tmp_path / "corpus"


@pytest.mark.parametrize("empty", ["", "NaN", "nan", " ", "<missing>"])
def test_old_table_with_the_eight_columns_only(tmp_path: Path, empty: str) -> None:
    index = or_raise(parse_index(table(tmp_path, [REQUIRED, INDOOR, OUTDOOR + [empty] * 3]), "train"))
    assert index.indoor.tolist() == [True, False]
    assert index.files["sp1_reverb"].tolist() == ["sp1_x.wav", ""]
    assert index.lines.tolist() == [2, 3]
    assert np.isnan(index.ssr_db).all()
    assert np.isnan(index.scene_db).all()
    assert index.scene_class.tolist() == ["", ""]
    assert index.path(0, "sp2_reverb") == tmp_path / "corpus/train/sp2_reverb/sp2_x.wav"
    assert index.path(1, "sp1") == tmp_path / "corpus/train/clean/c.wav"


def test_columns_in_any_order_and_more_of_them(tmp_path: Path) -> None:
    header = ["SSR", *REQUIRED[::-1], "sceneOffsetDB", "new"]
    index = or_raise(parse_index(table(tmp_path, [header, ["-3", *INDOOR[::-1], "-7.25", "?"]]), "train"))
    assert index.files["mix"].tolist() == ["m1.wav"]
    assert (index.ssr_db[0], index.scene_db[0]) == (-3.0, -7.25)


def test_byte_order_mark_quotes_and_windows_line_ends(tmp_path: Path) -> None:
    root = table(tmp_path, [REQUIRED, INDOOR])
    path = root / "train" / "corpus_corpus_train_final.csv"
    quoted = path.read_text().replace("m1.wav", '"m,1.wav"').replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + quoted.encode())
    assert or_raise(parse_index(root, "train")).files["mix"].tolist() == ["m,1.wav"]


def test_any_single_table_is_accepted(tmp_path: Path) -> None:
    root = table(tmp_path, [REQUIRED, INDOOR], name="corpus_PolSESS_C_in_train_final.csv")
    assert len(or_raise(parse_index(root, "train"))) == 1
    table(tmp_path, [REQUIRED, INDOOR], name="corpus_other_train_final.csv")
    with pytest.raises(ValueError, match="several tables"):
        or_raise(parse_index(root, "train"))
    table(tmp_path, [REQUIRED, OUTDOOR + [""] * 3])
    assert or_raise(parse_index(root, "train")).files["mix"].tolist() == ["m2.wav"], "the one of the root's name wins"


def test_good_rows_remain_beside_bad_ones(tmp_path: Path) -> None:
    bad = [*INDOOR[:3], "", *INDOOR[4:]]
    half = [*INDOOR[:7], ""]
    root = table(tmp_path, [REQUIRED, INDOOR, bad, half, ["x.wav"], ["../m.wav", *INDOOR[1:]]])
    index, defects = parse_index(root, "train")
    assert index is not None
    assert index.lines.tolist() == [2]
    found = [(defect.kind, defect.message.split(": line ")[1].split(";")[0]) for defect in defects]
    assert found == [
        ("empty_cell", "3: column sceneFile is empty"),
        ("empty_cell", "4: column reverbForEvent is empty"),
        ("bad_csv", "5: has 1 cells, the header has 8"),
        ("bad_name", "6: column mixFile holds '../m.wav'"),
    ]
    with pytest.raises(ValueError, match="line 3: column sceneFile is empty"):
        or_raise(parse_index(root, "train"))


def test_missing_files_asks_only_for_what_is_needed(tmp_path: Path) -> None:
    root = table(tmp_path, [REQUIRED, INDOOR, OUTDOOR + [""] * 3])
    (root / "train" / "clean").mkdir()
    (root / "train" / "clean" / "a.wav").touch()
    index = or_raise(parse_index(root, "train"))
    needed = {True: {"sp1", "sp1_reverb"}, False: {"sp1"}}
    found = [defect.message.split(":")[0] for defect in missing_files(index, np.arange(2), needed)]
    assert found == [str(root / "train/clean/c.wav"), str(root / "train/sp1_reverb/sp1_x.wav")]
    assert missing_files(index, np.array([0]), {True: {"sp1"}, False: set()}) == []


def test_fingerprint_changes_with_any_table(tmp_path: Path) -> None:
    root = table(tmp_path, [REQUIRED, INDOOR])
    first = corpus_fingerprint(root)
    assert len(first) == 64
    table(tmp_path, [REQUIRED, [*INDOOR[:7], "ev_y.wav"]])
    assert corpus_fingerprint(root) != first


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/mls/9098/8338/9098_8338_1.flac", "/mls/9098/77/9098_77_2.flac"], ["9098", "9098"]),
        (["C:\\d\\anna\\1.wav", "C:\\d\\jan\\1.wav"], ["d/anna", "d/jan"]),
        (["/flat/anna_01.wav", "/flat/anna_02.wav", "/flat/jan_01.wav"], ["anna", "anna", "jan"]),
        (["/flat/1.wav", "/flat/2.wav", ""], [None, None, None]),
    ],
)
def test_talkers_from_paths(paths: list[str], expected: list[str | None]) -> None:
    assert talker_keys(paths) == expected


def test_a_pipe_in_place_of_a_table_is_found(tmp_path, pipe):
    for subset in ("train", "val", "test"):
        pipe(tmp_path / subset / f"corpus_{tmp_path.name}_{subset}_final.csv")
    table, defect = find_table(tmp_path, "train")
    assert table is None
    assert "no such table" in defect.message
    assert corpus_fingerprint(tmp_path) == hashlib.sha256().hexdigest()
