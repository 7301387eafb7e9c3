"""The clips of CREMA-D (Cao et al. 2014) from its folder.

`AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav`, 16 kHz: 7,442 clips of 91 actors, six emotions (1,271 of each,
1,087 neutral). `VideoDemographics.csv` says who is a woman, `processedResults/tabulatedVotes.csv` what
listeners heard; both are optional. The class is the acted emotion.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hydraudio.core.defects import Defect
from hydraudio.core.download import Archive, Source
from hydraudio.core.files import write_csv
from hydraudio.core.sampling import generator
from hydraudio.core.tables import find_file, read_table
from hydraudio.tasks.emotion.corpora.acting import CODES, Clip, EmbeddedClips, state_of
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.utterances import Utterance, fold_splits, gender_index

FOLDS = tuple(f"Fold{number}" for number in range(1, 6))
"""The splits: actors 1001, 1006, 1011 ... are Fold1, 1002, 1007 ... Fold2 and so on, 18 or 19 actors each.
Use them through `fold_splits(FOLDS, k)`."""

NO_SIGNAL = "1076_MTI_SAD_XX.wav"
"""Is empty or silent in the released corpus, and missing from some copies of it."""

LETTER_OF_CODE = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}

_NAME = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<code>[A-Z]{3})_(XX|LO|MD|HI|X)\.wav")
_VOICE_ONLY = 1
_REPOSITORY, _COMMIT = "CheyneyComputerScience/CREMA-D", "1658cd342dff90010aa843eaeebd53610a08b1dc"
_VOTE_FOLDERS = ("processedResults", "data/InfoAndStats/processedResults", "")


class CREMADDataModule(EmotionDataModule):
    """Six acted classes (7,442 clips), no attributes, five folds by actor.

    Cao, Cooper, Keutmann, Gur, Nenkova and Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
    Transactions on Affective Computing, 2014.

    Args:
        fold: to test on, 1 to 5; the next one validates.
        classes: see :class:`EmotionDataModule`.
        attributes: none, as the corpus has none; others would be missing throughout.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "crema_d"
    layout: ClassVar[str] = "the folder that holds AudioWAV"
    source: ClassVar[Source] = Source(
        (
            Archive(
                addresses=(f"https://github.com/{_REPOSITORY}/archive/{_COMMIT}.zip",),
                known_hash=None,  # GitHub does not promise the bytes of an archive; the clips themselves are pinned
                inner=f"CREMA-D-{_COMMIT}",
                pointers="AudioWAV",
                pointer_address=f"https://media.githubusercontent.com/media/{_REPOSITORY}/{_COMMIT}/{{}}",
                pointers_sha256="9bac0767a6537f671a2b0c69137a3780ee465087bbad5874aed7d551a1c3911b",
            ),
        ),
        terms="Open Database License 1.0, its contents Database Contents License 1.0.",
    )
    may_be_absent: ClassVar[tuple[str, ...]] = (NO_SIGNAL,)

    def __init__(
        self,
        fold: int = 1,
        classes: int | str | Sequence[str] = "crema_d_6",
        attributes: Sequence[str] = (),
        **common: Any,
    ) -> None:
        super().__init__(splits=fold_splits(FOLDS, fold), classes=classes, attributes=attributes, **common)

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedCREMAD]:
        return EmbeddedCREMAD

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Return all clips and defects of their names and tables."""
        return parse_index(self.root)


def parse_index(root: Path) -> tuple[list[Utterance], list[Defect]]:
    """Return the clips that can be used, sorted by name, and every defect of names and tables.

    Gender is Unknown and votes are empty where their tables are not there. Votes are of those who only heard the clip;
    a response is one mention.
    """
    audio = Path(root) / "AudioWAV"
    names = _clip_names(audio)
    if not names:
        message = f"{audio}: no clips; set data.root to the folder that holds AudioWAV"
        return [], [Defect("missing_root", message)]
    genders, defects = _read_genders(Path(root) / "VideoDemographics.csv")
    votes, vote_defects = _read_votes(find_file(Path(root), _VOTE_FOLDERS, ("tabulatedVotes.csv",)))
    defects += vote_defects
    rows = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or match["code"] not in LETTER_OF_CODE:
            message = f"{audio / name}: not named <actor>_<sentence>_<emotion>_<level>.wav, e.g. 1001_DFA_ANG_XX.wav"
            defects.append(Defect("bad_name", f"{message}; rename or remove it"))
            continue
        rows.append(_make_row(audio, name, match, genders, votes.get(Path(name).stem, Counter())))
    return rows, defects


def _clip_names(audio: Path) -> list[str]:
    if not audio.is_dir():
        return []
    with os.scandir(audio) as entries:
        return sorted(entry.name for entry in entries if entry.name.endswith(".wav") and entry.name[0] != ".")


def _make_row(
    audio: Path, name: str, match: re.Match[str], genders: Mapping[str, int], votes: Counter[str]
) -> Utterance:
    actor = match["actor"]
    shares = {letter: count / votes.total() for letter, count in votes.items() if count}
    return Utterance(
        file_name=name,
        path=audio / name,
        letter=LETTER_OF_CODE[match["code"]],
        speaker=actor,
        gender=genders.get(actor, 2),
        split=FOLDS[(int(actor) - 1001) % len(FOLDS)],
        votes=shares,
        mentions=shares,
        n_raters=votes.total(),
    )


def _read_genders(table: Path) -> tuple[dict[str, int], list[Defect]]:
    genders: dict[str, int] = {}
    defects: list[Defect] = []
    for line, row in read_table(table, ("ActorID", "Sex"), defects) if table.is_file() else ():
        try:
            genders[row["ActorID"]] = gender_index(row["Sex"])
        except ValueError as error:
            defects.append(Defect("bad_gender", f"{table}: line {line}: {error}"))
    return genders, defects


def _read_votes(table: Path | None) -> tuple[dict[str, Counter[str]], list[Defect]]:
    """Clip (without ending) -> responses per letter. The first column is 100000 * kind of presentation + clip."""
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    defects: list[Defect] = []
    letters = sorted(LETTER_OF_CODE.values())
    for line, row in read_table(table, (*letters, "fileName"), defects) if table else ():
        try:
            if int(next(iter(row.values()))) // 100000 == _VOICE_ONLY:
                votes[row["fileName"]].update({letter: int(row[letter]) for letter in letters})
        except ValueError as error:
            message = f"{table}: line {line} ({row['fileName']}): {error}; expected whole numbers of responses"
            defects.append(Defect("bad_number", f"{message}, copy the table again"))
    return dict(votes), defects


# --- the miniature ---

_SENTENCES = ("IEO", "DFA", "ITS", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "TSI", "WSI")
_STRENGTHS = {"LO": 0.6, "MD": 0.9, "HI": 1.3, "XX": 1.0}


@dataclass(frozen=True, kw_only=True)
class EmbeddedCREMAD(EmbeddedClips):
    """AudioWAV (16 kHz), VideoDemographics.csv and the first columns of tabulatedVotes.csv.

    The first sentence (IEO) is spoken at three levels of each emotion but neutral, the others at none (XX).

    Attributes:
        n_actors: 1001, 1002 and so on, women and men in turn.
        n_sentences: of twelve, by each actor in all six emotions.
    """

    n_actors: int = 15
    n_sentences: int = 3
    min_s: float = 1.2
    max_s: float = 2.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_actors < 5 or not 1 <= self.n_sentences <= len(_SENTENCES):
            raise ValueError(
                f"n_actors {self.n_actors} must be at least 5 (one per fold), n_sentences {self.n_sentences} 1 to 12"
            )

    def plan(self, root: Path) -> list[Clip]:
        rng = generator(self.seed, 13)
        rows = []
        for actor in range(1, self.n_actors + 1):
            sex = "Female" if actor % 2 else "Male"
            rows.append([str(1000 + actor), str(rng.integers(20, 75)), sex, "Unknown", "Not Hispanic"])
        write_csv(root / "VideoDemographics.csv", ["ActorID", "Age", "Sex", "Race", "Ethnicity"], rows)
        clips, votes = [], []
        takes = _crema_d_clips(self.n_actors, self.n_sentences)
        for number, (actor, sentence, code, level) in enumerate(takes, start=1):
            stem = f"{1000 + actor}_{sentence}_{code.upper()}_{level}"
            affect, classes = state_of(code, _STRENGTHS[level])
            length_s = float(rng.uniform(self.min_s, self.max_s))
            clips.append(Clip(f"AudioWAV/{stem}.wav", actor, affect, classes, length_s))
            votes.append(_vote_row(100000 + number, stem, CODES[code], rng))
        header = ["", *_VOTE_LETTERS, "fileName", "numResponses", "agreement", "emoVote"]
        write_csv(root / "processedResults" / "tabulatedVotes.csv", header, votes)
        return clips


_VOTE_LETTERS = ("A", "D", "F", "H", "N", "S")


def _crema_d_clips(n_actors: int, n_sentences: int) -> list[tuple[int, str, str, str]]:
    """(actor, sentence, emotion, level) of every clip."""
    return [
        (actor, sentence, code, level)
        for actor in range(1, n_actors + 1)
        for sentence in _SENTENCES[:n_sentences]
        for code in ("ang", "dis", "fea", "hap", "neu", "sad")
        for level in (("LO", "MD", "HI") if sentence == "IEO" and code != "neu" else ("XX",))
    ]


def _vote_row(number: int, stem: str, letter: str, rng: np.random.Generator) -> list[str]:
    """What seven to twelve listeners heard; most often the acted emotion, else mostly neutral."""
    chances = np.full(len(_VOTE_LETTERS), 0.06)
    chances[_VOTE_LETTERS.index("N")] += 0.14
    chances[_VOTE_LETTERS.index(letter)] += 0.5
    counts = rng.multinomial(int(rng.integers(7, 13)), chances / chances.sum())
    winners = [one for one, count in zip(_VOTE_LETTERS, counts, strict=True) if count == counts.max()]
    agreement = f"{counts.max() / counts.sum():.15g}"
    return [str(number), *map(str, counts), stem, str(counts.sum()), agreement, ":".join(winners)]
