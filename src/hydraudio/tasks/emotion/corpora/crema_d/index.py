"""The clips of CREMA-D (Cao et al. 2014) from its folder.

`AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav`, 16 kHz: 7,442 clips of 91 actors, six emotions (1,271 of each,
1,087 neutral). `VideoDemographics.csv` says who is a woman, `processedResults/tabulatedVotes.csv` what
listeners heard; both are optional. The class is the acted emotion.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from hydraudio.core.defects import Defect, raise_first
from hydraudio.core.tables import find_file, iterate_rows, missing_columns, read_header
from hydraudio.tasks.emotion.corpora.utterances import Utterance, gender_index

FOLDS = tuple(f"Fold{number}" for number in range(1, 6))
"""The splits: actors 1001, 1006, 1011 ... are Fold1, 1002, 1007 ... Fold2 and so on, 18 or 19 actors each.
Use them through `folds.fold_splits(FOLDS, k)`."""

NO_SIGNAL = "1076_MTI_SAD_XX.wav"
"""Is empty or silent in the released corpus, and missing from some copies of it."""

LETTER_OF_CODE = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}

_NAME = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<code>[A-Z]{3})_(XX|LO|MD|HI|X)\.wav")
_VOICE_ONLY = 1
_VOTE_FOLDERS = ("processedResults", "data/InfoAndStats/processedResults", "")


def read_index(root: Path) -> list[Utterance]:
    """Every clip, sorted by name. Gender is Unknown and votes are empty where their tables are not there.

    Votes are of those who only heard the clip; a response is one mention.

    Raises:
        FileNotFoundError: no folder AudioWAV with clips.
        ValueError: the first defect of names or tables.
    """
    rows, defects = parse_index(root)
    raise_first(defects)
    return rows


def parse_index(root: Path) -> tuple[list[Utterance], list[Defect]]:
    """The clips that can be used, and every defect of names and tables."""
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
    if not table.is_file():
        return {}, []
    header, defects = read_header(table)
    defects = defects or missing_columns(table, header, ("ActorID", "Sex"))
    if defects:
        return {}, defects
    genders = {}
    for line, cells in iterate_rows(table, len(header), defects):
        row = dict(zip(header, cells, strict=True))
        try:
            genders[row["ActorID"]] = gender_index(row["Sex"])
        except ValueError as error:
            defects.append(Defect("bad_gender", f"{table}: line {line}: {error}"))
    return genders, defects


def _read_votes(table: Path | None) -> tuple[dict[str, Counter[str]], list[Defect]]:
    """Clip (without ending) -> responses per letter. The first column is 100000 * kind of presentation + clip."""
    if table is None:
        return {}, []
    header, defects = read_header(table)
    letters = sorted(LETTER_OF_CODE.values())
    defects = defects or missing_columns(table, header, (*letters, "fileName"))
    if defects:
        return {}, defects
    columns = {letter: header.index(letter) for letter in letters}
    name_at = header.index("fileName")
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line, cells in iterate_rows(table, len(header), defects):
        try:
            if int(cells[0]) // 100000 == _VOICE_ONLY:
                votes[cells[name_at]].update({letter: int(cells[at]) for letter, at in columns.items()})
        except ValueError as error:
            message = f"{table}: line {line} ({cells[name_at]}): {error}; expected whole numbers of responses"
            defects.append(Defect("bad_number", f"{message}, copy the table again"))
    return dict(votes), defects
