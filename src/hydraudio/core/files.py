"""Files that are whole or absent, their hashes, and tables: every room writes, hashes and reads tables through this.

It needs the standard library only, so that every room may import it.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system without locks answers to `flock`."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a path to write to that becomes `path` only when the block has ended well; else nothing is left of it.

    It lies beside `path`, whose folder is made if needed, under a hidden name that ends with `.partial`: a kill may
    leave it behind, and no pattern such as `*.ckpt` finds it (:func:`remove_dead_partials` does).

    Args:
        path: of the file; one that exists is replaced.
        durable: also wait until the disk has the content, so that a power cut cannot leave an empty file.

    Raises:
        OSError: with the folder, where the disk is full.
    """
    path = Path(path)
    partial = partial_path(path)
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if durable:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Give a hidden name beside `path` that no other writer has: it ends with machine, process and a random number."""
    owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{owner}.partial")


def remove_dead_partials(folder: Path, pattern: str = ".*.partial") -> None:
    """Remove what processes of this machine that are gone left half-written in a folder.

    Args:
        pattern: `**/.*.partial` looks into the folders inside it, too.
    """
    for path in folder.glob(pattern):
        found = re.search(r"-(\d+)-[0-9a-f]{8}\.partial$", path.name)
        if found and path.name[: found.start()].endswith(f".{platform.node()}") and not is_running(int(found[1])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_running(process_id: int) -> bool:
    """Tell whether this machine has such a process."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Say which folder has no space left, where what was raised does not.

    Raises:
        OSError: instead of an error that a full disk has caused, also where a library words it otherwise.
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error, path) or isinstance(error, FullDiskError):
            raise
        folder = path if path.is_dir() else path.parent
        raise FullDiskError(
            errno.ENOSPC, f"no space left in {folder}, {path.name} was not written; free some, then repeat the command"
        ) from error


class FullDiskError(OSError):
    """There is no space left; the message names the folder."""


def is_full_disk(error: BaseException | None, path: Path) -> bool:
    """Tell whether an error comes of a full disk: by its number, or because nothing is left where `path` lies."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno in _FULL
        if isinstance(error, RuntimeError) and path.parent.is_dir() and shutil.disk_usage(path.parent).free < 2**16:
            return True  # libraries of C++ and C for tensors and audio raise their own
        error = error.__cause__ or error.__context__
    return False


_UNGUARDED = (
    "the script that was started does its work already when it is imported, which the worker processes do again: put "
    'that work below `if __name__ == "__main__":`'
)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock (other processes wait) on `<path>.lock`, which stays where it is.

    Gives whether it holds: some network file systems have no locks.

    Raises:
        RuntimeError: in a worker process that is still importing the script which started it. The script would wait
            for the worker, and the worker for the lock.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # CPython's own mark, as its check reads it
        raise RuntimeError(_UNGUARDED)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            yield False
            return
        yield True


@contextmanager
def whole_file(path: str | Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a path as `whole_path` gives it, for writing bytes."""
    with whole_path(path, durable=durable) as partial, partial.open("wb") as file:
        yield file


def path_inside(folder: str | Path, name: object) -> Path:
    """Return the path of a file that a table or an index names, which must lie below its folder.

    Raises:
        ValueError: the name leads elsewhere, or is none.
    """
    if isinstance(name, str) and name and not any(character in name for character in ":\\\0"):
        parts = PurePosixPath(name).parts
        if not name.startswith("/") and ".." not in parts:
            return Path(folder, *parts)
    raise ValueError(f"{folder}: names the file {name!r}, which is not below this folder; it was damaged or forged")


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    with whole_file(path) as file:
        file.write(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text as UTF-8, whole or not at all.

    Undecodable bytes of file names, which Python holds as lone surrogates, become "?".
    """
    return write_bytes(path, text.encode("utf-8", "replace"))


def write_json(path: str | Path, content: object, indent: int | None = 2) -> Path:
    """Write plain data (no NaN) as JSON with a line feed at its end, whole or not at all."""
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(content: str | bytes) -> str:
    """Hash a text (as UTF-8) or bytes: SHA-256, as 64 hexadecimal digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """Hash a file: SHA-256, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(content: object, **options: Any) -> str:
    """Hash plain data as JSON with sorted keys: SHA-256; `options` go to `json.dumps`."""
    return sha256_of(json.dumps(content, sort_keys=True, **options))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]) -> str:
    """Write a table as CSV with a header.

    Args:
        columns: of the header.
        rows: mappings from column to value, or values in the order of the columns; None and what is missing stays
            empty.
    """
    text = io.StringIO()
    _write_rows(text, columns, rows)
    return text.getvalue()


def _write_rows(file: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row.get(column) for column in columns] if isinstance(row, Mapping) else row for row in rows)


_ACTIVE = re.compile(r"'*[=+\-@\t\r]")
"""Begin of a text that a spreadsheet takes for a formula, behind as many quotes as were put before it."""


def inert_cell(text: str) -> str:
    """Return a name as a cell of a table that people open: none begins like a formula. Numbers stay.

    >>> inert_cell("=1+1.wav"), inert_cell("-3.5"), inert_cell("a=b")
    ("'=1+1.wav", '-3.5', 'a=b')
    """
    return f"'{text}" if _ACTIVE.match(text) and not _is_number(text) else text


def cell_text(cell: str) -> str:
    """Return the name that `inert_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _ACTIVE.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def write_csv(
    path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]
) -> Path:
    """Write a table as CSV (see `csv_text`) row by row, whole or not at all."""
    with whole_file(path) as file, io.TextIOWrapper(file, "utf-8", "replace", newline="") as text:
        _write_rows(text, columns, rows)
    return Path(path)


def other_separator(header: Sequence[str]) -> str:
    """Name what separates the columns of a table that was read as CSV, where it is no comma; else empty.

    >>> other_separator(["name;split"]), other_separator(["name", "split"])
    ('semicolons', '')
    """
    names = {";": "semicolons", "\t": "tabs"}
    return next((name for sign, name in names.items() if len(header) == 1 and sign in header[0]), "")


def read_csv(path: str | Path, required: Iterable[str] = (), *, growing: bool = False) -> list[dict[str, str]]:
    """Read the rows of a CSV file by column, all fields as text.

    Args:
        path: the file.
        required: columns that it must have.
        growing: a program appends to the file: a last line without line feed is not complete yet and is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not UTF-8, without a required column, or a row has too few or too many fields.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table; check the path")
    try:
        content = path.read_bytes()
        if growing:
            content = content[: content.rfind(b"\n") + 1]
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = next(reader, [])
        if separator := other_separator(header):
            raise ValueError(f"{path}: is separated by {separator}, not by commas; save it again as CSV")
        missing = sorted(set(required) - set(header))
        if missing:
            raise ValueError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
        rows = []
        for cells in reader:
            if cells and len(cells) != len(header):
                raise ValueError(
                    f"{path}: line {reader.line_num}: has {len(cells)} fields, the header has {len(header)}; "
                    "mend the line or write the table again"
                )
            if cells:
                rows.append(dict(zip(header, cells, strict=True)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not readable as CSV ({error}); write the table again as UTF-8") from error
    return rows
