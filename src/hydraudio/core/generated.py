"""Generated corpora: what their files depend on, how they are whole or absent, and what is said where one stands in."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydraudio.core.files import naming_full_disk, partial_path, remove_dead_partials, sha256_of_json, write_json

log = logging.getLogger(__name__)

MARKER = "synthetic.json"
"""File in the root that says what was generated."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedCorpus:
    """A corpus that is written when it is needed: its attributes are all that the files depend on.

    A subclass is a frozen dataclass with attributes of its own. It implements :meth:`write`, refuses impossible
    attributes in ``__post_init__``, and raises `version` whenever the same attributes give other files.

    Attributes:
        seed: of everything.
        n_processes: None takes the CPUs that there are; the files do not depend on it.
    """

    seed: int = 0
    n_processes: int | None = None

    version = 1  # without annotation: of the class, no attribute to choose

    def write(self, root: Path) -> None:
        """Fill a folder, whose name is that of the corpus."""
        raise NotImplementedError

    def __call__(self, root: str | Path) -> Path:
        """Write the corpus, so that it appears complete or not at all; do nothing where it is already.

        Returns:
            The root, as an absolute path.

        Raises:
            ValueError: the root holds something else.
        """
        root = Path(os.path.abspath(root))
        if not self._is_in(root):
            scratch = partial_path(root)
            with naming_full_disk(root):
                scratch.mkdir(parents=True)
                remove_dead_partials(root.parent)
                try:
                    write_json(scratch / root.name / MARKER, self._marker())
                    self.write(scratch / root.name)
                    self._move(scratch / root.name, root)
                finally:
                    shutil.rmtree(scratch)
        return root

    def folder(self, data_dir: Path, name: str) -> Path:
        """`<data_dir>/<name>_embedded_<hash of what the files depend on>`."""
        return data_dir / f"{name}_embedded_{sha256_of_json(self._marker())[:12]}"

    def _marker(self) -> dict[str, object]:
        attributes = {name: value for name, value in asdict(self).items() if name != "n_processes"}
        return {
            "generator": f"{type(self).__module__}.{type(self).__qualname__}",
            "version": self.version,
            **attributes,
        }

    def _move(self, written: Path, root: Path) -> None:
        try:
            os.replace(written, root)
        except OSError:
            if not self._is_in(root):  # else another process was faster, with the same corpus
                raise

    def _is_in(self, root: Path) -> bool:
        """True if the root is this corpus, False if there is nothing."""
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        file = root / MARKER
        if not file.is_file():
            raise ValueError(
                f"{root} exists, but was not written by the generator (no {MARKER} in it); use another root"
            )
        found, wanted = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(self._marker()))
        if found != wanted:
            changed = {key: found.get(key) for key, value in wanted.items() if found.get(key) != value}
            raise ValueError(
                f"{root} holds a corpus that was generated with {changed}, not with "
                f"{ {key: wanted[key] for key in changed} }; delete that folder or use another root"
            )
        return True


def is_generated(cfg: DictConfig) -> bool:
    """Say whether the corpus of a configuration is the embedded one."""
    data = cfg.get("data") or {}
    return data.get("embedded") is not None and data.get("root") is None


def say_what_stands_in(data: DictConfig) -> None:
    """Say that recordings are replaced by generated ones where this machine has no folder of the corpus.

    An experiment that asks for the generated corpus says ``root: null`` itself, and nothing is said of it.
    """
    if "root" in data and OmegaConf.is_interpolation(data, "root") and data.root is None:
        written: Any = OmegaConf.to_container(data, resolve=False)
        log.warning(
            "%s names no folder: a small generated corpus stands in for the recordings. Name theirs in .env (see "
            ".env.example), or give data.root=FOLDER",
            written["root"].strip("${}"),
        )


def warn_of_generated(ckpt_path: str | Path) -> None:
    """Warn of a model that has seen no recordings, before it is used on some."""
    log.warning(
        "%s was trained on the generated corpus, not on recordings: on real ones it can make things worse; "
        "train with data.root=FOLDER",
        ckpt_path,
    )
