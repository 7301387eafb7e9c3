"""Corpora packed into memory-mapped shards of 16-bit samples.

A pack is a folder with a `manifest.json` and groups of shards. A group holds rows of equal shape; each
shard is one `.npy` file, (rows, fields, time) int16, so one row's fields lie next to each other and reading
a field is a slice of a memory map. Rows of unlike shape (a PolSESS outdoor row has 5 signals, an indoor row
8) go to different groups, so that nothing is padded.

Writing is atomic per shard and continues where it was stopped: the manifest appears last, until then
finished shards are listed in `progress.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hydraudio.core.files import path_inside, sha256_of, sha256_of_file, whole_path, write_bytes, write_json
from hydraudio.core.parallel import map_in_processes

MANIFEST = "manifest.json"
FORMAT = "hydraudio-pack"
VERSION = 1
FULL_SCALE = 32768
"""int16 code of 1.0."""

_PROGRESS = "progress.json"


@dataclass(frozen=True)
class Group:
    """Rows of equal shape.

    Attributes:
        name: also the folder of its shards, e.g. "train/indoor".
        fields: names of the signals of a row, in their order in the shard.
        n_rows: rows in all.
        n_samples: length of each signal.
        rows_per_shard: rows of every shard but the last.
    """

    name: str
    fields: tuple[str, ...]
    n_rows: int
    n_samples: int
    rows_per_shard: int = 256

    def shards(self) -> Iterator[tuple[str, range]]:
        """Yield (file relative to the pack, rows) of every shard.

        >>> list(Group("train", ("mix", "clean"), n_rows=5, n_samples=8000, rows_per_shard=2).shards())[-1]
        ('train/shard_00002.npy', range(4, 5))
        """
        for number, first in enumerate(range(0, self.n_rows, self.rows_per_shard)):
            rows = range(first, min(first + self.rows_per_shard, self.n_rows))
            yield f"{self.name}/shard_{number:05d}.npy", rows


ReadRow = Callable[[str, int], np.ndarray]
"""(group name, row) -> (fields, time) int16; picklable, so a function of a module or a `functools.partial`
of one."""


def is_pack(folder: str | Path) -> bool:
    """Say whether the folder holds a (finished) pack."""
    return (Path(folder) / MANIFEST).is_file()


def write_pack(
    folder: Path,
    groups: Sequence[Group],
    read_row: ReadRow,
    *,
    sample_rate: int,
    fingerprint: str,
    texts: Mapping[str, bytes],
    n_processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a pack, or finishes one that was stopped.

    Args:
        folder: where to; a finished pack there is an error.
        read_row: called once per row.
        sample_rate: in Hz.
        fingerprint: of the source, so that half a pack is never continued from another corpus.
        texts: further files of the pack (path relative to the pack -> content), e.g. the corpus's tables.
        n_processes: shards are written in parallel.
        on_shard: called with (finished shards, all shards) after each.

    Returns:
        Path of the manifest.
    """
    if is_pack(folder):
        raise ValueError(f"{folder}: holds a finished pack; remove it or choose another folder")
    plan = {
        "format": FORMAT,
        "version": VERSION,
        "sample_rate": sample_rate,
        "fingerprint": fingerprint,
        "groups": [asdict(group) for group in groups],
        "texts": {name: sha256_of(content) for name, content in texts.items()},
    }
    plan = json.loads(json.dumps(plan))
    finished = _resume(folder, plan)
    for name, content in texts.items():
        write_bytes(folder / name, content)
    jobs = [(group, file, rows) for group in groups for file, rows in group.shards()]
    open_jobs = [job for job in jobs if job[1] not in finished]
    for file, record in map_in_processes(_write_shard, (folder, read_row), open_jobs, n_processes):
        finished[file] = record
        write_json(folder / _PROGRESS, {"plan": plan, "shards": finished}, indent=1)
        if on_shard is not None:
            on_shard(len(finished), len(jobs))
    ordered = {file: finished[file] for _, file, _ in jobs}
    write_json(folder / MANIFEST, {**plan, "shards": ordered}, indent=1)
    (folder / _PROGRESS).unlink(missing_ok=True)
    return folder / MANIFEST


