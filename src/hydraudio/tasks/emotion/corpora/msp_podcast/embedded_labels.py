"""Raters of the embedded MSP-PODCAST: who hears what, and the label files in all their forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.core.files import write_csv, write_json
from hydraudio.tasks.emotion.corpora.acting import AFFECT_OF
from hydraudio.tasks.emotion.corpora.labels import MSP_LETTERS, NAMES_OF

WORD_OF = {letter: NAMES_OF[letter][0] for letter in MSP_LETTERS[:9]}
"""Letter of the consensus -> word that raters choose."""

DETAILED_FORMS = ("csv_2.0", "csv_1.11", "json")
CONSENSUS_FORMS = ("csv", "json")

_LETTERS = tuple(AFFECT_OF)
_N_WORKERS = 60
_FREE_TEXT = ("Dissapointed", "Confused", "Frustrated", "Sarcastic", "Excited", "Concerned", "Amused", "Curious")
_TAGS = (
    *("Concerned", "Frustrated", "Amused", "Annoyed", "Excited", "Disappointed", "Confused", "Depressed"),
    *(WORD_OF[letter] for letter in _LETTERS),
)
_ATTRIBUTES = ("EmoAct", "EmoVal", "EmoDom")


@dataclass(frozen=True)
class Rating:
    """What one worker says about a turn.

    Attributes:
        primary: a word of `WORD_OF`, or `Other-<word>`.
        secondary: everything that was heard; may be empty.
        affect: arousal, valence and dominance, whole numbers 1..7.
    """

    worker: str
    primary: str
    secondary: tuple[str, ...]
    affect: tuple[int, int, int]


@dataclass(frozen=True)
class Turn:
    """A labelled turn; `speaker` and `gender` may be "Unknown"."""

    file_name: str
    speaker: str
    gender: str
    split: str
    ratings: tuple[Rating, ...]

    @property
    def letter(self) -> str:
        """Consensus of the primary votes."""
        return plurality([rating.primary for rating in self.ratings])

    @property
    def affect(self) -> tuple[float, float, float]:
        """Mean arousal, valence and dominance of the raters."""
        arousal, valence, dominance = np.mean([rating.affect for rating in self.ratings], axis=0).round(6)
        return float(arousal), float(valence), float(dominance)


def plurality(primaries: Sequence[str]) -> str:
    """Return the letter of the word that most raters chose, X if there is no single one."""
    letters = {word: letter for letter, word in WORD_OF.items()}
    ranks = Counter(letters[primary.split("-")[0]] for primary in primaries).most_common(2)
    return "X" if len(ranks) == 2 and ranks[0][1] == ranks[1][1] else ranks[0][0]


def draw_ratings(
    letter: str, felt: Mapping[str, float], affect: Sequence[float], agreement: float, rng: np.random.Generator
) -> tuple[Rating, ...]:
    """Five to nine raters whose plurality is `letter`.

    Args:
        letter: one of the eight, or O or X.
        felt: letters that are heard when `letter` is X, with their weights.
        affect: what the ratings scatter around.
        agreement: share of raters who hear `letter`.
        rng: of the draw.
    """
    n_raters = int(rng.choice((5, 6, 7, 8, 9), p=(0.55, 0.2, 0.1, 0.1, 0.05)))
    weights = _confusion(affect) * (1.0 - agreement)
    for heard, weight in {letter: 1.0}.items() if letter != "X" else felt.items():
        weights[list(WORD_OF).index(heard)] += agreement * weight / (sum(felt.values()) if letter == "X" else 1.0)
    words = list(WORD_OF.values())
    while True:
        primaries = [words[index] for index in rng.choice(len(words), size=n_raters, p=weights / weights.sum())]
        if plurality(primaries) == letter:
            break
    workers = rng.choice(_N_WORKERS, size=n_raters, replace=False)
    return tuple(_rating(worker, word, affect, rng) for worker, word in zip(workers, primaries, strict=True))


def _confusion(affect: Sequence[float]) -> np.ndarray:
    """(9,) what else could be heard: classes of similar affect, neutral more often than that, sometimes Other."""
    distances = np.linalg.norm(np.array([AFFECT_OF[letter] for letter in _LETTERS]) - np.asarray(affect), axis=1)
    similar = np.exp(-0.5 * (distances / 1.5) ** 2)
    similar[_LETTERS.index("N")] += 0.3
    return np.append(0.93 * similar / similar.sum(), 0.07)


def _rating(worker: int, word: str, affect: Sequence[float], rng: np.random.Generator) -> Rating:
    primary = f"Other-{rng.choice(_FREE_TEXT)}" if word == "Other" and rng.random() < 0.8 else word
    n_tags = int(rng.choice((0, 1, 2, 3), p=(0.3, 0.4, 0.2, 0.1)))
    tags = [str(tag) for tag in rng.choice(_TAGS, size=n_tags, replace=False) if tag != word]
    own = [word] if rng.random() < 0.7 and word != "Other" else []
    bias = np.random.Generator(np.random.Philox(int(worker))).normal(0.0, 0.3, 3)
    scores = np.clip(np.rint(np.asarray(affect) + bias + rng.normal(0.0, 0.8, 3)), 1, 7)
    return Rating(f"WORKER{worker + 1:03d}", primary, (*own, *tags), (int(scores[0]), int(scores[1]), int(scores[2])))


# --- files ---


def write_labels(
    folder: Path, turns: Sequence[Turn], detailed_form: str, consensus_form: str, old_spelling: bool
) -> None:
    """Write labels.txt, the consensus and the detailed labels.

    Args:
        folder: `Labels`, which exists.
        turns: in the order of the files.
        detailed_form: one of `DETAILED_FORMS`.
        consensus_form: one of `CONSENSUS_FORMS`.
        old_spelling: `labels_concensus`, and in JSON numbers as strings, as in the first releases.
    """
    blocks = [_text_block(turn) for turn in turns]
    (folder / "labels.txt").write_text("\n".join(blocks), encoding="utf-8")
    name = "labels_concensus" if old_spelling else "labels_consensus"
    rows = [_consensus_row(turn) for turn in turns]
    if consensus_form == "csv":
        write_csv(folder / f"{name}.csv", list(rows[0]), rows)
    else:
        texts = [{key: str(value) if old_spelling else value for key, value in row.items()} for row in rows]
        write_json(folder / f"{name}.json", {str(row.pop("FileName")): row for row in texts}, indent=1)
    _write_detailed(folder, turns, detailed_form)


def _consensus_row(turn: Turn) -> dict[str, object]:
    affect = dict(zip(_ATTRIBUTES, turn.affect, strict=True))
    speaker: int | str = int(turn.speaker) if turn.speaker.isdigit() else turn.speaker
    who = {"SpkrID": speaker, "Gender": turn.gender, "Split_Set": turn.split}
    return {"FileName": turn.file_name, "EmoClass": turn.letter, **affect, **who}


def _write_detailed(folder: Path, turns: Sequence[Turn], form: str) -> None:
    if form == "json":
        entries = {turn.file_name: {rating.worker: _fields(rating) for rating in turn.ratings} for turn in turns}
        write_json(folder / "labels_detailed.json", entries, indent=1)
        return
    rows: list[dict[str, object]] = []
    for turn in turns:
        for rating in turn.ratings:
            if form == "csv_1.11":
                rows.append({"FileName": turn.file_name, "EmoDetail": _text_line(rating, decimals=0)})
            else:
                entry = _fields(rating)
                entry["EmoVal"] = entry.pop("EmoVal")  # the table has it last
                rows.append({"FileName": turn.file_name, "Workers": rating.worker, **entry})
    write_csv(folder / "labels_detailed.csv", list(rows[0]), rows)


def _fields(rating: Rating) -> dict[str, object]:
    words = {"EmoClass_Major": rating.primary, "EmoClass_Second": ",".join(rating.secondary)}
    return {**words, **dict(zip(_ATTRIBUTES, rating.affect, strict=True))}


def _text_block(turn: Turn) -> str:
    scores = " ".join(f"{name}:{value:f};" for name, value in zip("AVD", turn.affect, strict=True))
    lines = [_text_line(rating, decimals=6) for rating in turn.ratings]
    return "\n".join([f"{turn.file_name}; {turn.letter}; {scores}", *lines]) + "\n"


def _text_line(rating: Rating, decimals: int) -> str:
    """`WORKER001; Sad; Sad,Concerned; A:2; V:3; D:3;`; without secondary labels their field is missing."""
    secondary = [",".join(rating.secondary)] if rating.secondary else []
    scores = [f"{name}:{value:.{decimals}f}" for name, value in zip("AVD", rating.affect, strict=True)]
    return "; ".join([rating.worker, rating.primary, *secondary, *scores]) + ";"
