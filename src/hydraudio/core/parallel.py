"""Running one function over many independent jobs in several processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

Shared = TypeVar("Shared")
Job = TypeVar("Job")
Result = TypeVar("Result")

N_THREADS = 16
"""Threads for small reads: they wait for the disk, not for a processor."""

_MIN_JOBS_PER_PROCESS = 24  # below this, starting a process costs more than it saves


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_processes(n_jobs: int, n_processes: int | None) -> int:
    """Say how many processes to start: `usable_cpus`, fewer if there is little to do."""
    if n_processes is not None:
        if n_processes < 1:
            raise ValueError(f"n_processes must be at least 1, not {n_processes}")
        return min(n_processes, max(n_jobs, 1))
    return max(1, min(usable_cpus(), n_jobs // _MIN_JOBS_PER_PROCESS))


def map_in_processes(
    function: Callable[[Shared, Job], Result], shared: Shared, jobs: Sequence[Job], n_processes: int | None
) -> Iterator[Result]:
    """Yield function(shared, job) for each job in order; with one process everything runs in this one.

    Processes are spawned, not forked (a fork of a process that runs threads, as PyTorch does, may hang), so
    `function` must be importable; `shared` is sent once to each process.
    """
    n_processes = usable_processes(len(jobs), n_processes)
    if n_processes == 1:
        yield from (function(shared, job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(
        n_processes, mp_context=context, initializer=_initialise, initargs=(function, shared)
    )
    try:
        yield from executor.map(_run_job, jobs, chunksize=max(1, min(4, len(jobs) // n_processes)))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def map_in_threads(function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    """Compute [function(job)] in several threads; the first error is raised."""
    if len(jobs) < N_THREADS:
        return [function(job) for job in jobs]
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(function, jobs))


_worker: dict[str, Any] = {}  # filled in the worker processes only


def _initialise(function: Callable[[Any, Any], Any], shared: object) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):  # the group gets them; the parent decides
        signal.signal(signum, signal.SIG_IGN)
    _worker.update(function=function, shared=shared)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a process of multiprocessing has a parent to end with"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_job(job: object) -> Any:
    return _worker["function"](_worker["shared"], job)
