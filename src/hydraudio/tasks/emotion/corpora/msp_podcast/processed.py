"""`processed_labels*.csv`: one column per class, as the public recipes for MSP-PODCAST write and read them.

Columns: FileName, Angry, Sad, Happy, Surprise, Fear, Disgust, Contempt, Neutral, Split_Set. The hard file holds 1.0 and
0.0 and only turns whose consensus is one of the eight classes; `processed_labels_soft_P.csv` holds shares of all raters
(rows may sum to less than 1), `processed_labels_soft_S.csv` shares of all mentions, both for every turn where somebody
named one of the eight. `processed_labels_all.csv` has the hard columns plus attributes, speaker and gender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hydraudio.core.defects import Defect
from hydraudio.core.files import write_csv
from hydraudio.core.tables import read_table
from hydraudio.tasks.emotion.corpora.labels import EmotionClasses, hard, label_of_target, mention_shares, primary_shares
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import COLUMN_OF, SPLITS, podcast_of
from hydraudio.tasks.emotion.corpora.utterances import GENDERS, Utterance

EIGHT = EmotionClasses.of(8)
COLUMNS = ("FileName", *EIGHT.names, "Split_Set")
EXTRA_COLUMNS = (*COLUMN_OF.values(), "SpkrID", "Gender")

HARD_FILE = "processed_labels.csv"
SOFT_FILES = {"processed_labels_soft_P.csv": primary_shares, "processed_labels_soft_S.csv": mention_shares}
ALL_FILE = "processed_labels_all.csv"


@dataclass(frozen=True)
class ProcessedRow:
    """One row of such a file.

    Attributes:
        shares: (8,) float32 in the order of the columns, from 0 to 1, not all 0.
        split: "Validation" is read as Development.
    """

    shares: np.ndarray
    split: str

    @property
    def one_hot(self) -> bool:
        """One class has everything."""
        return bool(np.count_nonzero(self.shares) == 1 and self.shares.max() == 1)


def write_processed(rows: Sequence[Utterance], folder: Path, soft: bool, overwrite: bool = False) -> dict[Path, int]:
    """Write the hard file and the one with everything, and with `soft` (rows with votes) the two soft ones.

    Files appear whole or not at all. Returns path -> number of rows.

    Raises:
        FileExistsError: a file is there already and `overwrite` is false; then nothing is written.
    """
    folder = Path(folder)
    columns: dict[str, Sequence[str]] = dict.fromkeys((HARD_FILE, *(SOFT_FILES if soft else ())), COLUMNS)
    columns[ALL_FILE] = (*COLUMNS, *EXTRA_COLUMNS)
    present = [str(folder / name) for name in columns if (folder / name).exists()]
    if present and not overwrite:
        raise FileExistsError(f"{', '.join(present)}: there already; give --overwrite or another folder")
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, header in columns.items():
        lines = list(_lines(rows, SOFT_FILES.get(name, hard), _extra if name == ALL_FILE else None))
        counts[write_csv(folder / name, header, lines)] = len(lines)
    return counts


def _lines(
    rows: Sequence[Utterance],
    shares_of: Callable[[Utterance, EmotionClasses], np.ndarray | None],
    extra: Callable[[Utterance], list[str]] | None,
) -> Iterable[list[str]]:
    for row in rows:
        shares = shares_of(row, EIGHT)
        if shares is not None:
            values = [str(share) for share in shares]
            yield [row.file_name, *values, row.split, *(extra(row) if extra else [])]


def _extra(row: Utterance) -> list[str]:
    attributes = [str(row.attributes[name]) if name in row.attributes else "" for name in COLUMN_OF]
    return [*attributes, row.speaker, GENDERS[row.gender]]


def parse_processed(path: Path) -> tuple[dict[str, ProcessedRow], list[Defect]]:
    """Read file name -> row of a hard or soft file of any origin (columns by name), and every defect."""
    path = Path(path)
    if not path.is_file():
        return {}, [Defect("missing_csv", f"{path}: no such file; write it with scripts/emotion/process_labels_msp.py")]
    defects: list[Defect] = []
    rows: dict[str, ProcessedRow] = {}
    for line, row in read_table(path, COLUMNS, defects):
        where, (name, *values, split) = f"{path}: line {line}", (row[column] for column in COLUMNS)
        split = "Development" if split == "Validation" else split
        shares = _parse_shares(values)
        if not name or "/" in name or "\\" in name:
            message = f"{where}: column FileName holds {name!r}; expected the name of a file, no folders"
            defects.append(Defect("bad_name", message))
        elif name in rows:
            defects.append(Defect("duplicate_row", f"{where}: {name} occurs twice; keep one of the rows"))
        elif split not in SPLITS:
            expected = f"one of {', '.join(SPLITS)}; correct the row"
            defects.append(
                Defect("bad_split", f"{where} ({name}): column Split_Set holds {split!r}; expected {expected}")
            )
        elif shares is None:
            message = f"{where} ({name}): {', '.join(values)} are no shares of the classes"
            expected = "expected numbers from 0 to 1 that sum to at most 1 and not to 0; correct the row"
            defects.append(Defect("bad_number", f"{message}; {expected}"))
        else:
            rows[name] = ProcessedRow(shares, split)
    if not rows and not defects:
        defects.append(Defect("empty_csv", f"{path}: has no rows; write it with scripts/emotion/process_labels_msp.py"))
    return rows, defects


def _parse_shares(cells: Sequence[str]) -> np.ndarray | None:
    try:
        shares = np.array([float(cell) for cell in cells], dtype=np.float32)
    except ValueError:
        return None
    in_range = bool(np.all((shares >= 0) & (shares <= 1))) and 0 < float(shares.sum()) <= 1 + 1e-4
    return shares if in_range else None


def apply_processed(rows: Iterable[Utterance], processed: Mapping[str, ProcessedRow]) -> list[Utterance]:
    """Return the rows with class and split of the file, and everything else as they had it.

    A turn that the file does not name loses its class. The class of a soft row is its largest share (the first column
    of several), and its shares become votes (what is missing from 1 goes to Other) and mentions.

    Raises:
        ValueError: the file names a turn that is not among the rows.
    """
    rows = list(rows)
    absent = processed.keys() - {row.file_name for row in rows}
    if absent:
        raise ValueError(
            f"the label file names {len(absent)} turns that the corpus does not have, e.g. {min(absent)}; take "
            "the file and the corpus from the same release"
        )
    return [
        _labelled(row, processed[row.file_name])
        if row.file_name in processed
        else replace(row, letter="", votes={}, mentions={}, n_raters=0)
        for row in rows
    ]


def rows_of_processed(processed: Mapping[str, ProcessedRow], audio: Path) -> list[Utterance]:
    """Return the rows from the file alone, for a corpus without a consensus file: no attributes, speakers or genders.

    Args:
        audio: folder of the audio files.
    """
    return [
        _labelled(Utterance(file_name=name, path=audio / name, podcast=podcast_of(name)), row)
        for name, row in processed.items()
    ]


def _labelled(row: Utterance, processed: ProcessedRow) -> Utterance:
    letter = EIGHT.letters[label_of_target(processed.shares)]
    if processed.one_hot:
        return replace(row, letter=letter, split=processed.split)
    named = {name: float(share) for name, share in zip(EIGHT.letters, processed.shares, strict=True) if share > 0}
    total = sum(named.values())
    votes = named | ({"O": 1 - total} if total < 1 - 1e-4 else {})
    mentions = {name: share / total for name, share in named.items()}
    return replace(row, letter=letter, split=processed.split, votes=votes, mentions=mentions)
