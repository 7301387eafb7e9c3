"""Emotion corpora as WebDataset shards: few large tar files with an index, for storage that dislikes many small files.

`<root>/<train|validation|test>/<split>-samples-<iii>.tar` holds, per utterance, the members `<key>.flac`, `<key>.json`
and, where there is a transcript, `<key>.text`; the key is the path in the shard up to the first dot of the file's name.
`<root>/index.json` lists every shard with its size, hash and samples, and every sample with its length, its place in
the shard and its metadata, so that a corpus is indexed without touching audio and any utterance is read at random.
Shards that others wrote, whose audio may also be `.wav` or `.audio` (a pickled tensor of shape (1, time)), get their
index from `writer.write_index`.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hydraudio.audio.io import MAX_VALUES, decode_audio, mixed_down
from hydraudio.core.defects import Defect, raise_defect
from hydraudio.core.files import path_inside, sha256_of_file
from hydraudio.tasks.emotion.corpora.labels import EMOTIONS, NAMES_OF, letter_of
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import COLUMN_OF, podcast_of
from hydraudio.tasks.emotion.corpora.utterances import (
    ATTRIBUTE_RANGE,
    GENDERS,
    UNKNOWN_SPEAKER,
    Utterance,
    gender_index,
)

INDEX = "index.json"
FORMAT = "hydraudio-webdataset"
VERSION = 1
SAMPLE_RATE_OF_TENSORS = 16000
"""`.audio` members do not say their rate, in Hz; the corpora that were packed so have this one."""

AUDIO_SUFFIXES = ("flac", "wav", "audio")

Record = dict[str, Any]

_SAMPLE_TYPES = {
    **dict.fromkeys(("key", "suffix"), str),
    **dict.fromkeys(("offset", "n_bytes", "n_samples", "sample_rate"), int),
    "metadata": dict,
}


def is_webdataset(root: str | Path) -> bool:
    """Say whether the folder holds an indexed WebDataset."""
    return (Path(root) / INDEX).is_file()


# --- reading ---


def read_index(root: str | Path) -> list[Utterance]:
    """Return all utterances in the order of the shards, from the index alone; `path` is "<shard.tar>#<key>".

    Raises:
        FileNotFoundError: no index, or a shard that it lists is missing.
        ValueError: the index is damaged or of another version, or a shard has another size.
    """
    root = Path(root)
    stamp, index = _stamp(root), load_index(root)
    for shard in index["shards"]:
        defect = _size_defect(root, shard)
        if defect is not None:
            raise_defect(defect)
    _known[root] = stamp, _places_of(index)
    return [
        utterance_of(
            sample["metadata"],
            sample["key"],
            f"{root / shard['file']}#{sample['key']}",
            sample["n_samples"],
            sample["sample_rate"],
        )
        for shard in index["shards"]
        for sample in shard["samples"]
    ]


def read_member(path: str) -> tuple[np.ndarray, int]:
    """Return one utterance, by its place in the shard; opens the shard anew, so any process may call it.

    Args:
        path: "<shard.tar>#<key>", as in `Utterance.path`.

    Returns:
        ((time,) float32, sample rate in Hz); channels are averaged.

    Raises:
        FileNotFoundError: no such shard, or no index above it.
        ValueError: unknown key, shard cut off, or other samples than the index says.
    """
    shard, _, key = path.rpartition("#")
    root = Path(shard).parents[1]
    place = _places(root).get((Path(shard).relative_to(root).as_posix(), key))
    if place is None:
        raise ValueError(f"{path}: the index of {root} has no such sample; {INDEX_AGAIN}")
    suffix, offset, n_bytes, n_samples, sample_rate = place
    if not Path(shard).is_file():
        raise FileNotFoundError(f"{shard}: the shard is missing; copy it again")
    if offset + n_bytes > Path(shard).stat().st_size:
        raise ValueError(f"{path}: the shard ends inside this sample; copy the shard again")
    with open(shard, "rb") as file:
        file.seek(offset)
        content = file.read(n_bytes)
    waveform, file_rate = decode_member(content, suffix, path)
    if (len(waveform), file_rate) != (n_samples, sample_rate):
        raise ValueError(
            f"{path}: holds {len(waveform)} samples at {file_rate} Hz, the index says {n_samples} at {sample_rate} Hz; "
            f"{INDEX_AGAIN}"
        )
    return waveform, file_rate


INDEX_AGAIN = "index the shards again (scripts/emotion/write_webdataset.py --index FOLDER)"


_Places = dict[tuple[str, str], tuple[str, int, int, int, int]]
"""(shard, key) -> suffix, offset and bytes of the audio, samples, rate."""

_known: dict[Path, tuple[int, _Places]] = {}
"""Root -> time of change of its index, and its places. Filled by `read_index`, so that the workers of a loader, which
are forks, inherit it."""


def _places(root: Path) -> _Places:
    stamp = _stamp(root)
    if root not in _known or _known[root][0] != stamp:
        _known[root] = stamp, _places_of(load_index(root))
    return _known[root][1]


def _stamp(root: Path) -> int:
    """0 where there is no index."""
    return (root / INDEX).stat().st_mtime_ns if is_webdataset(root) else 0


def _places_of(index: Record) -> _Places:
    names = ("suffix", "offset", "n_bytes", "n_samples", "sample_rate")
    return {
        (shard["file"], sample["key"]): tuple(sample[name] for name in names)
        for shard in index["shards"]
        for sample in shard["samples"]
    }


def load_index(root: Path) -> Record:
    path = root / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such index; {INDEX_AGAIN.replace('again ', '')}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not readable ({error}); {INDEX_AGAIN}") from error
    if not isinstance(index, dict) or (index.get("format"), index.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path}: not an index of version {VERSION} of {FORMAT}; {INDEX_AGAIN}")
    try:
        _require_sound(root, index)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged ({error!r}); {INDEX_AGAIN}") from error
    return index


def _require_sound(root: Path, index: Record) -> None:
    """Refuse an index whose fields cannot be; those that are missing or of another type raise what they raise."""
    path = root / INDEX
    for shard in index["shards"]:
        path_inside(root, shard["file"])
        _require_types(shard, {"count": int, "n_bytes": int, "sha256": str, "samples": list})
        for sample in shard["samples"]:
            _require_types(sample, _SAMPLE_TYPES)
            offset, n_bytes, n_samples = sample["offset"], sample["n_bytes"], sample["n_samples"]
            if sample["suffix"] not in AUDIO_SUFFIXES or sample["sample_rate"] < 1:
                raise ValueError(
                    f"{path}: {shard['file']}#{sample['key']}: {sample['suffix']} at {sample['sample_rate']} Hz "
                    f"cannot be; {INDEX_AGAIN}"
                )
            if not (0 <= offset < offset + n_bytes <= shard["n_bytes"] and 0 < n_samples <= MAX_VALUES):
                raise ValueError(
                    f"{path}: {shard['file']}#{sample['key']}: {n_samples} samples in bytes {offset} to "
                    f"{offset + n_bytes} of {shard['n_bytes']} cannot be; {INDEX_AGAIN}"
                )


def _require_types(record: Record, types: Mapping[str, type]) -> None:
    for name, wanted in types.items():
        if type(record[name]) is not wanted:
            raise TypeError(f"{name} is {record[name]!r:.60}")


def decode_member(content: bytes, suffix: str, where: str) -> tuple[np.ndarray, int]:
    """Decode the content of a member (flac, wav or audio) -> ((time,) float32, sample rate in Hz)."""
    if suffix != "audio":
        channels, sample_rate = decode_audio(content, where)
        return mixed_down(channels), sample_rate
    waveform = _decode_tensor(content, where)
    if not len(waveform) or not np.isfinite(waveform).all():
        raise ValueError(f"{where}: holds no samples, or NaN or infinite ones; write the shard again without it")
    return waveform, SAMPLE_RATE_OF_TENSORS


def _decode_tensor(content: bytes, where: str) -> np.ndarray:
    import pickle

    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > 4 * MAX_VALUES:
            raise ValueError(f"{where}: {n_bytes} bytes are more than are read of one utterance; cut it")
        tensor = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where}: not readable as a tensor ({error}); copy or write the shard again") from error
    if not isinstance(tensor, torch.Tensor) or tensor.ndim not in (1, 2):
        raise ValueError(f"{where}: holds {type(tensor).__name__}, expected a tensor of shape (1, time)")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{where}: says {tuple(tensor.shape)}, but holds fewer samples; write the shard again")
    return np.asarray(tensor.to(torch.float32).reshape(-1, tensor.shape[-1]).mean(dim=0).numpy())


def samples_of(path: Path) -> list[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Map (key, suffix -> member) in the order of the shard; a key is the path up to the first dot of the file's name.

    Files whose name begins with a dot, such as the ._ files of macOS, belong to no sample.

    Raises:
        ValueError: the shard is no file, not readable as tar, or holds a member twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file that can be read; copy or write the shard again")
    try:
        with tarfile.open(path, "r:") as archive:
            files = [member for member in archive if member.isfile()]
    except tarfile.TarError as error:
        raise ValueError(f"{path}: not readable as tar ({error}); copy or write the shard again") from error
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in files:
        folder, slash, name = member.name.removeprefix("./").rpartition("/")
        if name.startswith("."):
            continue
        stem, _, suffix = name.partition(".")
        key = folder + slash + stem
        if suffix in samples.setdefault(key, {}):
            raise ValueError(f"{path}: holds {member.name} twice; write the shard again")
        samples[key][suffix] = member
    return list(samples.items())


# --- checking ---


def check_webdataset(root: str | Path) -> list[Defect]:
    """Find all defects of the shards: missing, cut off, changed (sha256), or with samples that the index lacks."""
    root = Path(root)
    try:
        shards = load_index(root)["shards"]
    except FileNotFoundError as error:
        return [Defect("missing_file", str(error))]
    except ValueError as error:
        return [Defect("bad_index", str(error))]
    return [defect for shard in shards for defect in _shard_defects(root, shard)]


def _shard_defects(root: Path, shard: Record) -> Iterator[Defect]:
    path = root / shard["file"]
    defect = _size_defect(root, shard)
    if defect is not None:
        yield defect
        return
    if sha256_of_file(path) != shard["sha256"]:
        yield Defect("changed_shard", f"{path}: content differs from the index (sha256); copy the shard again")
    try:
        keys = [key for key, _ in samples_of(path)]
    except ValueError as error:
        yield Defect("bad_shard", str(error))
        return
    if keys != [sample["key"] for sample in shard["samples"]] or len(keys) != shard["count"]:
        message = f"{path}: holds {len(keys)} samples, the index lists {shard['count']}, or others; {INDEX_AGAIN}"
        yield Defect("other_samples", message)


def _size_defect(root: Path, shard: Record) -> Defect | None:
    path = root / shard["file"]
    if not path.is_file():
        return Defect("missing_file", f"{path}: shard of the index is missing; copy it again")
    if path.stat().st_size != shard["n_bytes"]:
        message = (
            f"{path}: {path.stat().st_size} bytes, the index says {shard['n_bytes']}; the copy is cut off or changed"
        )
        return Defect("truncated_shard", f"{message}, copy the shard again")
    return None


_SPLITS = {
    "train": "Train",
    "validation": "Development",
    "dev": "Development",
    "development": "Development",
    "test": "Test",
}


def metadata_of(row: Utterance, corpus: str) -> dict[str, Any]:
    """Read what the `.json` member holds.

    The eight probabilities are the shares of the raters' votes for the eight emotions, or 1 for the consensus where no
    votes are known; they sum to 1, and are left out where none of the eight was heard.
    """
    shares = {name: row.votes.get(letter, 0.0) for name, letter in EMOTIONS.items()}
    if not row.votes:
        shares = {name: float(row.letter == letter) for name, letter in EMOTIONS.items()}
    total = sum(shares.values())
    metadata: dict[str, Any] = {name: share / total for name, share in shares.items()} if total > 0 else {}
    if row.letter:
        metadata |= {"dominant_emotion": NAMES_OF[row.letter][0].lower(), "EmoClass": row.letter}
    metadata |= {COLUMN_OF[name]: value for name, value in row.attributes.items()}
    metadata |= {"SpkrID": row.speaker, "gender": GENDERS[row.gender], "split": row.split, "corpus": corpus}
    metadata |= {"FileName": row.file_name, "podcast": row.podcast}
    if row.n_raters:
        metadata |= {"votes": dict(row.votes), "mentions": dict(row.mentions), "n_raters": row.n_raters}
    return metadata


def utterance_of(metadata: Mapping[str, Any], key: str, path: str, n_samples: int, sample_rate: int) -> Utterance:
    """Return the utterance that the metadata describes.

    The consensus is `EmoClass`, else `dominant_emotion`, else the most probable of the eight emotions (the first of
    several). Probabilities stand for votes where those are not given.

    Args:
        metadata: content of the `.json` member.
        key: of the sample; stands for the file name where that is not given.
        path: "<shard.tar>#<key>".
        n_samples: length of the audio.
        sample_rate: of the audio, in Hz.

    Raises:
        ValueError: unknown class, attribute outside 1..7, or probabilities that are none.
    """
    shares = _probabilities(metadata, path)
    try:
        letter = metadata.get("EmoClass") or metadata.get("dominant_emotion")
        letter = letter_of(str(letter)) if letter else max(shares, key=shares.__getitem__) if shares else ""
        gender = gender_index(str(metadata.get("gender") or "Unknown"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; correct the metadata and write the shard again") from error
    split = str(metadata.get("split", ""))
    return Utterance(
        file_name=str(metadata.get("FileName") or f"{key}.wav"),
        path=path,
        n_samples=n_samples,
        sample_rate=sample_rate,
        letter=letter,
        attributes=_attributes(metadata, path),
        speaker=str(metadata.get("SpkrID", UNKNOWN_SPEAKER)),
        podcast=str(metadata.get("podcast") or podcast_of(key)),
        gender=gender,
        split=_SPLITS.get(split.lower(), split),
        votes=metadata.get("votes", shares),
        mentions=metadata.get("mentions", {}),
        n_raters=int(metadata.get("n_raters", 0)),
    )


def _probabilities(metadata: Mapping[str, Any], path: str) -> dict[str, float]:
    """Letter -> probability; empty unless some emotion has a positive one."""
    shares = {letter: float(metadata[name]) for name, letter in EMOTIONS.items() if name in metadata}
    if not all(math.isfinite(share) and share >= 0.0 for share in shares.values()):
        raise ValueError(f"{path}: probabilities {shares} must be numbers of at least 0; write the shard again")
    total = sum(shares.values())
    return {letter: share / total for letter, share in shares.items() if share > 0.0}


def _attributes(metadata: Mapping[str, Any], path: str) -> dict[str, float]:
    found = {name: float(metadata[column]) for name, column in COLUMN_OF.items() if metadata.get(column) is not None}
    low, high = ATTRIBUTE_RANGE
    for name, value in found.items():
        if not low <= value <= high:
            raise ValueError(f"{path}: {COLUMN_OF[name]} is {value}, outside 1..7; write the shard again")
    return found
