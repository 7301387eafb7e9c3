"""What a run says and returns when a signal ends it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydraudio.core.run_folder import how_to_continue

log = logging.getLogger(__name__)


@contextmanager
def ending_with_words(folder: Path, is_sweep: bool) -> Iterator[None]:
    """After SIGTERM and Ctrl-C say how to continue the run of a folder, and exit with the status of the signal."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        with _raising_at(signal.SIGTERM, SIGTERMException):  # in training LastCheckpoint takes its place
            yield
        return
    except SIGTERMException as error:
        signum = getattr(error, "signum", signal.SIGTERM)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the first into the second
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signum = signal.SIGINT
    log.warning(how_to_continue(folder, is_sweep))
    sys.exit(128 + signum)


@contextmanager
def _raising_at(signum: signal.Signals, exception: type[BaseException]) -> Iterator[None]:
    """Raise at a signal instead of ending without a word; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise exception

    before = signal.signal(signum, stop)
    try:
        yield
    finally:
        signal.signal(signum, before)
