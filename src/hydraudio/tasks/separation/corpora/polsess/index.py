"""A PolSESS subset: its table as flat arrays, its samples, and the words for everything that can be wrong with both.

Samples come from WAV files, or from a pack that `pack.pack_corpus` has
written. Both stores give `read(row, component, start, n_samples)`, a (time,) array, and `scale`, the factor that brings
its values to [-1, 1]. Sums of 16-bit codes are exact in float32, so both give the same bits after the scaling.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.audio.io import read_audio, read_info
from hydraudio.audio.packing import FULL_SCALE, Pack, is_pack
from hydraudio.core.defects import Defect
from hydraudio.core.tables import read_table
from hydraudio.tasks.separation.corpora.mixtures import list_files
from hydraudio.tasks.separation.corpora.polsess.layout import (
    COLUMN_OF,
    FOLDER_OF,
    REVERB_FILE_COLUMNS,
    SUBSETS,
    csv_path,
)
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import COMPONENTS, INDOOR_PARTS

_REVERB_COMPONENTS = tuple(name for name in INDOOR_PARTS if name.endswith("_reverb"))
_DRY_COMPONENTS = tuple(name for name in COMPONENTS if name not in _REVERB_COMPONENTS)
_EMPTY = {"", "nan", "<missing>"}
"""How MATLAB and pandas write an empty cell."""


@dataclass(frozen=True)
class CorpusIndex:
    """One subset: n rows in the order of the table.

    Attributes:
        folder: `<root>/<subset>`.
        table: path of the CSV.
        files: component -> (n,) file names, empty where the row has no such component.
        lines: (n,) line numbers in the CSV, for messages.
        indoor: (n,) bool.
        ssr_db: (n,) speaker 1 over speaker 2 in dB, NaN where the table does not say.
        scene_db: (n,) scene over the dry speech mix in dB, NaN where the table does not say.
        scene_class, event_class: (n,) str, empty where the table does not say.
        sources: (n, 2) str, paths of the recordings of speaker 1 and 2, empty where the table does not say.
    """

    subset: str
    folder: Path
    table: Path
    files: Mapping[str, np.ndarray]
    lines: np.ndarray
    indoor: np.ndarray
    ssr_db: np.ndarray
    scene_db: np.ndarray
    scene_class: np.ndarray
    event_class: np.ndarray
    sources: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    def path(self, row: int, component: str) -> Path:
        """Where the component of a row lies."""
        return self.folder / FOLDER_OF[component] / str(self.files[component][row])

    def where(self, row: int) -> str:
        """ "<table>: line <n>", for messages."""
        return f"{self.table}: line {self.lines[row]}"


def parse_index(root: Path, subset: str) -> tuple[CorpusIndex | None, list[Defect]]:
    """Return the rows that can be used (None without a usable table) and every defect of the table."""
    table, defect = find_table(root, subset)
    if table is None:
        return None, [defect] if defect else []
    rows, lines, defects = _read_rows(table)
    if not rows:
        return None, defects
    return _make_index(root, subset, table, rows, lines), defects


def find_table(root: Path, subset: str) -> tuple[Path | None, Defect | None]:
    """Return `corpus_<basename(root)>_<subset>_final.csv`, or else the only `corpus_*_final.csv` of the folder."""
    folder = root / subset
    if not folder.is_dir():
        return None, Defect("missing_subset", f"{folder}: no such folder; a PolSESS root holds {', '.join(SUBSETS)}")
    if csv_path(root, subset).is_file():
        return csv_path(root, subset), None
    found = sorted(path for path in folder.glob("corpus_*_final.csv") if path.is_file())
    if not found:
        message = f"{csv_path(root, subset)}: no such table; move the generator's CSV for {subset} there"
        return None, Defect("missing_csv", message)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        message = f"{folder}: several tables ({names}); keep one, or name it {csv_path(root, subset).name}"
        return None, Defect("ambiguous_csv", message)
    return found[0], None


def corpus_fingerprint(root: Path) -> str:
    """Return sha256 (hex) over the name, size and content of each subset's table, in the order train, val, test.

    File names in a PolSESS table are random per row, so another corpus has another table; audio is not read.
    """
    digest = hashlib.sha256()
    for subset in SUBSETS:
        table, _ = find_table(root, subset)
        if table is not None:
            content = table.read_bytes()
            digest.update(f"{subset}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def missing_files(
    index: CorpusIndex, rows: np.ndarray, components_by_room: Mapping[bool, Iterable[str]]
) -> list[Defect]:
    """Return the files that the table names and the disk does not have; one directory listing per folder.

    Args:
        rows: (m,) row numbers to look at.
        components_by_room: components that are needed, by `indoor`.
    """
    listings: dict[str, set[str]] = {}
    defects = []
    for component in COMPONENTS:
        needing = [room for room, components in components_by_room.items() if component in components]
        wanted = rows[np.isin(index.indoor[rows], needing)]
        if len(wanted) == 0:
            continue
        folder = FOLDER_OF[component]
        present = listings.setdefault(folder, list_files(index.folder / folder))
        names = index.files[component][wanted].tolist()
        absent = [row for row, name in zip(wanted.tolist(), names, strict=True) if name not in present]
        defects += [_missing_file(index, row, component) for row in absent]
    return defects


def talker_keys(paths: Sequence[str]) -> list[str | None]:
    """Guesses who speaks from the paths of the source recordings (None where nothing can be told).

    In corpora such as MLS and LibriSpeech (`<talker>/<book>/<talker>_<book>_<n>.flac`) the first token of
    the file name is also a folder: that is the talker. Else it is the parent folder, if the recordings lie
    in several. Else, in one flat folder, the first token of a file name with several tokens.
    """
    split = {path: [part for part in re.split(r"[\\/]+", path) if part] for path in set(paths) if path}
    flat = len({tuple(parts[:-1]) for parts in split.values()}) < 2
    keys = {path: _talker_key(parts, flat) for path, parts in split.items()}
    return [keys.get(path) for path in paths]


def _talker_key(parts: list[str], flat: bool) -> str | None:
    tokens = re.split(r"[_\-]", Path(parts[-1]).stem)
    if len(tokens) > 1 and tokens[0] in parts[:-1]:
        return tokens[0]
    if not flat:
        return "/".join(parts[:-1][-2:])
    return tokens[0] if len(tokens) > 1 else None


def _missing_file(index: CorpusIndex, row: int, component: str) -> Defect:
    message = (
        f"{index.path(row, component)}: no such file; {index.where(row)}, column {COLUMN_OF[component]} "
        "names it: copy it there or remove the row"
    )
    return Defect("missing_file", message)


def _read_rows(table: Path) -> tuple[list[dict[str, str]], list[int], list[Defect]]:
    """(rows that can be used, their line numbers, defects)."""
    defects: list[Defect] = []
    rows, lines = [], []
    for line, cells in read_table(table, list(COLUMN_OF.values()), defects):
        row = {name: "" if cell.lower() in _EMPTY else cell for name, cell in cells.items() if name in _USED_COLUMNS}
        row_defects = _row_defects(f"{table}: line {line}", row)
        defects += row_defects
        if not row_defects:
            rows.append(row)
            lines.append(line)
    if not rows and not defects:
        defects.append(Defect("empty_csv", f"{table}: has no rows; write the table again"))
    return rows, lines, defects


def _row_defects(where: str, row: dict[str, str]) -> list[Defect]:
    filled = [row[column] != "" for column in REVERB_FILE_COLUMNS]
    required = [COLUMN_OF[component] for component in _DRY_COMPONENTS]
    required += list(REVERB_FILE_COLUMNS) if any(filled) else []
    defects = [
        Defect("empty_cell", f"{where}: column {column} is empty; complete the row or remove it")
        for column in required
        if row[column] == ""
    ]
    defects += [
        Defect("bad_name", f"{where}: column {column} holds {row[column]!r}; expected a file name, no folders")
        for column in COLUMN_OF.values()
        if "/" in row[column] or "\\" in row[column] or row[column] in (".", "..")
    ]
    return defects + [
        Defect("bad_number", f"{where}: column {column} holds {row[column]!r}; expected a number or nothing")
        for column in _NUMBER_COLUMNS
        if not _NUMBER.fullmatch(row.get(column, ""))
    ]


_NUMBER_COLUMNS = ("SSR", "sceneOffsetDB")
_USED_COLUMNS = {
    *COLUMN_OF.values(),
    *_NUMBER_COLUMNS,
    *("sceneClass", "eventClass", "speech1OryginalPath", "speech2OryginalPath"),
}
_NUMBER = re.compile(r"|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _make_index(root: Path, subset: str, table: Path, rows: list[dict[str, str]], lines: list[int]) -> CorpusIndex:
    def texts(column: str) -> np.ndarray:
        return np.array([row.get(column, "") for row in rows], dtype=np.str_)

    files = {component: texts(column) for component, column in COLUMN_OF.items()}
    return CorpusIndex(
        subset=subset,
        folder=root / subset,
        table=table,
        files=files,
        lines=np.array(lines),
        indoor=files["sp1_reverb"] != "",
        ssr_db=_numbers(texts("SSR")),
        scene_db=_numbers(texts("sceneOffsetDB")),
        scene_class=texts("sceneClass"),
        event_class=texts("eventClass"),
        sources=np.stack([texts("speech1OryginalPath"), texts("speech2OryginalPath")], axis=1),
    )


def _numbers(texts: np.ndarray) -> np.ndarray:
    return np.array([float(text) if text else np.nan for text in texts.tolist()])


_N_PROBES = 9


class WavStore:
    """Reads the WAV files of a subset (float32, scale 1)."""

    scale = 1.0

    def __init__(self, index: CorpusIndex, sample_rate: int) -> None:
        self.index, self.sample_rate = index, sample_rate
        self.n_samples = clip_length(index)

    def read(self, row: int, component: str, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """(time,) float32 in [-1, 1]; n_samples None reads the whole clip."""
        path = self.index.path(row, component)
        if n_samples is not None and n_samples < self.n_samples:
            return read_audio(path, sample_rate=self.sample_rate, start=start, n_samples=n_samples)
        return read_clip(path, self.sample_rate, self.n_samples)


class PackedStore:
    """Reads a subset from a pack (int16 codes, scale 1/32768)."""

    scale = 1.0 / FULL_SCALE

    def __init__(self, index: CorpusIndex, pack: Pack, sample_rate: int) -> None:
        if pack.sample_rate != sample_rate:
            raise ValueError(
                f"{pack.folder}: packed at {pack.sample_rate} Hz, expected {sample_rate} Hz; "
                "set the sample rate to the pack's"
            )
        self.pack, self.sample_rate = pack, sample_rate
        self._group = {room: group_name(index.subset, room) for room in (False, True)}
        self._indoor = index.indoor
        self._position = _positions(index.indoor)
        self.n_samples = pack.groups[self._group[bool(index.indoor[0])]].n_samples

    def read(self, row: int, component: str, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Return (time,) int16, a view of the memory map."""
        group = self._group[bool(self._indoor[row])]
        return self.pack.read(group, int(self._position[row]), component, start, n_samples)


