"""The `.json` member of a WebDataset sample: an utterance as metadata and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hydraudio.tasks.emotion.corpora.classes import MSP_LETTERS, NAMES_OF, letter_of
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import podcast_of
from hydraudio.tasks.emotion.corpora.utterances import (
    ATTRIBUTE_RANGE,
    GENDERS,
    UNKNOWN_SPEAKER,
    Utterance,
    gender_index,
)

EMOTIONS = {NAMES_OF[letter][0].lower(): letter for letter in MSP_LETTERS[:8]}
"""Name in the metadata -> letter: angry, sad, happy, surprise, fear, disgust, contempt, neutral."""

_ATTRIBUTES = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
_SPLITS = {
    "train": "Train",
    "validation": "Development",
    "dev": "Development",
    "development": "Development",
    "test": "Test",
}


def metadata_of(row: Utterance, corpus: str) -> dict[str, Any]:
    """What the `.json` member holds.

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
    metadata |= {_ATTRIBUTES[name]: value for name, value in row.attributes.items()}
    metadata |= {"SpkrID": row.speaker, "gender": GENDERS[row.gender], "split": row.split, "corpus": corpus}
    metadata |= {"FileName": row.file_name, "podcast": row.podcast}
    if row.n_raters:
        metadata |= {"votes": dict(row.votes), "mentions": dict(row.mentions), "n_raters": row.n_raters}
    return metadata


def utterance_of(metadata: Mapping[str, Any], key: str, path: str, n_samples: int, sample_rate: int) -> Utterance:
    """The utterance that the metadata describes.

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
    found = {name: float(metadata[column]) for name, column in _ATTRIBUTES.items() if metadata.get(column) is not None}
    low, high = ATTRIBUTE_RANGE
    for name, value in found.items():
        if not low <= value <= high:
            raise ValueError(f"{path}: {_ATTRIBUTES[name]} is {value}, outside 1..7; write the shard again")
    return found
