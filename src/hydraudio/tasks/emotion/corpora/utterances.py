"""One row of the manifest that every emotion corpus gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

GENDERS = ("Female", "Male", "Unknown")
"""Order of the gender index everywhere."""

ATTRIBUTES = ("arousal", "valence", "dominance")
"""Names of the attributes, in the order in which a corpus is asked for them by default."""

ATTRIBUTE_RANGE = (1.0, 7.0)
"""Range of the attributes of an utterance: MSP-PODCAST's self-assessment manikins."""

UNKNOWN_SPEAKER = "Unknown"

_GENDER_INDEX = {"female": 0, "f": 0, "male": 1, "m": 1, "unknown": 2, "": 2}


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is known about one turn.

    Attributes:
        file_name: with extension; unique within a corpus.
        path: the audio file, or "<shard.tar>#<key>".
        n_samples: length in samples at `sample_rate`; None until its header is read.
        letter: consensus class, a letter of `classes.NAMES_OF`; empty where there is no label.
        attributes: name (`ATTRIBUTES`) -> mean rating from 1 to 7; a missing rating is absent.
        speaker: "Unknown" where nobody knows.
        podcast: recording that the turn is cut from; empty where the corpus has none.
        gender: index into `GENDERS`.
        split: as the corpus spells it, "Validation" of old releases as "Development".
        votes: letter -> share of ALL raters whose primary label it is (sums to 1 with Other); empty if not known.
        mentions: letter -> share of all primary and secondary mentions (sums to 1 with Other); empty if not known.
        n_raters: number of raters, 0 if not known.
        sample_rate: the file's own, in Hz; None until its header is read.
    """

    file_name: str
    path: Path | str
    n_samples: int | None = None
    letter: str = ""
    attributes: Mapping[str, float] = field(default_factory=dict)
    speaker: str = UNKNOWN_SPEAKER
    podcast: str = ""
    gender: int = 2
    split: str = ""
    votes: Mapping[str, float] = field(default_factory=dict)
    mentions: Mapping[str, float] = field(default_factory=dict)
    n_raters: int = 0
    sample_rate: int | None = None


def gender_index(text: str) -> int:
    """Index into `GENDERS` of Female, Male, F, M, Unknown or nothing, in any case.

    Raises:
        ValueError: anything else.
    """
    index = _GENDER_INDEX.get(text.strip().lower())
    if index is None:
        raise ValueError(f"gender {text!r}; expected {', '.join(GENDERS)}")
    return index


def manifest_fingerprint(rows: Iterable[Utterance]) -> str:
    """sha256 (hex) over every field of every row, in their order; of the path only its last part counts.

    A corpus that was moved to another folder keeps its fingerprint.
    """
    digest = hashlib.sha256()
    for row in rows:
        place = str(row.path).replace("\\", "/").rsplit("/", 1)[-1]
        shares = [sorted(part.items()) for part in (row.attributes, row.votes, row.mentions)]
        fields = (row.file_name, place, row.letter, row.speaker, row.podcast, row.gender, row.split, row.n_raters)
        digest.update(f"{fields!r}{row.n_samples, row.sample_rate}{shares!r}\n".encode())
    return digest.hexdigest()