Store = WavStore | PackedStore


def open_store(root: Path, index: CorpusIndex, sample_rate: int) -> Store:
    """Return the store of a subset; a root with a pack's manifest is read as a pack."""
    if not is_pack(root):
        return WavStore(index, sample_rate)
    pack = Pack(root)
    for room in (False, True):
        name, n_rows = group_name(index.subset, room), int((index.indoor == room).sum())
        n_packed = pack.groups[name].n_rows if name in pack.groups else 0
        if n_packed != n_rows:
            raise ValueError(
                f"{index.table}: {n_rows} rows of group {name}, but {n_packed} are packed; pack the corpus again"
            )
    return PackedStore(index, pack, sample_rate)


def read_clip(path: Path, sample_rate: int, n_samples: int) -> np.ndarray:
    """Return (time,) float32 in [-1, 1]: a whole file, which must have the corpus's rate and length."""
    waveform = read_audio(path, sample_rate=sample_rate)
    if len(waveform) != n_samples:
        raise ValueError(
            f"{path}: has {len(waveform)} samples, expected {n_samples} like the other clips; "
            "cut or write the file again, or remove its row"
        )
    return waveform


def clip_length(index: CorpusIndex) -> int:
    """Return the samples per clip: the median over the headers of up to nine mixes or talkers, spread over the subset.

    Unreadable files among them are passed over (they are reported when they are read) unless all are
    unreadable.
    """
    rows = np.linspace(0, len(index) - 1, min(_N_PROBES, len(index))).astype(int)
    paths = [index.path(int(row), component) for row in rows for component in ("mix", "sp1")]
    lengths = [length for path in paths if (length := _header_length(path)) is not None]
    if not lengths:
        read_audio(paths[0])
        raise ValueError(f"{index.folder}: none of the first files can be read; check the corpus")
    return int(np.sort(lengths)[len(lengths) // 2])


def group_name(subset: str, indoor: bool) -> str:
    """Name the rows of a subset and place in a pack."""
    return f"{subset}/{'indoor' if indoor else 'outdoor'}"


def _header_length(path: Path) -> int | None:
    try:
        return read_info(path).n_samples
    except (ValueError, FileNotFoundError):
        return None


def _positions(indoor: np.ndarray) -> np.ndarray:
    """(n,) position of every row within its group."""
    return np.where(indoor, np.cumsum(indoor) - 1, np.cumsum(~indoor) - 1)
