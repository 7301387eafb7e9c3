"""Generated corpora that are whole or absent: made in `<root>.partial`, with a marker that says what they hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from hydraudio.core.files import write_json

MARKER = "synthetic.json"
"""File in the root that says what was generated."""


def is_complete(root: Path, marker: Mapping[str, object]) -> bool:
    """True if the root is the corpus that the marker describes, False if there is none.

    Raises:
        ValueError: the root holds something else.
    """
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


def start_partial(root: Path, marker: Mapping[str, object]) -> Path:
    """An empty `<root>.partial` with the marker; what a killed run left there is removed."""
    partial_root = root.with_name(f"{root.name}.partial")
    if partial_root.exists():
        if not (partial_root / MARKER).is_file():
            raise ValueError(f"{partial_root} is in the way and was not written by the generator; move it away")
        shutil.rmtree(partial_root)
    partial_root.mkdir(parents=True)
    write_json(partial_root / MARKER, marker)
    return partial_root
