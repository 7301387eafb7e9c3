"""Writing of WebDataset shards and of their index; `reader` says what they hold."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import soundfile

from hydraudio.audio.io import open_audio
from hydraudio.core.files import sha256_of_file, whole_path, write_json
from hydraudio.core.parallel import map_in_processes
from hydraudio.tasks.emotion.corpora.utterances import Utterance
from hydraudio.tasks.emotion.corpora.webdataset.reader import (
    AUDIO_SUFFIXES,
    FORMAT,
    INDEX,
    VERSION,
    Record,
    decode_member,
    is_webdataset,
    metadata_of,
    samples_of,
    utterance_of,
)

SAMPLES_PER_SHARD = 4000

_FLAC_SUBTYPES = {"PCM_16": "int16", "PCM_24": "int32"}
_FOLDERS = {"train": "train", "development": "validation", "validation": "validation"}  # everything else is test


def write_webdataset(
    rows: Sequence[Utterance],
    folder: str | Path,
    corpus: str,
    transcripts: Path | None = None,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    n_processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Pack utterances; every shard appears whole or not at all, the index last.

    Args:
        rows: with audio files as paths; their order is kept within each folder.
        folder: root of the shards; one with an index is refused.
        corpus: name that goes into the metadata.
        transcripts: folder with `<stem>.txt`; utterances without a file there get no `.text`.
        samples_per_shard: all shards but the last of each folder hold so many.
        n_processes: shards are written in parallel.
        on_shard: called with (finished shards, all shards) after each.

    Returns:
        Path of the index.

    Raises:
        FileNotFoundError: an audio file is missing.
        ValueError: no rows, two of one name, a finished WebDataset in the folder, or audio that FLAC cannot hold.
    """
    root = Path(folder)
    if is_webdataset(root):
        raise ValueError(f"{root}: holds a finished WebDataset; remove it or choose another folder")
    if not rows or samples_per_shard < 1:
        raise ValueError(f"{len(rows)} utterances in shards of {samples_per_shard}: there is nothing to write")
    stems = [Path(row.file_name).stem for row in rows]
    if len(set(stems)) != len(stems):
        raise ValueError("two utterances have the same file name without suffix, which must be unique in a WebDataset")
    jobs = _plan_shards(rows, samples_per_shard)
    for name in {Path(name).parent for name, _ in jobs}:
        (root / name).mkdir(parents=True, exist_ok=True)
    shards = []
    for shard in map_in_processes(_write_shard, (root, corpus, transcripts), jobs, n_processes):
        shards.append(shard)
        if on_shard is not None:
            on_shard(len(shards), len(jobs))
    return _write_index(root, corpus, shards)


def write_index(root: str | Path, corpus: str) -> Path:
    """Write the index of existing shards, below `root` in `train`, `validation` and `test`; reads all of them once.

    Raises:
        FileNotFoundError: no shards.
        ValueError: a damaged shard, a sample without audio or metadata, or one that lies in two shards.
    """
    root = Path(root)
    files = [path for name in ("train", "validation", "test") for path in sorted((root / name).glob("*.tar"))]
    if not files:
        raise FileNotFoundError(f"{root}: no train/*.tar, validation/*.tar or test/*.tar; give the folder above them")
    shards = [_index_shard(root, path) for path in files]
    _require_unique(shards)
    return _write_index(root, corpus, shards)


def _plan_shards(rows: Sequence[Utterance], samples_per_shard: int) -> list[tuple[str, list[Utterance]]]:
    """(file relative to the root, its rows) of every shard."""
    groups: dict[str, list[Utterance]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        groups[_FOLDERS.get(row.split.lower(), "test")].append(row)
    return [
        (f"{name}/{name}-samples-{first // samples_per_shard:03d}.tar", group[first : first + samples_per_shard])
        for name, group in groups.items()
        for first in range(0, len(group), samples_per_shard)
    ]


def _write_shard(shared: tuple[Path, str, Path | None], job: tuple[str, list[Utterance]]) -> Record:
    (root, corpus, transcripts), (name, rows) = shared, job
    path = root / name
    with whole_path(path) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
        for row in rows:
            key = Path(row.file_name).stem
            _add(archive, f"{key}.flac", _encode(Path(row.path)))
            _add(archive, f"{key}.json", json.dumps(metadata_of(row, corpus)).encode())
            text = transcripts / f"{key}.txt" if transcripts is not None else None
            if text is not None and text.is_file():
                _add(archive, f"{key}.text", text.read_bytes())
    return _index_shard(root, path)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # no time and no owner: the same content gives the same file
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _encode(path: Path) -> bytes:
    """The file's samples as FLAC, bit for bit."""
    buffer = io.BytesIO()
    with open_audio(path) as file:
        subtype = file.subtype
        if subtype not in _FLAC_SUBTYPES:
            raise ValueError(f"{path}: samples are {subtype}, which FLAC cannot hold without loss; convert to 16 bit")
        frames = file.read(dtype=_FLAC_SUBTYPES[subtype])
        soundfile.write(buffer, frames, file.sample_rate, format="FLAC", subtype=subtype)
    return buffer.getvalue()


# --- the index ---


def _write_index(root: Path, corpus: str, shards: Sequence[Record]) -> Path:
    count = sum(shard["count"] for shard in shards)
    index = {"format": FORMAT, "version": VERSION, "corpus": corpus, "count": count, "shards": list(shards)}
    return write_json(root / INDEX, index, indent=None)


def _require_unique(shards: Sequence[Record]) -> None:
    """An utterance in two shards could be trained and tested on."""
    found: dict[str, str] = {}
    for shard in shards:
        for sample in shard["samples"]:
            other = found.setdefault(sample["key"], shard["file"])
            if other != shard["file"]:
                raise ValueError(f"{sample['key']} lies in {other} and in {shard['file']}; remove one of the shards")


def _index_shard(root: Path, path: Path) -> Record:
    samples, listed = [], samples_of(path)
    with path.open("rb") as file:
        for key, members in listed:
            samples.append(_index_sample(file, f"{path}#{key}", key, members, path.parent.name))
    return {
        "file": path.relative_to(root).as_posix(),
        "count": len(samples),
        "n_samples": sum(sample["n_samples"] for sample in samples),
        "n_bytes": path.stat().st_size,
        "sha256": sha256_of_file(path),
        "samples": samples,
    }


def _index_sample(
    file: io.BufferedReader, where: str, key: str, members: Mapping[str, tarfile.TarInfo], folder: str
) -> Record:
    suffix = next((name for name in AUDIO_SUFFIXES if name in members), None)
    if suffix is None or "json" not in members:
        raise ValueError(f"{where}: has the members {sorted(members)}; one of {AUDIO_SUFFIXES} and json are needed")

    def content(name: str) -> bytes:
        file.seek(members[name].offset_data)
        return file.read(members[name].size)

    try:
        metadata = json.loads(content("json"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{where}.json: not readable ({error}); write the shard again") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{where}.json: holds a {type(metadata).__name__}, expected an object; write the shard again")
    metadata.setdefault("split", folder)
    waveform, sample_rate = decode_member(content(suffix), suffix, where)
    utterance_of(metadata, key, where, len(waveform), sample_rate)  # refuses what training would stumble over
    place = {"suffix": suffix, "offset": members[suffix].offset_data, "n_bytes": members[suffix].size}
    return {"key": key, **place, "n_samples": len(waveform), "sample_rate": sample_rate, "metadata": metadata}