class Pack:
    """Open a pack for reading; sizes of all files are checked at once, hashes only by `verify`.

    Shards are mapped when first read, in the process that reads.

    Args:
        folder: with a `manifest.json`.

    Raises:
        FileNotFoundError: no manifest, or a file that it lists is missing.
        ValueError: unknown format or version, or a file of another size.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        manifest = _read_manifest(self.folder)
        try:
            self._take(manifest)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{self.folder / MANIFEST}: is damaged ({error!r}); copy it or pack the corpus again"
            ) from error
        self._check_sizes()

    def _take(self, manifest: dict[str, Any]) -> None:
        """Take over what a manifest says; a field that is missing or of another type raises what it raises."""
        self.sample_rate: int = manifest["sample_rate"]
        self.fingerprint: str = manifest["fingerprint"]
        self.groups = {
            group["name"]: Group(**{**group, "fields": tuple(group["fields"])}) for group in manifest["groups"]
        }
        self._shards: dict[str, dict[str, Any]] = manifest["shards"]
        self._texts: dict[str, str] = dict(manifest["texts"].items())
        self._require_shards()
        self._maps: dict[str, np.ndarray] = {}
        self._files = {name: [file for file, _ in group.shards()] for name, group in self.groups.items()}
        self._position = {
            name: {field: position for position, field in enumerate(group.fields)}
            for name, group in self.groups.items()
        }
        for record in self._shards.values():
            if type(record["n_bytes"]) is not int or type(record["sha256"]) is not str:
                raise TypeError(f"a shard is {record!r:.80}")
        if type(self.sample_rate) is not int or type(self.fingerprint) is not str or self.sample_rate < 1:
            raise TypeError(f"sample_rate {self.sample_rate!r:.30}, fingerprint {self.fingerprint!r:.30}")

    def read(self, group: str, row: int, field: str, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Return a (time,) int16 view of one signal; 32768 is full scale."""
        shard, offset = divmod(row, self.groups[group].rows_per_shard)
        stop = None if n_samples is None else start + n_samples
        return self._map(self._files[group][shard])[offset, self._position[group][field], start:stop]

    def verify(self) -> list[str]:
        """Hash every file; return one line per file that has changed."""
        expected = {file: record["sha256"] for file, record in self._shards.items()} | self._texts
        return [
            f"{self.folder / file}: content differs from the manifest (sha256); pack the corpus again"
            for file, digest in expected.items()
            if sha256_of_file(self.folder / file) != digest
        ]

    def __getstate__(self) -> dict[str, Any]:
        """A memory map would be pickled as all of its samples."""
        return {**self.__dict__, "_maps": {}}

    def _map(self, file: str) -> np.ndarray:
        if file not in self._maps:
            try:
                mapped = np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError, SyntaxError) as error:
                raise ValueError(
                    f"{self.folder / file}: not readable as an array ({error}); copy it or pack the corpus again"
                ) from error
            if mapped.dtype != np.int16 or mapped.shape != self._shapes[file]:
                raise ValueError(
                    f"{self.folder / file}: holds {mapped.dtype} {mapped.shape}, the manifest says int16 "
                    f"{self._shapes[file]}; pack the corpus again"
                )
            # a plain array over the same memory: slicing a np.memmap costs several times as much
            self._maps[file] = np.asarray(mapped).view(np.ndarray)
        return self._maps[file]

    def _require_shards(self) -> None:
        """Refuse a manifest that names files outside of the pack, or other rows than its shards can hold."""
        for name in (*self._shards, *self._texts):
            path_inside(self.folder, name)
        n_shards = 0
        for group in self.groups.values():
            if min(group.n_rows, group.n_samples, group.rows_per_shard) < 1:
                raise ValueError(f"{self.folder / MANIFEST}: {group} cannot be; pack the corpus again")
            n_shards += -(-group.n_rows // group.rows_per_shard)
        if n_shards != len(self._shards):
            raise ValueError(
                f"{self.folder / MANIFEST}: the groups have {n_shards} shards, {len(self._shards)} are listed; "
                "pack the corpus again"
            )
        self._shapes = {
            file: (len(rows), len(group.fields), group.n_samples)
            for group in self.groups.values()
            for file, rows in group.shards()
        }
        too_small = [file for file, shape in self._shapes.items() if self._n_bytes(file) < 2 * math.prod(shape)]
        if self._shapes.keys() != self._shards.keys() or too_small:
            raise ValueError(
                f"{self.folder / MANIFEST}: lists other shards than its groups fill; pack the corpus again"
            )

    def _n_bytes(self, file: str) -> int:
        """Of a shard, as the manifest says; 0 for one that it does not list."""
        return int(self._shards.get(file, {}).get("n_bytes", 0))

    def _check_sizes(self) -> None:
        for file, record in self._shards.items():
            path = path_inside(self.folder, file)
            if not path.is_file():
                raise FileNotFoundError(f"{path}: shard of the pack is missing; copy it or pack the corpus again")
            if path.stat().st_size != record["n_bytes"]:
                raise ValueError(
                    f"{path}: {path.stat().st_size} bytes, the manifest says {record['n_bytes']}; "
                    "the copy is incomplete, copy or pack it again"
                )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        hint = "packing was not finished, run it again" if (folder / _PROGRESS).is_file() else "not a pack"
        raise FileNotFoundError(f"{path}: no such manifest; {hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); pack the corpus again") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: holds a {type(manifest).__name__}, expected an object; pack the corpus again")
    kind = (manifest.get("format"), manifest.get("version"))
    if kind != (FORMAT, VERSION):
        raise ValueError(f"{path}: format and version are {kind}, expected {(FORMAT, VERSION)}; pack it again")
    return manifest


def _resume(folder: Path, plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Records of the shards that an earlier, stopped call has finished."""
    path = folder / _PROGRESS
    if not path.is_file():
        return {}
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); remove the folder and pack again") from error
    if progress["plan"] != plan:
        raise ValueError(f"{folder}: holds a half-written pack of another corpus or layout; remove it first")
    return {
        file: record
        for file, record in progress["shards"].items()
        if (folder / file).is_file() and (folder / file).stat().st_size == record["n_bytes"]
    }


def _write_shard(shared: tuple[Path, ReadRow], job: tuple[Group, str, range]) -> tuple[str, dict[str, Any]]:
    """Read and write one shard; return its file and what the manifest says of it."""
    (folder, read_row), (group, file, rows) = shared, job
    shape = (len(group.fields), group.n_samples)
    samples = np.empty((len(rows), *shape), dtype=np.int16)
    for position, row in enumerate(rows):
        signals = read_row(group.name, row)
        if signals.dtype != np.int16 or signals.shape != shape:
            raise ValueError(f"{group.name} row {row}: got {signals.dtype} {signals.shape}, expected int16 {shape}")
        samples[position] = signals
    with whole_path(folder / file) as partial:
        with partial.open("wb") as opened:
            np.save(opened, samples)
        record = {"n_rows": len(rows), "n_bytes": partial.stat().st_size, "sha256": sha256_of_file(partial)}
    return file, record
