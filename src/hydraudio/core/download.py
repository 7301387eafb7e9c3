"""Fetching corpora: archives with pinned checksums, unpacked whole or not at all."""

from __future__ import annotations

import logging
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydraudio.core.files import naming_full_disk, partial_path, remove_dead_partials, sha256_of, sha256_of_file
from hydraudio.core.parallel import map_in_threads

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0
"""Without a byte from the server for so long, a download is given up."""

ATTEMPTS = 3
"""At every address of an archive, where the connection breaks."""

_POINTER = re.compile(r"version https://git-lfs\.github\.com/spec/v1\noid sha256:(?P<sha256>[0-9a-f]{64})\nsize \d+\n")


@dataclass(frozen=True)
class Archive:
    """A ZIP file in the net.

    Attributes:
        addresses: where it lies, in the order in which they are tried.
        known_hash: "md5:..." or "sha256:..." as its publisher or others have published it; None where there is none.
        inner: folder of the archive whose content becomes that of the corpus; empty for all of it.
        pointers: folder of the corpus whose files the archive may hold as Git LFS pointers; empty if it has none.
        pointer_address: where the files lie that the pointers name by their sha256; `{}` stands for the path.
        pointers_sha256: of the lines "path sha256" of all files of that folder, sorted, so that each is known.
    """

    addresses: tuple[str, ...]
    known_hash: str | None
    inner: str = ""
    pointers: str = ""
    pointer_address: str = ""
    pointers_sha256: str = ""


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from.

    Attributes:
        archives: that together make up its folder; none where it must be fetched by hand.
        terms: licence, in a sentence.
        by_hand: what to do instead, in sentences, where there are no archives.
    """

    archives: tuple[Archive, ...] = ()
    terms: str = ""
    by_hand: str = ""


def fetch(source: Source, folder: Path) -> Path:
    """Download a corpus and unpack it, so that the folder appears complete or not at all.

    Raises:
        FileExistsError: the folder is there already.
        ValueError: the corpus must be fetched by hand, or nothing with the known checksum came from any address.
        OSError: no connection, or a full disk.
    """
    if source.by_hand:
        raise ValueError(source.by_hand)
    folder = Path(os.path.abspath(folder))
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; delete it to fetch the corpus again, or name another folder")
    scratch = partial_path(folder)
    with naming_full_disk(folder):
        scratch.mkdir(parents=True)
        remove_dead_partials(folder.parent)
        try:
            content = scratch / folder.name
            for archive in source.archives:
                _add(archive, scratch, content)
            os.replace(content, folder)
        finally:
            shutil.rmtree(scratch)
    return folder


def _add(archive: Archive, scratch: Path, content: Path) -> None:
    """Put what an archive holds into the folder of the corpus."""
    packed = _from_any(archive.addresses, archive.known_hash, scratch / "archive.zip")
    unpacked = scratch / "unpacked"
    log.info("Unpacking %s", archive.addresses[0])
    try:
        with zipfile.ZipFile(packed) as opened:
            opened.extractall(unpacked)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive.addresses[0]}: is no ZIP archive ({error}); the address may have moved") from error
    packed.unlink()
    inner = unpacked / archive.inner
    if not inner.is_dir():
        raise ValueError(f"{archive.addresses[0]}: has no folder {archive.inner}; the archive has changed")
    shutil.copytree(inner, content, dirs_exist_ok=True, copy_function=shutil.move)
    shutil.rmtree(unpacked)
    if archive.pointers:
        _resolve_pointers(archive, content)


def _resolve_pointers(archive: Archive, content: Path) -> None:
    """Replace every pointer by its file, once the pointers are known to be the right ones."""
    files = sorted(path for path in (content / archive.pointers).rglob("*") if path.is_file())
    pointers = {path: match["sha256"] for path in files if (match := _POINTER.fullmatch(_head(path)))}
    known = {path.relative_to(content).as_posix(): pointers.get(path) or sha256_of_file(path) for path in files}
    if sha256_of("".join(f"{name} {known[name]}\n" for name in sorted(known))) != archive.pointers_sha256:
        raise ValueError(f"{archive.addresses[0]}: the files of {archive.pointers} are not those that are known")
    log.info("Fetching %d files of %s", len(pointers), archive.pointers)
    map_in_threads(partial(_replace_pointer, archive.pointer_address, content), list(pointers.items()))


def _replace_pointer(address: str, content: Path, pointer: tuple[Path, str]) -> None:
    path, sha256 = pointer
    whole = _from_any((address.format(path.relative_to(content).as_posix()),), f"sha256:{sha256}", partial_path(path))
    os.replace(whole, path)


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(300).decode("utf-8", "replace")


def _from_any(addresses: Sequence[str], known_hash: str | None, path: Path) -> Path:
    """Download to a path from the first address that gives what it should.

    Raises:
        ValueError: an address answered, but with other bytes.
        OSError: none answered whole.
    """
    failures: list[str] = []
    error: Exception = ValueError("no address")
    for address in addresses:
        for _ in range(ATTEMPTS):
            try:
                return _download(address, known_hash, path)
            except ValueError as found:  # another file than the known one is so at the next attempt, too
                error = found
                break
            except OSError as found:  # requests' exceptions are OSErrors
                error = found
        failures.append(f"{address}: {_reason(error, known_hash)}")
    message = "; ".join(failures)
    kind = ValueError if isinstance(error, ValueError) else OSError
    raise kind(f"{message}. Nothing was kept: try again later, or fetch it by hand") from error


def _download(address: str, known_hash: str | None, path: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    return Path(pooch.retrieve(address, known_hash, fname=path.name, path=path.parent, downloader=downloader))


def _reason(error: Exception, known_hash: str | None) -> str:
    if isinstance(error, ValueError):
        return f"gave another file than the one of {known_hash}; it has changed, or was not transferred whole"
    return f"did not answer whole ({type(error).__name__}: {str(error)[:200]})"
