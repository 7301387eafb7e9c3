"""The end of the runs that loggers keep on a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import Logger


@contextmanager
def ending_loggers(loggers: Iterable[Logger]) -> Iterator[None]:
    """End the runs that loggers of W&B and Comet leave open: the next job of a sweep would go on in them."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        for logger in loggers:
            experiment: Any = getattr(logger, "_experiment", None)
            if hasattr(experiment, "finish"):
                experiment.finish(exit_code=exit_code)
            elif hasattr(experiment, "end"):
                experiment.end()
