"""Embedded corpora: where they go, and how they are written once."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydraudio.core.files import sha256_of_json


def embedded_folder(data_dir: Path, name: str, embedded: Callable[..., Any]) -> Path:
    """`<data_dir>/<name>_embedded_<hash of the generator, its version and its arguments>`."""
    call = embedded if isinstance(embedded, functools.partial) else functools.partial(embedded)
    version = importlib.import_module(call.func.__module__).GENERATOR_VERSION
    function = f"{call.func.__module__}.{call.func.__qualname__}"
    # how many processes write does not change what is written
    arguments = {key: value for key, value in call.keywords.items() if key != "n_processes"}
    return data_dir / f"{name}_embedded_{sha256_of_json([function, version, call.args, arguments])[:12]}"


def write_once(folder: Path, write: Callable[..., Any]) -> None:
    """Writes a corpus beside its place and moves it there, so that it is complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(scratch / folder.name)
        try:
            os.replace(scratch / folder.name, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same corpus
                raise
    finally:
        shutil.rmtree(scratch)
