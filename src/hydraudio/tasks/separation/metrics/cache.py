"""Scores kept on disk, so that what depends on the corpus alone is computed once per corpus."""

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from hydraudio.core.files import sha256_of
from hydraudio.tasks.separation.metrics.worker import Scores

log = logging.getLogger(__name__)

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCK_TIMEOUT_S = 60.0


class ScoreCache(AbstractContextManager):
    """SQLite table from the content of an item's signals to its scores.

    Each score is one transaction: a killed process loses at most the item in flight, and several processes
    may share the file. An unreadable file is set aside with a warning, and a new one is started.

    Args:
        cache_dir: folder of all caches; the file is ``<cache_dir>/perceptual/<hash of key>.sqlite``
        key: everything besides the signals that a score depends on: corpus, sample rate, metrics, package
            versions
    """

    def __init__(self, cache_dir: Path | str, key: Mapping[str, object]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.path = Path(cache_dir) / "perceptual" / f"{sha256_of(text)[:16]}.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(text)
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode not in _CORRUPT:
                raise
            self._set_aside(error)
            self._open(text)

    def get(self, digest: str) -> Scores | None:
        return self._scores.get(digest)

    def put(self, digest: str, item_id: str, scores: Scores) -> None:
        self._scores[digest] = scores
        row = (digest, item_id, json.dumps(scores))
        self._connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", row)

    def close(self) -> None:
        self._connection.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, key: str) -> None:
        self._connection = sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
        execute = self._connection.execute
        execute("PRAGMA synchronous=OFF")  # a power cut may cost the cache, a killed process does not
        if execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise ValueError("the integrity check failed")
        execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY)")
        execute("CREATE TABLE IF NOT EXISTS scores (digest TEXT PRIMARY KEY, item_id TEXT, scores TEXT)")
        execute("INSERT OR IGNORE INTO meta VALUES (?)", (key,))
        rows = execute("SELECT digest, scores FROM scores")
        self._scores: dict[str, Scores] = {digest: json.loads(scores) for digest, scores in rows}

    def _set_aside(self, error: Exception) -> None:
        self._connection.close()
        aside = self.path.with_suffix(".corrupt")
        os.replace(self.path, aside)
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)  # must not be applied to the new file
        log.warning("The score cache %s is unreadable (%s): moved to %s, starting anew.", self.path, error, aside)


def content_digest(signal: np.ndarray, target: np.ndarray) -> str:
    """Return the hash of the samples and shapes of an item's two float32 arrays."""
    digest = hashlib.blake2b(repr((signal.shape, target.shape)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(signal).data)
    digest.update(np.ascontiguousarray(target).data)
    return digest.hexdigest()
