"""Generated corpora: where they go, and how they are whole or absent.

A generator makes a corpus in `<root>.partial`, with a marker that says what it holds, and renames it when it is done.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydraudio.core.files import naming_full_disk, partial_path, remove_dead_partials, sha256_of_json, write_json

MARKER = "synthetic.json"
"""File in the root that says what was generated."""


def generate(root: str | Path, marker: Mapping[str, object], write: Callable[[Path], None]) -> Path:
    """Write a corpus that appears complete or not at all, or does nothing if it is there already.

    Args:
        root: its folder.
        marker: the generator and everything that the files depend on.
        write: called with the folder to fill; its name is that of the root with `.partial`.

    Returns:
        The root, as an absolute path.

    Raises:
        ValueError: the root, or the folder beside it, holds something else.
    """
    root = Path(os.path.abspath(root))
    if not _is_complete(root, marker):
        partial = _start(root, marker)
        write(partial)
        os.replace(partial, root)
    return root


def embedded_folder(data_dir: Path, name: str, embedded: Callable[..., Any]) -> Path:
    """Name the folder `<data_dir>/<name>_embedded_<hash of the generator, its version and its arguments>`."""
    call = embedded if isinstance(embedded, functools.partial) else functools.partial(embedded)
    version = importlib.import_module(call.func.__module__).GENERATOR_VERSION
    function = f"{call.func.__module__}.{call.func.__qualname__}"
    # how many processes write does not change what is written
    arguments = {key: value for key, value in call.keywords.items() if key != "n_processes"}
    return data_dir / f"{name}_embedded_{sha256_of_json([function, version, call.args, arguments])[:12]}"


def write_once(folder: Path, write: Callable[..., Any]) -> None:
    """Write a corpus beside its place and move it there, so that it is complete or absent."""
    scratch = partial_path(folder)
    with naming_full_disk(folder):
        scratch.mkdir(parents=True)
        remove_dead_partials(folder.parent)
        try:
            write(scratch / folder.name)
            try:
                os.replace(scratch / folder.name, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster, with the same corpus
                    raise
        finally:
            shutil.rmtree(scratch)


def _is_complete(root: Path, marker: Mapping[str, object]) -> bool:
    """True if the root is the corpus that the marker describes, False if there is none."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    file = root / MARKER
    if not file.is_file():
        raise ValueError(f"{root} exists, but was not written by the generator (no {MARKER} in it); use another root")
    found, wanted = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(marker))
    if found != wanted:
        changed = {key: found.get(key) for key, value in wanted.items() if found.get(key) != value}
        raise ValueError(
            f"{root} holds a corpus that was generated with {changed}, not with "
            f"{ {key: wanted[key] for key in changed} }; delete that folder or use another root"
        )
    return True


def _start(root: Path, marker: Mapping[str, object]) -> Path:
    """An empty `<root>.partial` with the marker; what a killed run left there is removed."""
    partial = root.with_name(f"{root.name}.partial")
    if partial.exists():
        if not (partial / MARKER).is_file():
            raise ValueError(f"{partial} is in the way and was not written by the generator; move it away")
        shutil.rmtree(partial)
    write_json(partial / MARKER, marker)
    return partial
