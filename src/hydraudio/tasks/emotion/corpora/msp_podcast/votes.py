"""What every single rater of MSP-PODCAST said, from any of the forms in which releases give it.

`labels_detailed.csv` has either a row per rater with columns of their own (EmoClass_Major, EmoClass_Second, EmoAct,
EmoVal, EmoDom; the column of the rater is called Workers, WorkerID ...) or two columns, FileName and EmoDetail
("WORKER01; Happy; Happy,Excited; A:4; V:5; D:4;"). `labels_detailed.json` maps file name -> rater -> the columns, or
file name -> {"Workers": [{"Name": rater, the columns}]}. `labels.txt` has a block of lines per turn.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hydraudio.core.defects import Defect
from hydraudio.core.tables import find_file, read_header, read_json, read_table
from hydraudio.tasks.emotion.corpora.labels import EMOTIONS
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import COLUMN_OF, LABEL_FOLDERS
from hydraudio.tasks.emotion.corpora.utterances import Utterance

VOTES_NAMES = ("labels_detailed.csv", "labels_detailed.json", "labels.txt")

_COLUMNS = ("EmoClass_Major", "EmoClass_Second", *COLUMN_OF.values())
_DETAIL = re.compile(r"(?P<head>.*?);\s*A:(?P<A>[^;]*);\s*V:(?P<V>[^;]*);\s*D:(?P<D>[^;]*);?\s*", re.DOTALL)


class Vote(NamedTuple):
    """One rater's answer.

    Attributes:
        worker: who.
        primary: letter of the primary label, O for everything that is none of the eight classes.
        secondary: letters of all secondary labels, O for each that is none of the eight.
        ratings: arousal, valence and dominance from 1 to 7, NaN where missing.
    """

    worker: str
    primary: str
    secondary: tuple[str, ...]
    ratings: tuple[float, float, float]


def parse_votes(root: Path) -> tuple[dict[str, list[Vote]], list[Defect]]:
    """File name -> its votes that can be used, and every defect of the file.

    The file is `labels_detailed.csv`, else `.json`, else `labels.txt`, in `Labels/` or the root.
    """
    path = find_votes(root)
    if path is None:
        message = f"{Path(root) / 'Labels' / VOTES_NAMES[0]}: no such file; soft targets need every rater's answer"
        return {}, [Defect("missing_csv", f"{message}: copy it there, or ask for hard targets (data.targets=hard)")]
    votes: dict[str, list[Vote]] = defaultdict(list)
    defects: list[Defect] = []
    readers = {".csv": _csv_votes, ".json": _json_votes, ".txt": _block_votes}
    for name, vote in readers[path.suffix](path, defects):
        votes[name].append(vote)
    if not votes and not defects:
        defects.append(Defect("empty_csv", f"{path}: has no votes; copy it from the corpus again"))
    return dict(votes), defects


def find_votes(root: Path) -> Path | None:
    """Return the file with every rater's answer; None where the corpus has none."""
    return find_file(Path(root), LABEL_FOLDERS, VOTES_NAMES)


def add_votes(rows: Iterable[Utterance], votes: Mapping[str, Sequence[Vote]]) -> list[Utterance]:
    """Return the rows with the shares of their votes; rows without any stay as they are."""
    return [_with_votes(row, votes[row.file_name]) if row.file_name in votes else row for row in rows]


def _with_votes(row: Utterance, votes: Sequence[Vote]) -> Utterance:
    primary = Counter(vote.primary for vote in votes)
    mentions = primary + Counter(letter for vote in votes for letter in vote.secondary)
    return replace(row, votes=_shares(primary), mentions=_shares(mentions), n_raters=len(votes))


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {letter: number / total for letter, number in counts.items()}


def make_vote(worker: str, primary: str, secondary: str, ratings: Sequence[str]) -> Vote:
    """Return a vote from the texts of a file.

    Args:
        secondary: tags separated by commas, may be empty.
        ratings: arousal, valence and dominance; empty or "nan" where missing.

    Raises:
        ValueError: no primary label, or a rating is no number from 1 to 7.
    """
    if not primary:
        raise ValueError("the primary label is empty")
    letters = tuple(_letter(tag) for tag in secondary.split(",") if tag.strip())
    arousal, valence, dominance = (_rating(text) for text in ratings)
    return Vote(sys.intern(worker), _letter(primary), letters, (arousal, valence, dominance))


