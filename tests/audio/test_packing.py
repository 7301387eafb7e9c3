"""Shards on disk: round trip, layout, restart, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydraudio.audio.packing import Group, Pack, is_pack, write_pack

GROUPS = [
    Group("train/indoor", ("mix", "speech", "noise"), n_rows=5, n_samples=40, rows_per_shard=2),
    Group("train/outdoor", ("mix", "speech"), n_rows=3, n_samples=40, rows_per_shard=8),
]
FIELDS = {group.name: len(group.fields) for group in GROUPS}


def read_row(group: str, row: int) -> np.ndarray:
    rng = np.random.default_rng([len(group), row])
    return rng.integers(-32768, 32768, (FIELDS[group], 40), dtype=np.int16)


def write(folder: Path, read: Callable[[str, int], np.ndarray] = read_row, **options: Any) -> Path:
    settings: dict[str, Any] = {"sample_rate": 8000, "fingerprint": "abc", "texts": {"table.csv": b"a,b\n"}}
    return write_pack(folder, GROUPS, read, **(settings | options))


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    pack = Pack(tmp_path / "pack")
    assert (pack.sample_rate, pack.fingerprint) == (8000, "abc")
    assert (tmp_path / "pack" / "table.csv").read_bytes() == b"a,b\n"
    for group in GROUPS:
        assert pack.groups[group.name] == group
        for row in range(group.n_rows):
            expected = read_row(group.name, row)
            for position, field in enumerate(group.fields):
                found = pack.read(group.name, row, field)
                assert found.dtype == np.int16
                np.testing.assert_array_equal(found, expected[position])
                cut = pack.read(group.name, row, field, start=7, n_samples=5)
                np.testing.assert_array_equal(cut, expected[position, 7:12])
    assert pack.verify() == []


def test_nothing_is_padded(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    shards = {path.relative_to(tmp_path / "pack"): path for path in (tmp_path / "pack").rglob("*.npy")}
    assert len(shards) == 4
    payload = sum(path.stat().st_size - 128 for path in shards.values())
    assert payload == 2 * 40 * (5 * 3 + 3 * 2)
    assert not list((tmp_path / "pack").rglob(".*"))


def test_progress_is_told_per_shard(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write(tmp_path / "pack", on_shard=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 4) for number in range(1, 5)]


def test_continues_after_an_interruption(tmp_path: Path) -> None:
    rows: list[tuple[str, int]] = []

    def stops(group: str, row: int) -> np.ndarray:
        rows.append((group, row))
        if len(rows) == 4:
            raise KeyboardInterrupt
        return read_row(group, row)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "pack", stops)
    assert not is_pack(tmp_path / "pack")
    with pytest.raises(FileNotFoundError, match="packing was not finished"):
        Pack(tmp_path / "pack")
    assert not list((tmp_path / "pack").rglob("*.partial*"))
    rows.clear()
    write(tmp_path / "pack", lambda group, row: rows.append((group, row)) or read_row(group, row))
    assert ("train/indoor", 0) not in rows
    assert len(rows) == 6
    write(tmp_path / "straight")
    assert (tmp_path / "pack/manifest.json").read_text() == (tmp_path / "straight/manifest.json").read_text()
    assert not (tmp_path / "pack" / "progress.json").exists()


def test_half_a_pack_of_another_corpus_is_refused(tmp_path: Path) -> None:
    def stops(group: str, row: int) -> np.ndarray:
        if row == 2:
            raise KeyboardInterrupt
        return read_row(group, row)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "pack", stops)
    with pytest.raises(ValueError, match="another corpus"):
        write(tmp_path / "pack", fingerprint="other")


def test_finished_pack_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    with pytest.raises(ValueError, match="finished pack"):
        write(tmp_path / "pack")


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train/indoor row 0: got int16 \(3, 39\)"):
        write(tmp_path / "pack", lambda group, row: read_row(group, row)[:, 1:])
    with pytest.raises(ValueError, match="got float64"):
        write(tmp_path / "other", lambda group, row: read_row(group, row) / 2)


def test_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    shard = tmp_path / "pack" / "train/outdoor/shard_00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert [str(shard) in line for line in Pack(tmp_path / "pack").verify()] == [True]
    shard.write_bytes(content[:-2])
    with pytest.raises(ValueError, match="copy is incomplete"):
        Pack(tmp_path / "pack")
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="shard_00000"):
        Pack(tmp_path / "pack")


def test_unknown_version_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path / "pack")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 2}))
    with pytest.raises(ValueError, match=r"expected.*hydraudio-pack.*1"):
        Pack(tmp_path / "pack")
    manifest.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        Pack(tmp_path / "pack")


def test_pickling_takes_no_samples_along(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    pack = Pack(tmp_path / "pack")
    size = len(pickle.dumps(pack))
    pack.read("train/indoor", 0, "mix")
    assert len(pickle.dumps(pack)) == size
    copy = pickle.loads(pickle.dumps(pack))
    np.testing.assert_array_equal(copy.read("train/indoor", 4, "noise"), pack.read("train/indoor", 4, "noise"))


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a shard elsewhere": lambda m: m["shards"].update(
        {"../outside.npy": m["shards"].pop("train/outdoor/shard_00000.npy")}
    ),
    "an absolute shard": lambda m: m["shards"].update(
        {"/outside.npy": m["shards"].pop("train/outdoor/shard_00000.npy")}
    ),
    "a group elsewhere": lambda m: m["groups"][1].update(name="../../outside"),
    "a text elsewhere": lambda m: m["texts"].update({"../table.csv": "0"}),
    "more rows": lambda m: m["groups"][0].update(n_rows=6),
    "rows beyond counting": lambda m: m["groups"][0].update(n_rows=10**15),
    "no row": lambda m: m["groups"][0].update(n_rows=0),
    "longer signals": lambda m: m["groups"][0].update(n_samples=10**12),
    "more fields": lambda m: m["groups"][1].update(fields=["mix", "speech", "noise"]),
    "shards of another length": lambda m: m["groups"][0].update(rows_per_shard=1),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_manifest_is_refused(tmp_path: Path, name: str) -> None:
    """It names files outside of the pack, or says of shards what they do not hold."""
    path = write(tmp_path / "pack")
    np.save(tmp_path / "outside.npy", np.zeros((3, 2, 40), dtype=np.int16))
    manifest = json.loads(path.read_text())
    FORGED[name](manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"pack the corpus again|not below this folder|at least 1"):  # noqa: PT012
        pack = Pack(tmp_path / "pack")
        for group in pack.groups.values():
            for field in group.fields:
                pack.read(group.name, 0, field)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key in ("sample_rate", "fingerprint", "groups", "shards", "texts")
        for value in ("missing", None, math.nan, "x", [], {}, -1)
        if (key, value) not in (("fingerprint", "x"), ("texts", {}))
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, key: str, value: Any) -> None:
    path = write(tmp_path / "pack")
    manifest = json.loads(path.read_text())
    if value == "missing":
        del manifest[key]
    else:
        manifest[key] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json: .*again"):
        Pack(tmp_path / "pack")


@pytest.mark.parametrize("text", ["[]", "3", '{"format": "hydraudio-pack"', "\xff"])
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path / "pack").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"manifest\.json: .*again"):
        Pack(tmp_path / "pack")


def test_a_shard_whose_header_is_damaged_is_named(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    shard = tmp_path / "pack" / "train" / "indoor" / "shard_00000.npy"
    content = bytearray(shard.read_bytes())
    for at, byte in ((0, 0), (20, 255)):
        damaged = content.copy()
        damaged[at] = byte
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"shard_00000\.npy: .*again"):
            Pack(tmp_path / "pack").read("train/indoor", 0, "mix")
    array = np.load(shard.with_name("shard_00001.npy")).astype(np.float64)
    array[:] = np.nan
    np.save(shard, array[..., : array.shape[-1] // 4])
    manifest = json.loads((tmp_path / "pack" / "manifest.json").read_text())
    manifest["shards"]["train/indoor/shard_00000.npy"]["n_bytes"] = shard.stat().st_size
    (tmp_path / "pack" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"shard_00000\.npy: holds float64|lists other shards"):
        Pack(tmp_path / "pack").read("train/indoor", 0, "mix")
