"""The rows of a Libri2Mix subset as flat arrays, from either of its tables or from the files alone.

Every file of a row bears the row's identifier (`<utterance 1>_<utterance 2>.wav`) in a folder per signal. So a path is
always made from the identifier, never from the position of a line, and the absolute paths in the tables, which are
stale as soon as a corpus is moved, only have to agree with it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from hydraudio.audio.io import read_info
from hydraudio.core.defects import Defect
from hydraudio.core.tables import read_table
from hydraudio.tasks.separation.corpora.mixtures import list_files

SOURCES_OF = {"mix_clean": ("s1", "s2"), "mix_both": ("s1", "s2"), "mix_single": ("s1",)}
"""Problem (which is the name of the mixture's folder) -> folders of the sources that are to be separated."""

PARTS_OF = {"mix_clean": ("s1", "s2"), "mix_both": ("s1", "s2", "noise"), "mix_single": ("s1", "noise")}
"""Problem -> folders whose sum the mixture is."""

MODES = ("min", "max")
SUBSETS = ("train-100", "train-360", "dev", "test")
OFFICIAL_NAMES = {"train-100": "train-clean-100", "train-360": "train-clean-360"} | {
    name: f"{name}-clean" for name in ("dev", "test")
}
_PATH_COLUMNS = {"mixture_path": "mixture", "source_1_path": "s1", "source_2_path": "s2", "noise_path": "noise"}


@dataclass(frozen=True)
class Place:
    """Where the audio of one mode and sample rate lies.

    Attributes:
        root: the corpus, which holds `wav8k` or `wav16k`.
        sample_rate: in Hz.
        mode: "min" (mixtures end with the shortest source) or "max" (with the longest).
    """

    root: Path
    sample_rate: int
    mode: str

    @property
    def folder(self) -> Path:
        """`<root>/wav8k/min`."""
        return self.root / f"wav{self.sample_rate // 1000}k" / self.mode


@dataclass(frozen=True)
class MixtureIndex:
    """One subset: n rows, in the order of the table or sorted by identifier.

    Attributes:
        subset: its name, which is the name of its folder.
        folder: `<root>/wav8k/min/<subset>`.
        problem: folder of the mixtures.
        table: the table that names the rows; None where there is none.
        ids: (n,) str.
        lines: (n,) line numbers in the table, 0 without a table.
        table_lengths: (n,) samples as the table says, 0 where it does not.
        sexes: (n, 2) "F" or "M", empty where no table says.
    """

    subset: str
    folder: Path
    problem: str
    table: Path | None
    ids: np.ndarray
    lines: np.ndarray
    table_lengths: np.ndarray
    sexes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, row: int, part: str) -> Path:
        """Return the file of a row; the part is a folder's name."""
        return self.folder / part / f"{self.ids[row]}.wav"

    def talkers(self, row: int) -> list[str]:
        """Who speaks, by LibriSpeech's `<talker>-<chapter>-<n>_<talker>-<chapter>-<n>`."""
        return [utterance.split("-")[0] for utterance in str(self.ids[row]).split("_")]

    def where(self, row: int) -> str:
        """Where the row comes from, for messages."""
        return f"{self.table}: line {self.lines[row]}" if self.table else f"{self.path(row, self.problem)}"

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return (m,) samples of the rows: of the table, else from the headers of the mixtures (a file is opened for
        each).

        Raises:
            ValueError: a mixture cannot be read.
        """
        known = self.table_lengths[rows]
        return np.array(
            [
                length or read_info(self.path(row, self.problem)).n_samples
                for row, length in zip(rows, known, strict=True)
            ],
            dtype=np.int64,
        )


def parse_index(place: Place, subset: str, problem: str) -> tuple[MixtureIndex | None, list[Defect]]:
    """Return the rows that can be used (None where there are none), and every defect of the tables and folders."""
    folder = place.folder / subset
    defect = _missing_folder(place, subset, problem)
    if defect:
        return None, [defect]
    table = find_table(place, subset, problem)
    if table is None:
        rows = _Rows([Path(name).stem for name in sorted(list_files(folder / problem)) if name.endswith(".wav")])
        if not rows.ids:
            rows.defects.append(
                Defect("missing_file", f"{folder / problem}: holds no WAV files; write the corpus again")
            )
    else:
        rows = _read_rows(table)
    if not rows.ids:
        return None, rows.defects
    sexes, defects = _read_sexes(place, subset)
    index = MixtureIndex(
        subset=subset,
        folder=folder,
        problem=problem,
        table=table,
        ids=np.array(rows.ids, dtype=np.str_),
        lines=np.array(rows.lines or [0] * len(rows.ids)),
        table_lengths=np.array(rows.lengths or [0] * len(rows.ids), dtype=np.int64),
        sexes=np.array([sexes.get(name, ("", "")) for name in rows.ids], dtype=np.str_),
    )
    return index, rows.defects + defects


def find_table(place: Place, subset: str, problem: str) -> Path | None:
    """Find the table of the rows: what the generator wrote beside the audio, else what it was made from; else None."""
    beside_audio = f"mixture_{subset}_{problem}.csv"
    for folder in (place.folder / "metadata", place.folder / subset, place.folder / "metadata" / subset):
        if (folder / beside_audio).is_file():
            return folder / beside_audio
    return _generator_table(place, subset, "")


def missing_files(index: MixtureIndex, rows: np.ndarray, parts: tuple[str, ...]) -> list[Defect]:
    """Return the files that the rows need and the disk does not have; one directory listing per part."""
    defects = []
    for part in parts:
        present = list_files(index.folder / part)
        absent = [row for row in rows.tolist() if f"{index.ids[row]}.wav" not in present]
        defects += [Defect("missing_file", _missing_file(index, row, part)) for row in absent]
    return defects


def index_fingerprint(place: Place, indices: list[MixtureIndex]) -> str:
    """Return sha256 (hex) over sample rate, mode, problem and the identifiers and lengths of all rows; audio is not
    read.

    Identifiers name LibriSpeech's utterances, so another corpus has others; a table without lengths counts as is.
    """
    digest = hashlib.sha256(f"{place.sample_rate}:{place.mode}".encode())
    for index in indices:
        digest.update(f":{index.subset}:{index.problem}:{len(index)}:".encode())
        digest.update("\n".join(index.ids.tolist()).encode() + index.table_lengths.tobytes())
    return digest.hexdigest()


def _missing_folder(place: Place, subset: str, problem: str) -> Defect | None:
    folder = place.folder
    if not folder.is_dir():
        inner = place.root / "Libri2Mix"
        found = sorted(f"{each.parent.name}/{each.name}" for each in place.root.glob("wav*/m*") if each.is_dir())
        remedy = (
            f"set data.root to {inner}"
            if inner.is_dir()
            else f"the corpus holds {', '.join(found) or 'no wav8k or wav16k'}: set data.sample_rate and data.mode to "
            "what there is, or generate the rest"
        )
        return Defect("missing_root", f"{folder}: no such folder; {remedy}")
    if not (folder / subset).is_dir():
        found = sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name != "metadata")
        return Defect("missing_subset", f"{folder / subset}: no such subset; there are {', '.join(found)}")
    if not (folder / subset / problem).is_dir():
        found = sorted(each.name for each in (folder / subset).glob("mix_*"))
        return Defect(
            "missing_subset",
            f"{folder / subset / problem}: no such folder; set data.problem to one of "
            f"{', '.join(found)}, or generate it",
        )
    return None


def _missing_file(index: MixtureIndex, row: int, part: str) -> str:
    named = f"{index.where(row)} names it" if index.table else f"{index.path(row, index.problem)} needs it"
    return f"{index.path(row, part)}: no such file; {named}: copy it there or remove the row"


def _generator_table(place: Place, subset: str, ending: str) -> Path | None:
    """`metadata/[Libri2Mix/]libri2mix_<subset><ending>.csv` below the root or beside it."""
    names = [f"libri2mix_{name}{ending}.csv" for name in (OFFICIAL_NAMES.get(subset, subset), subset)]
    roots = (place.root / "metadata", place.root.parent / "metadata")
    folders = [folder for root in roots for folder in (root / "Libri2Mix", root)]
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


@dataclass
class _Rows:
    """What a table says; lines and lengths are empty where it says nothing."""

    ids: list[str]
    lines: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)


def _read_rows(table: Path) -> _Rows:
    rows = _Rows([])
    for number, cells in read_table(table, ("mixture_ID",), rows.defects):
        where = f"{table}: line {number}"
        defects = _row_defects(where, cells)
        rows.defects += defects
        if not defects:
            rows.ids.append(cells["mixture_ID"])
            rows.lines.append(number)
            rows.lengths.append(int(float(cells.get("length") or 0)))
    rows.defects += [
        Defect("duplicate_row", f"{table}: {name} occurs {count} times; keep one of these rows")
        for name, count in Counter(rows.ids).items()
        if count > 1
    ]
    if not rows.ids and not rows.defects:
        rows.defects.append(Defect("empty_csv", f"{table}: has no rows; write the table again"))
    return rows


def _row_defects(where: str, cells: dict[str, str]) -> list[Defect]:
    name, length = cells["mixture_ID"], cells.get("length", "")
    if not name or "/" in name or "\\" in name:
        return [Defect("bad_name", f"{where}: column mixture_ID holds {name!r}; expected an identifier")]
    if not re.fullmatch(r"|[1-9]\d*(\.0*)?", length):
        return [Defect("bad_number", f"{where}: column length holds {length!r}; expected a number of samples")]
    if "length" not in cells:
        return []  # the generator's own table names recordings of LibriSpeech
    return [
        Defect(
            "mismatched_row",
            f"{where}: column {column} names {file_name(cells[column])}, but mixture_ID is {name}: the lines of the "
            "table are mixed up; write it again, or remove it (then the files alone count)",
        )
        for column in _PATH_COLUMNS
        if cells.get(column) and file_name(cells[column]) != f"{name}.wav"
    ]


def file_name(path: str) -> str:
    """Last part of a path of any operating system."""
    return PurePosixPath(path.replace("\\", "/")).name


def _read_sexes(place: Place, subset: str) -> tuple[dict[str, tuple[str, str]], list[Defect]]:
    """Identifier -> sexes of both talkers, as far as `libri2mix_<subset>_info.csv` says, and the table's defects."""
    table = _generator_table(place, subset, "_info")
    defects: list[Defect] = []
    columns = ("mixture_ID", "speaker_1_sex", "speaker_2_sex")
    lines = read_table(table, columns, defects) if table else ()
    return {cells[columns[0]]: (cells[columns[1]], cells[columns[2]]) for _, cells in lines}, defects
