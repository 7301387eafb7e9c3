"""Features on disk: found again by key and content, whole after a kill, and named when damaged."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from hydraudio.core.feature_cache import FeatureCache, kept_array, stat_digest


def arrays(n: int = 7, start: int = 0) -> dict[str, np.ndarray]:
    """Frames of 2 layers and 3 dimensions, of unequal length."""
    rng = np.random.default_rng(0)
    return {f"id{k}": rng.normal(size=(2, 3 + k, 3)) for k in range(start, start + n)}


def cache(folder: Path, **options) -> FeatureCache:
    options = {"key": "network", "what": "frames", "n_axes": 3, **options}
    found = FeatureCache(folder, **options)
    found.refresh()
    return found


def fill(folder: Path, content: dict[str, np.ndarray], **options) -> FeatureCache:
    filled = cache(folder, **options)
    with filled.lock():
        filled.write(content.items())
    return filled


def test_arrays_come_back_in_half_precision(tmp_path):
    content = arrays()
    fill(tmp_path, content)
    found = cache(tmp_path)
    for name, array in content.items():
        assert name in found
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float16))
    assert "id99" not in found


def test_statistics_have_two_axes(tmp_path):
    fill(tmp_path, {"a": np.ones((4, 6))}, what="statistics", n_axes=2)
    assert cache(tmp_path, what="statistics", n_axes=2)["a"].shape == (4, 6)
    with pytest.raises(ValueError, match=r"\(statistics\) of b have the shape \(1, 2, 3\)"):
        fill(tmp_path, {"b": np.ones((1, 2, 3))}, what="statistics", n_axes=2)


@pytest.mark.parametrize("other", [{"key": "another network"}, {"what": "statistics"}])
def test_other_keys_and_kinds_share_nothing(tmp_path, other):
    fill(tmp_path, arrays())
    assert "id0" not in cache(tmp_path, **other)


def test_small_shards_hold_the_same(tmp_path):
    content = arrays()
    fill(tmp_path, content, shard_values=60)
    found = cache(tmp_path)
    assert len(list(found.folder.glob("*.npy"))) == 3
    for name, array in content.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float16))


def test_later_arrays_are_added_and_equal_audio_is_written_once(tmp_path):
    fill(tmp_path, arrays(3))
    pairs = [*arrays(5).items(), *arrays(5).items()]
    more = cache(tmp_path)
    with more.lock():
        more.write(pairs)
    written = [json.loads(path.read_text()) for path in more.folder.glob("0*.json")]
    assert sorted(name for each in written for name in each["arrays"]) == [f"id{k}" for k in range(5)]


def test_complete_shards_survive_a_kill(tmp_path):
    content = arrays()

    def interrupted():
        for number, pair in enumerate(content.items()):
            if number == 5:
                raise KeyboardInterrupt
            yield pair

    killed = cache(tmp_path, shard_values=60)
    with pytest.raises(KeyboardInterrupt), killed.lock():
        killed.write(interrupted())
    (killed.folder / "000009.npy").write_bytes(b"half a shard, whose index was never written")
    found = cache(tmp_path)
    kept = [name for name in content if name in found]
    assert 0 < len(kept) < 6
    with found.lock():
        found.write((name, array) for name, array in content.items() if name not in found)
    assert not (killed.folder / "000009.npy").exists()
    again = cache(tmp_path)
    for name, array in content.items():
        np.testing.assert_array_equal(again[name], array.astype(np.float16))


def test_workers_open_their_own_maps(tmp_path):
    found = fill(tmp_path, {"a": np.ones((1, 50000, 2))})
    assert found["a"].sum() == 100000
    copy = pickle.dumps(found)
    assert len(copy) < 2000
    assert pickle.loads(copy)["a"].sum() == 100000


def damage_index(folder: Path, content: str) -> Path:
    path = next(folder.glob("0*.json"))
    path.write_text(content)
    return path


DAMAGES = {
    "index cut off": lambda folder: damage_index(folder, '{"n_values": 3, "arr'),
    "index of something else": lambda folder: damage_index(folder, '["id0"]'),
    "index beyond the shard": lambda folder: damage_index(
        folder, '{"n_values": 462, "arrays": {"id0": [455, 2, 3, 3]}}'
    ),
    "other number of values": lambda folder: damage_index(folder, '{"n_values": 9, "arrays": {}}'),
    "shard cut off": lambda folder: (folder / "000000.npy").write_bytes((folder / "000000.npy").read_bytes()[:-7]),
    "shard without header": lambda folder: (folder / "000000.npy").write_bytes(b"\0" * 500),
    "shard gone": lambda folder: (folder / "000000.npy").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_with_the_remedy(tmp_path, damage):
    folder = fill(tmp_path, arrays()).folder
    damage(folder)
    with pytest.raises(ValueError, match=rf"000000.*is damaged .*delete the folder {folder}"):
        cache(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_what_half_precision_cannot_hold_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="NaN or beyond 65504"):
        fill(tmp_path, {"a": np.full((1, 2, 3), value)})


def test_an_array_is_computed_once_and_named_when_damaged(tmp_path):
    path, calls = tmp_path / "lengths" / "abc.npy", []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.arange(3)

    for _ in range(2):
        assert kept_array(path, (3,), compute).tolist() == [0, 1, 2]
    assert len(calls) == 1
    with pytest.raises(ValueError, match=r"abc\.npy: holds \(3,\) instead of \(4,\); delete it"):
        kept_array(path, (4,), compute)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"abc\.npy: the cache is damaged here"):
        kept_array(path, (3,), compute)


def test_a_digest_of_states_follows_the_files(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"x")
    digest = stat_digest(paths)
    assert digest == stat_digest(paths) != stat_digest(paths[::-1])
    paths[0].write_bytes(b"xy")
    assert digest != stat_digest(paths)
    with pytest.raises(FileNotFoundError, match="c: no such audio file"):
        stat_digest([tmp_path / "c"])
    inside = [f"{paths[0]}#1", f"{paths[0]}#2"]
    assert len(stat_digest(inside, lambda path: Path(str(path).split("#")[0]))) == 64


def fill_missing(folder: Path, counts) -> None:
    """What each process of a run does."""
    found = cache(folder, shard_values=60)
    with found.lock():
        found.refresh()
        missing = [pair for pair in arrays().items() if pair[0] not in found]
        counts.put(len(missing))
        found.write(missing)


@pytest.mark.slow
def test_of_several_processes_one_computes(tmp_path):
    context = multiprocessing.get_context("fork")
    counts = context.Queue()
    processes = [context.Process(target=fill_missing, args=(tmp_path, counts)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(counts.get(timeout=5) for _ in processes) == [0, 0, 0, 7]
    assert all(name in cache(tmp_path) for name in arrays())