def _letter(tag: str) -> str:
    """Only the names of the eight emotions are those: a tag that is close to one (annoyed, amused, depressed) is a
    mention of something else, like every free text ("Other-bored")."""
    return EMOTIONS.get(tag.strip().lower(), "O")


def _rating(text: str) -> float:
    rating = float(text) if text.strip() else math.nan
    if rating < 1 or rating > 7:
        raise ValueError(f"the rating {text.strip()!r} is not from 1 to 7")
    return rating


def parse_detail(text: str) -> Vote:
    """Return a vote from "WORKER01; Happy; Happy,Excited; A:4; V:5; D:4;", where the third field may be missing.

    Raises:
        ValueError: not of this form, or a rating is no number from 1 to 7.
    """
    match = _DETAIL.fullmatch(text)
    fields = [field.strip() for field in match["head"].split(";")] if match else []
    if match is None or len(fields) < 2:
        raise ValueError(f"{text!r:.120} is not of the form 'rater; primary; secondary; A:n; V:n; D:n;'")
    worker, primary, secondary = fields[0], fields[1], ""
    if len(fields) > 2:  # free text may hold semicolons itself
        primary, secondary = "; ".join(fields[1:-1]), fields[-1]
    return make_vote(worker, primary, secondary, (match["A"], match["V"], match["D"]))


def _csv_votes(path: Path, defects: list[Defect]) -> Iterator[tuple[str, Vote]]:
    """The rater's column is the one that begins with Worker; without one the rater's name is empty."""
    header, _ = read_header(path)
    columns = ("EmoDetail",) if "EmoDetail" in header else _COLUMNS
    worker = next((name for name in header if name.lower().startswith(("worker", "annotator"))), None)
    for line, row in read_table(path, ("FileName", *columns), defects):
        answer = [row[column] for column in columns]
        try:
            name = _checked_name(row["FileName"])
            if len(answer) == 1:
                yield name, parse_detail(*answer)
            else:
                yield name, make_vote(row[worker] if worker else "", answer[0], answer[1], answer[2:])
        except ValueError as error:
            defects.append(_bad_vote(f"{path}: line {line} ({row['FileName']})", error))


def _json_votes(path: Path, defects: list[Defect]) -> Iterator[tuple[str, Vote]]:
    content, found = read_json(path)
    defects += found
    for name, entry in content.items():
        for worker, answer in _answers(entry):
            try:
                cells = ["" if answer[key] is None else str(answer[key]).strip() for key in _COLUMNS]
                yield _checked_name(name), make_vote(worker, cells[0], cells[1], cells[2:])
            except (KeyError, TypeError) as error:
                expected = ValueError(f"holds {answer!r:.80}, where {', '.join(_COLUMNS)} are expected")
                expected.__cause__ = error
                defects.append(_bad_vote(f"{path}: entry {name!r}, {worker}", expected))
            except ValueError as error:
                defects.append(_bad_vote(f"{path}: entry {name!r}, {worker}", error))


def _answers(entry: Any) -> list[tuple[str, Any]]:
    """(rater, answer) of a turn's entry."""
    if isinstance(entry, dict) and isinstance(entry.get("Workers"), list):
        answers = entry["Workers"]
        return [(str(answer.get("Name", "")) if isinstance(answer, dict) else "", answer) for answer in answers]
    return list(entry.items()) if isinstance(entry, dict) else [("", entry)]


def _block_votes(path: Path, defects: list[Defect]) -> Iterator[tuple[str, Vote]]:
    """Blocks of lines: "<file>; <letter>; A:4.2; V:3.8; D:4.0;", then a line per rater; an empty line ends a block."""
    name = ""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                line = line.strip()
                if not line:
                    name = ""
                elif not name:
                    name = line.split(";")[0].strip()
                else:
                    try:
                        yield name, parse_detail(line)
                    except ValueError as error:
                        defects.append(_bad_vote(f"{path}: line {number} ({name})", error))
    except UnicodeDecodeError as error:
        defects.append(Defect("bad_csv", f"{path}: not UTF-8 ({error}); save the file again as UTF-8"))


def _checked_name(name: str) -> str:
    if not name:
        raise ValueError("the file name is empty")
    return name


def _bad_vote(where: str, error: ValueError) -> Defect:
    return Defect("bad_vote", f"{where}: {error}; correct the answer or remove it")
