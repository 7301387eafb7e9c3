"""PESQ and STOI of many items in parallel processes, with the mixtures' scores kept on disk."""

import importlib.metadata
import importlib.util
import math
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, cast

import numpy as np

from hydraudio.core.parallel import usable_cpus
from hydraudio.tasks.separation.metrics import worker as perceptual_worker
from hydraudio.tasks.separation.metrics.cache import ScoreCache, content_digest
from hydraudio.tasks.separation.metrics.worker import METRICS, PESQ_MODES, Job, Scores

Role = Literal["estimate", "mixture"]
ItemKey = tuple[str, Role]

PACKAGES = {"pesq": "pesq", "stoi": "pystoi", "estoi": "pystoi"}
"""Metric -> the package that computes it."""

_CACHE_FORMAT = 1
_EXIT_TIMEOUT_S = 5.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class PerceptualScorer(AbstractContextManager):
    """Scores items in worker processes while the caller goes on.

    ``with PerceptualScorer(8000) as scorer: scorer.submit(...); ...; scores = scorer.collect()``

    PESQ is narrow-band at 8000 Hz (ITU-T P.862.1) and wide-band at 16000 Hz (P.862.2), from the package
    `pesq`; STOI (Taal et al. 2011) and, as "estoi", extended STOI (Jensen and Taal 2016) come from `pystoi`.
    The values are those of the packages. What they cannot score (no utterance, too short, silent ...) is NaN
    with a line in "errors".

    The workers are plain interpreters that run `perceptual_worker` with one thread each: they import neither
    torch nor the caller's main module, take no notice of Ctrl-C, and end when the parent ends, however that
    happens. A worker that crashes is replaced; its item is tried once more and then gets an error. Leaving
    the context ends them all.

    Args:
        sample_rate: of all signals, in Hz
        n_processes: number of workers; None takes the CPU cores that this process may use
        cache_dir: folder of all caches; None keeps no scores of mixtures
        cache_key: names the corpus, its fingerprint, task and variants. The entries are found by the content
            of the signals, so a wrong key can cost time but not correctness.
        metrics: any of "pesq", "stoi", "estoi"
    """

    def __init__(
        self,
        sample_rate: int,
        n_processes: int | None = None,
        cache_dir: Path | str | None = None,
        cache_key: str | None = None,
        metrics: Sequence[str] = ("pesq", "stoi"),
    ) -> None:
        _check(sample_rate, n_processes, metrics)
        self.sample_rate = sample_rate
        self.metrics = tuple(metrics)
        self.n_processes = n_processes or usable_cpus()
        self.n_cache_hits = 0
        self._cache = None if cache_dir is None else ScoreCache(cache_dir, self._key(cache_key))
        self._workers = [_Worker() for _ in range(self.n_processes)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self.n_processes, thread_name_prefix="perceptual")
        self._free_slots = threading.Semaphore(2 * self.n_processes + 2)
        self._scores: dict[ItemKey, Scores | None] = {}
        self._pending: dict[Future[Scores], tuple[ItemKey, str]] = {}

    def submit(
        self, item_id: str, role: Role, signal: np.ndarray, target: np.ndarray, length: int | None = None
    ) -> None:
        """Queue an item; waits while the queue is full, so that memory does not grow.

        Args:
            item_id: unique among the submitted items of this role, hence with the variant in it
            role: "estimate", or "mixture" for a score that depends on the corpus alone and is kept on disk
            signal: (n_sources, time) in the order of the target, or (time,) to score one signal against all
                targets; float32
            target: (n_sources, time) float32
            length: valid samples; None takes all
        """
        key = (item_id, role)
        if key in self._scores:
            raise ValueError(f"item {item_id!r} was submitted twice as {role}; put the variant into its id")
        signal, target = _cut(item_id, signal, target, length)
        digest = content_digest(signal, target) if self._cache is not None and role == "mixture" else ""
        known = self._cache.get(digest) if self._cache is not None and digest else None
        self._scores[key] = known
        if known is not None:
            self.n_cache_hits += 1
            return
        self._free_slots.acquire()
        job = Job(signal=signal, target=target, sample_rate_hz=self.sample_rate, metrics=self.metrics)
        future = self._threads.submit(self._score, job)
        future.add_done_callback(lambda _: self._free_slots.release())
        self._pending[future] = (key, digest)
        self._record_finished()

    def collect(self, progress: Callable[[int, int], None] | None = None) -> dict[ItemKey, Scores]:
        """Wait for all submitted items and forget them.

        Args:
            progress: called with the number of finished and of all items, each time that some finish

        Returns:
            (item_id, role) -> one float per source for each metric, and "errors"; in the order of submission
        """
        n_total = len(self._scores)
        if progress:
            progress(n_total - len(self._pending), n_total)
        while self._pending:
            wait(self._pending, return_when=FIRST_COMPLETED)
            self._record_finished()
            if progress:
                progress(n_total - len(self._pending), n_total)
        scores, self._scores = self._scores, {}
        return {key: item for key, item in scores.items() if item is not None}

    def close(self) -> None:
        """Drop what is not finished and end the workers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.reap()
        if self._cache is not None:
            self._cache.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _key(self, cache_key: str | None) -> dict[str, object]:
        packages = [*dict.fromkeys(PACKAGES[name] for name in self.metrics), "numpy"]
        versions = {name: importlib.metadata.version(name) for name in packages}
        return {
            "format": _CACHE_FORMAT,
            "corpus": cache_key,
            "sample_rate_hz": self.sample_rate,
            "metrics": sorted(self.metrics),
            **versions,
        }

    def _score(self, job: Job) -> Scores:
        worker = self._idle.get()
        try:
            return worker.score(job)
        finally:
            self._idle.put(worker)

    def _record_finished(self) -> None:
        for future in [future for future in self._pending if future.done()]:
            key, digest = self._pending.pop(future)
            scores = future.result()
            self._scores[key] = scores
            if self._cache is not None and digest and not _crashed(scores):
                self._cache.put(digest, key[0], scores)


class _Worker:
    """One worker process, started at its first item and again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._lock = threading.Lock()

    def score(self, job: Job) -> Scores:
        """Return the scores of an item; one that ends two processes is given up and gets an error for each metric."""
        scores = self._attempt(job)
        return self._attempt(job) if _crashed(scores) else scores

    def _attempt(self, job: Job) -> Scores:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(job, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._process = None
            return _crash(job, _end(process))

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def reap(self) -> None:
        """Release what a killed process leaves behind; not while an item is being scored."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._killed:
                raise RuntimeError("the scorer is closed")
            # -P: modules beside the worker's file must not shadow others (ours is called statistics)
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", perceptual_worker.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,
            )
        assert process.stdout is not None
        try:
            pickle.load(process.stdout)
        except EOFError:
            status = _end(process)
            raise RuntimeError(
                f"the scoring process ended with status {status} before its first item; its error message is above"
            ) from None
        return process


_CRASH = "the scoring process died with status"


def _crash(job: Job, status: int) -> Scores:
    nan = [math.nan] * len(job["target"])
    scores = {name: list(nan) for name in job["metrics"]}
    return cast(Scores, {**scores, "errors": [f"{name}: {_CRASH} {status}" for name in job["metrics"]]})


def _crashed(scores: Scores) -> bool:
    return any(_CRASH in error for error in scores["errors"])


def _end(process: subprocess.Popen[bytes]) -> int:
    """Exit status of a process that is about to end."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        try:
            pipe.close()
        except BrokenPipeError:
            continue  # what was still buffered has no reader any more
    try:
        return process.wait(_EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _cut(item_id: str, signal: np.ndarray, target: np.ndarray, length: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Checked float32 copies of the valid samples: (n_sources or 1, length) and (n_sources, length)."""
    signal = np.atleast_2d(np.asarray(signal, dtype=np.float32))
    target = np.asarray(target, dtype=np.float32)
    matches = target.ndim == 2 and signal.shape in (target.shape, (1, *target.shape[1:]))
    if not matches:
        raise ValueError(
            f"item {item_id!r}: signal {signal.shape} does not fit target {target.shape}; "
            "expected (n_sources, time) or (time,) and (n_sources, time)"
        )
    length = target.shape[1] if length is None else int(length)
    if not 0 < length <= target.shape[1]:
        raise ValueError(f"item {item_id!r}: length {length} is not within 1 ... {target.shape[1]} samples")
    return signal[:, :length].copy(), target[:, :length].copy()


def _check(sample_rate: int, n_processes: int | None, metrics: Sequence[str]) -> None:
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown or not metrics:
        raise ValueError(f"unknown metrics {unknown or list(metrics)}; choose from {list(METRICS)}")
    packages = dict.fromkeys(PACKAGES[name] for name in metrics)
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"PESQ and STOI need {' and '.join(missing)}: pip install 'hydraudio[metrics]', or evaluate without them"
        )
    if "pesq" in metrics and sample_rate not in PESQ_MODES:
        raise ValueError(
            f"PESQ is defined at {' and '.join(map(str, PESQ_MODES))} Hz only, the signals have "
            f'{sample_rate} Hz; resample them, or leave "pesq" out of metrics'
        )
    if n_processes is not None and n_processes < 1:
        raise ValueError(f"n_processes is {n_processes}; it must be at least 1")
