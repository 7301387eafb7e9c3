"""One row of the manifest that every emotion corpus gives, which rows take part, and how often."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from hydraudio.core.sampling import SPLITS

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
        letter: consensus class, a letter of `labels.NAMES_OF`; empty where there is no label.
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
    """Return the index into `GENDERS` of Female, Male, F, M, Unknown or nothing, in any case.

    Raises:
        ValueError: anything else.
    """
    index = _GENDER_INDEX.get(text.strip().lower())
    if index is None:
        raise ValueError(f"gender {text!r}; expected {', '.join(GENDERS)}")
    return index


def manifest_fingerprint(rows: Iterable[Utterance]) -> str:
    """Return sha256 (hex) over every field of every row, in their order; of the path only its last part counts.

    A corpus that was moved to another folder keeps its fingerprint.
    """
    digest = hashlib.sha256()
    for row in rows:
        place = str(row.path).replace("\\", "/").rsplit("/", 1)[-1]
        shares = [sorted(part.items()) for part in (row.attributes, row.votes, row.mentions)]
        fields = (row.file_name, place, row.letter, row.speaker, row.podcast, row.gender, row.split, row.n_raters)
        digest.update(f"{fields!r}{row.n_samples, row.sample_rate}{shares!r}\n".encode())
    return digest.hexdigest()


Splits = Mapping[str, str | Sequence[str]]
"""Split (train, val, test) -> the corpus's own splits that make it up, one name or several."""


def check_splits(splits: Splits) -> dict[str, tuple[str, ...]]:
    """Split -> names of the corpus's own.

    Raises:
        ValueError: not exactly train, val and test, none named, or one named twice.
    """
    named = {split: (names,) if isinstance(names, str) else tuple(names or ()) for split, names in splits.items()}
    if set(named) != set(SPLITS):
        raise ValueError(
            f"splits names {', '.join(named) or 'nothing'}; it must say what {', '.join(SPLITS)} consist of"
        )
    every = [name for split in SPLITS for name in named[split]]
    empty = [split for split in SPLITS if not named[split]]
    if empty:
        raise ValueError(f"splits.{empty[0]} is empty; name at least one split of the corpus")
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise ValueError(
            f"splits={named}: {twice[0]} is named twice; none may be part of two, and nothing may be learnt (not "
            "even the mean of the waveforms) from what is tested on"
        )
    return {split: named[split] for split in SPLITS}


def of_splits(utterances: Sequence[Utterance], names: Sequence[str]) -> list[Utterance]:
    """Return the utterances of some splits, in their order.

    Raises:
        ValueError: the corpus has no such split; the message names those it has.
    """
    absent = missing_splits(utterances, names)
    if absent:
        raise ValueError(absent[0])
    return [each for each in utterances if each.split in names]


def without(utterances: Sequence[Utterance], names: Collection[str], may_be_absent: Collection[str]) -> list[Utterance]:
    """Return the utterances whose files are not named.

    Raises:
        ValueError: a name is no file of the corpus, and none of those that some copies lack.
    """
    unknown = sorted(set(names) - {each.file_name for each in utterances} - set(may_be_absent))
    if unknown:
        raise ValueError(
            f"exclude names what the corpus does not have: {', '.join(unknown[:5])}; give names of files with their "
            "ending and without folders, as in data.exclude=[a.wav]"
        )
    return [each for each in utterances if each.file_name not in names]


def missing_splits(utterances: Sequence[Utterance], names: Sequence[str]) -> list[str]:
    """Return a sentence per name that no utterance has as its split."""
    existing = sorted({each.split for each in utterances})
    listed = ", ".join(existing)
    return [
        f"the corpus has no split {name!r}; it has {listed}: set data.splits" for name in names if name not in existing
    ]


def check_rated(utterances: Sequence[Utterance], attributes: Sequence[str]) -> None:
    """Refuse attributes that cannot be learnt.

    Raises:
        ValueError: none of the utterances has a rating of an attribute.
    """
    unrated = [name for name in attributes if not any(name in each.attributes for each in utterances)]
    if unrated:
        raise ValueError(
            f"none of the {len(utterances)} training utterances has a rating of {', '.join(unrated)}; leave out what "
            f"the corpus does not have: data.attributes={[name for name in attributes if name not in unrated]}"
        )


def shared_speakers(utterances: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """A sentence per pair of splits that known speakers are heard in both of.

    Args:
        utterances: split -> its utterances.
    """
    heard = {split: {each.speaker for each in rows} - {UNKNOWN_SPEAKER} for split, rows in utterances.items()}
    sentences = []
    for first, second in combinations(heard, 2):
        shared = sorted(heard[first] & heard[second])
        if shared:
            n_turns = sum(each.speaker in heard[first] for each in utterances[second])
            listed = f"{', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}"
            sentences.append(
                f"{first} and {second} share {len(shared)} speaker{'' if len(shared) == 1 else 's'} ({listed}; "
                f"{n_turns} of {len(utterances[second])} utterances of {second}): results will be too good; split by "
                "speaker"
            )
    return sentences


def fold_splits(names: Sequence[str], fold: int) -> dict[str, list[str]]:
    """Say which groups of speakers train, validate and test in fold k: group k tests, the next one validates.

    Args:
        names: groups (values of `Utterance.split`) in order, at least three.
        fold: from 1; after the last group comes the first.

    Raises:
        ValueError: no such fold.

    >>> fold_splits(["Session1", "Session2", "Session3"], fold=1)
    {'train': ['Session3'], 'val': ['Session2'], 'test': ['Session1']}
    """
    if not 1 <= fold <= len(names):
        raise ValueError(f"fold {fold}; the corpus has folds 1 to {len(names)}")
    test, val = names[fold - 1], names[fold % len(names)]
    return {"train": [name for name in names if name not in (val, test)], "val": [val], "test": [test]}
